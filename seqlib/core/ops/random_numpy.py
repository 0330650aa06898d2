"""The NumPy kernel of dropout."""

from typing import Any

import numpy as np

from seqlib.core import philox
from seqlib.core.ops.blocks import pieces
from seqlib.core.ops.random import seed_offset

_PIECE = 1 << 17
"""Elements whose random words are made together: they stay in the cache."""


def forward(outs: Any, ins: Any, scratch: Any, *, p: float, draw: int) -> None:
    x, y = ins[0].reshape(-1), outs[0].reshape(-1)
    seed, offset = seed_offset(ins[1], draw)
    scale, threshold = x.dtype.type(philox.keep_scale(p)), np.uint16(philox.keep_threshold(p))
    for piece in pieces(x.size, _PIECE):
        kept = philox.bits16(seed, offset, piece.start, piece.stop) >= threshold
        np.multiply(x[piece], scale, out=y[piece])
        np.multiply(y[piece], kept, out=y[piece])
