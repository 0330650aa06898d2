"""The NumPy kernels of adamw and global_norm."""

import math
from typing import Any

import numpy as np

from seqlib.core.ops.adamw import PIECE
from seqlib.core.ops.blocks import pieces


def settle(
    outs: Any, ins: Any, beta1: float, beta2: float
) -> tuple[list[Any], tuple[float, float, float, float] | None]:
    """What kernels begin with: the outputs, those left out replaced, and the scalars (lr, scale, factor, root).

    With the scalars gathered the new p is p (1 - lr λ) - factor m / (root sqrt(v) + eps). A `scale` that is not finite
    gives None for them: the outputs then hold p, m and v as they were.
    """
    lr, step, scale = (float(x) for x in ins[4:])
    olds = (ins[0], ins[2], ins[3])
    outs = [np.empty_like(old) if out is None else out for out, old in zip(outs, olds, strict=True)]
    if not math.isfinite(scale):
        for out, old in zip(outs, olds, strict=True):
            np.copyto(out, old)
        return outs, None
    first, second = (1.0 - beta**step for beta in (beta1, beta2))
    factor = lr / first if first else math.inf
    root = 1.0 / math.sqrt(second) if second else math.inf
    return outs, (lr, scale, factor, root)


def forward(outs: Any, ins: Any, scratch: Any, *, beta1: float, beta2: float, eps: float, weight_decay: float) -> None:
    outs, numbers = settle(outs, ins, beta1, beta2)
    if numbers is None:
        return
    lr, scale, factor, root = numbers
    p, g, m, v = (x.reshape(-1) for x in ins[:4])
    new_p, new_m, new_v = (x.reshape(-1) for x in outs)
    for i in pieces(p.size, max(1, len(scratch[0]))):
        a, b = (s[: i.stop - i.start] for s in scratch)
        np.multiply(g[i], scale, out=a)
        np.multiply(m[i], beta1, out=new_m[i])
        np.multiply(a, 1.0 - beta1, out=b)
        np.add(new_m[i], b, out=new_m[i])
        np.multiply(a, a, out=a)
        np.multiply(a, 1.0 - beta2, out=a)
        np.multiply(v[i], beta2, out=new_v[i])
        np.add(new_v[i], a, out=new_v[i])
        np.sqrt(new_v[i], out=a)
        np.multiply(a, root, out=a)
        np.add(a, eps, out=a)
        np.divide(new_m[i], a, out=b)
        np.multiply(b, factor, out=b)
        if weight_decay:
            np.multiply(p[i], 1.0 - lr * weight_decay, out=a)
            np.subtract(a, b, out=new_p[i])
        else:
            np.subtract(p[i], b, out=new_p[i])


def norm(outs: Any, ins: Any, scratch: Any) -> None:
    total = 0.0
    for x in ins:
        flat = x.reshape(-1)
        for i in pieces(x.size, PIECE):
            wide = scratch[0][: i.stop - i.start]
            np.copyto(wide, flat[i])
            total += float(np.dot(wide, wide))
    outs[0][...] = math.sqrt(total) if total >= 0 else total
