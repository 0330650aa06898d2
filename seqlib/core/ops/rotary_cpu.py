"""The numba kernel of rotary, for float32."""

from __future__ import annotations

from typing import Any

from seqlib.core.backends.threads import spread
from seqlib.core.ops.jit_cpu import kernel
from seqlib.core.ops.rotary_numpy import tables


@kernel
def _turn(first, last, x, cosine, sine, out):
    times, heads, width = cosine.shape[0], x.shape[1], x.shape[2]
    half = width // 2
    for r in range(first, last):
        c, s = cosine[r % times], sine[r % times]
        for h in range(heads):
            row, to = x[r, h], out[r, h]
            for i in range(half):
                to[i] = row[i] * c[i] - row[half + i] * s[i]
                to[half + i] = row[half + i] * c[i] + row[i] * s[i]


def forward(outs: Any, ins: Any, scratch: Any, *, base: float, inverse: bool) -> None:
    """The kernel of rotary."""
    x, positions = ins
    cosine, sine = tables(x, positions, base, inverse)
    tokens = (-1, *x.shape[-2:])
    x, out = x.reshape(tokens), outs[0].reshape(tokens)
    spread(_turn, len(x), x.size, x, cosine, sine, out)
