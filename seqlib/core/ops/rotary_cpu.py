"""The numba kernel of rotary, for float32."""

from typing import Any

import numpy as np

from seqlib.core.backends.threads import spread
from seqlib.core.ops.jit_cpu import copy, kernel
from seqlib.core.ops.rotary_numpy import tables


@kernel
def _turn(first, last, x, cosine, sine, heads, out):
    """`out` may be `x`."""
    times, half = cosine.shape[0], x.shape[2] // 2
    turned = np.empty(2 * half, np.float32)
    for r in range(first, last):
        c, s = cosine[r % times], sine[r % times]
        for h in range(heads):
            row = x[r, h]
            for i in range(half):
                a, b = row[i], row[half + i]
                turned[i] = a * c[i] - b * s[i]
                turned[half + i] = b * c[i] + a * s[i]
            copy(turned, out[r, h])
        out[r, heads:] = x[r, heads:]


def forward(outs: Any, ins: Any, scratch: Any, *, base: float, inverse: bool, heads: int, scaling: Any) -> None:
    """The kernel of rotary."""
    x, positions = ins
    cosine, sine = tables(x, positions, base, inverse, scaling)
    tokens = (-1, *x.shape[-2:])
    x, out = x.reshape(tokens), outs[0].reshape(tokens)
    spread(_turn, len(x), x.size, x, cosine, sine, heads, out)
