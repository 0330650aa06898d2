"""The numba kernels of sum over leading axes, for float32, and of global_norm."""

import math
from typing import Any

import numpy as np

from seqlib.core.backends.threads import spread
from seqlib.core.ops import reduce_numpy
from seqlib.core.ops.jit_cpu import CHUNKS, exact, kernel


@exact
def _columns(first, last, x, parts):
    """The sums over rows of chunks first … last - 1 of x [R, C], into parts [CHUNKS, C]."""
    rows = len(x)
    for c in range(first, last):
        part = parts[c]
        part[:] = 0.0
        for r in range(rows * c // CHUNKS, rows * (c + 1) // CHUNKS):
            row = x[r]
            for j in range(row.size):
                part[j] += row[j]


def sum(outs: Any, ins: Any, scratch: Any, *, axis: Any, keepdims: bool, wide: bool = False) -> None:
    """The kernel of sum; NumPy sums what does not lie row after row."""
    x, out = ins[0], outs[0]
    leading = axis == tuple(range(len(axis))) and len(axis) < x.ndim
    if not leading or not x.flags.c_contiguous:
        reduce_numpy.sum(outs, ins, scratch, axis=axis, keepdims=keepdims, wide=wide)
        return
    columns = out.size
    parts = np.empty((CHUNKS, columns), np.float32)
    spread(_columns, CHUNKS, x.size, x.reshape(-1, columns), parts)
    np.add.reduce(parts, axis=0, out=out.reshape(columns))


@kernel
def _squares(first, last, x, parts):
    """The sums of squares of chunks first … last - 1 of x [N], in float64, into parts [CHUNKS]."""
    for c in range(first, last):
        total, part = np.float64(0.0), x[x.size * c // CHUNKS : x.size * (c + 1) // CHUNKS]
        for i in range(part.size):  # from 0: indices that might be negative are not vectorised
            total += np.float64(part[i]) * np.float64(part[i])
        parts[c] = total


def norm(outs: Any, ins: Any, scratch: Any) -> None:
    """The kernel of global_norm."""
    parts = np.empty((len(ins), CHUNKS))
    for x, own in zip(ins, parts, strict=True):
        spread(_squares, CHUNKS, x.size // 8, x.reshape(-1), own)
    outs[0][...] = math.sqrt(parts.sum()) if np.isfinite(parts).all() else np.float32(parts.sum())
