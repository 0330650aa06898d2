"""The numba kernel of dropout, and masks for the dropout inside other kernels."""

from typing import Any

import numpy as np

from seqlib.core import philox
from seqlib.core.backends.threads import spread
from seqlib.core.ops.jit_cpu import TILE, copy, kernel, philox_tile
from seqlib.core.ops.random import seed_offset

_DRAWS = TILE * philox.LANES


@kernel
def _dropout(first, last, seed, offset, threshold, scale, x, y):
    words = np.empty(4 * TILE, np.uint32)
    lanes, kept = words.view(np.uint16), np.empty(_DRAWS, np.float32)
    for tile in range(first, last):
        philox_tile(np.uint64(tile * TILE), seed, offset, words)
        start = tile * _DRAWS
        xs, ys = x[start : start + _DRAWS], y[start : start + _DRAWS]
        for i in range(xs.size):
            kept[i] = xs[i] * (scale if lanes[i] >= threshold else np.float32(0.0))
        copy(kept, ys)


@kernel
def _mask(first, last, seed, offset, threshold, start, out):
    words = np.empty(4 * TILE, np.uint32)
    lanes = words.view(np.uint16)
    first_block = start // 8
    skip = start - first_block * 8
    for tile in range(first, last):
        philox_tile(np.uint64(first_block + tile * TILE), seed, offset, words)
        base = tile * _DRAWS - skip
        for i in range(max(0, -base), min(_DRAWS, out.size - base)):
            out[base + i] = lanes[i] >= threshold


def forward(outs: Any, ins: Any, scratch: Any, *, p: float, draw: int) -> None:
    """The kernel of dropout, for float32."""
    x, y = ins[0].reshape(-1), outs[0].reshape(-1)
    seed, offset = (np.uint64(n) for n in seed_offset(ins[1], draw))
    threshold, scale = np.uint16(philox.keep_threshold(p)), np.float32(philox.keep_scale(p))
    spread(_dropout, -(-x.size // _DRAWS), x.size, seed, offset, threshold, scale, x, y)


def keep_mask(seed: int, offset: int, start: int, stop: int, threshold: int) -> Any:
    """bool [stop - start]: which of the elements start … stop - 1 are kept."""
    out = np.empty(stop - start, np.bool_)
    tiles = -(-(start % philox.LANES + out.size) // _DRAWS)
    args = np.uint64(seed), np.uint64(offset), np.uint16(threshold), start, out
    spread(_mask, tiles, out.size, *args)
    return out
