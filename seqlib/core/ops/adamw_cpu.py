"""The numba kernel of adamw, for float32: one pass over memory."""

from typing import Any

import numpy as np

from seqlib.core.backends.threads import spread
from seqlib.core.ops.adamw_numpy import settle
from seqlib.core.ops.jit_cpu import SPAN, copy, kernel


@kernel
def _adamw(first, last, p, g, m, v, new_p, new_m, new_v, scale, beta1, gain1, beta2, gain2, factor, root, eps, keep):
    tp, tm, tv = np.empty(SPAN, np.float32), np.empty(SPAN, np.float32), np.empty(SPAN, np.float32)
    for start in range(first, last, SPAN):
        stop = min(start + SPAN, last)
        ps, gs, ms, vs = p[start:stop], g[start:stop], m[start:stop], v[start:stop]
        for i in range(ps.size):
            scaled = gs[i] * scale
            mi = ms[i] * beta1 + scaled * gain1
            vi = vs[i] * beta2 + scaled * scaled * gain2
            tp[i] = ps[i] * keep - factor * mi / (np.sqrt(vi) * root + eps)
            tm[i] = mi
            tv[i] = vi
        copy(tp, new_p[start:stop])
        copy(tm, new_m[start:stop])
        copy(tv, new_v[start:stop])


def forward(outs: Any, ins: Any, scratch: Any, *, beta1: float, beta2: float, eps: float, weight_decay: float) -> None:
    """The kernel of adamw."""
    outs, scalars = settle(outs, ins, beta1, beta2)
    if scalars is None:
        return
    lr, scale, factor, root = scalars
    numbers = (scale, beta1, 1.0 - beta1, beta2, 1.0 - beta2, factor, root, eps, 1.0 - lr * weight_decay)
    arrays = (x.reshape(-1) for x in (*ins[:4], *outs))
    spread(_adamw, ins[0].size, ins[0].size, *arrays, *(np.float32(n) for n in numbers))
