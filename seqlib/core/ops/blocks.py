"""Cutting work into pieces that stay in the cache, for the NumPy kernels."""

from collections.abc import Iterator
from typing import Any

from seqlib.core import dtypes
from seqlib.core.op import Attrs, Meta, Metas

CACHE = 1 << 17
"""Bytes of one array's piece: three or four of them fit the second-level cache of common processors."""
SCORES = 1 << 20
"""Bytes of a block of attention scores: a few calls on each, in which threads take turns with the interpreter."""


def rows_per_block(rows: int, width: int, itemsize: int, budget: int = CACHE) -> int:
    """How many rows of `width` elements a piece has: at least one, at most `rows` (or one, when there are
    none)."""
    return max(1, min(rows, budget // max(1, width * itemsize)))


def pieces(total: int, size: int) -> Iterator[slice]:
    """Slices of at most `size` that cover 0 … total - 1."""
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))


def same_float(*positions: int) -> Any:
    """A kernel's `when`: the inputs at `positions` (those that are present; all, if none are named) share
    float32 or float64."""

    def when(metas: Metas, attrs: Attrs) -> bool:
        chosen = [metas[i] for i in positions] if positions else metas
        found = {m.dtype for m in chosen if m is not None}
        return len(found) == 1 and found <= {dtypes.float32, dtypes.float64}

    return when


def float32_only(*positions: int, units: int | None = None) -> Any:
    """A kernel's `when`: the inputs at `positions` that are present are float32, and none is empty; at `units` there is
    a matrix of no fewer columns than products take at once (ops/rows_cpu.py)."""

    def when(metas: Metas, attrs: Attrs) -> bool:
        chosen = [m for i in positions if (m := metas[i]) is not None]
        wide = units is None or metas[units].shape[1] >= 8
        return wide and all(m.dtype == dtypes.float32 and m.size > 0 for m in chosen)

    return when


def block_scratch(metas: Metas, attrs: Attrs) -> list[Meta]:
    """A kernel's `scratch`: one piece of the first input's rows (its last axis)."""
    x = metas[0]
    width = x.shape[-1]
    rows = x.size // max(width, 1)
    return [Meta((rows_per_block(rows, width, x.dtype.itemsize), width), x.dtype)]


def as_rows(*arrays: Any) -> list[Any]:
    """The arrays as [rows, last axis], views of contiguous ones."""
    return [a.reshape(a.size // max(a.shape[-1], 1), a.shape[-1]) for a in arrays]


def score_scratch(arrays: int, q: Meta, k: Meta) -> list[Meta]:
    """Attention's `scratch`: a block of scores for each of `arrays`; for the backward kernel also room for
    one block's sum of keys."""
    keys, heads = k.shape[-3], q.shape[-2]
    rows = (q.shape[0] if len(q.shape) == 4 else 1) * heads * q.shape[-3]
    size = min(rows * keys, max(SCORES // q.dtype.itemsize, keys))
    found = [Meta((size,), q.dtype)] * arrays
    if arrays == 2:
        several = heads != k.shape[-2] or q.shape[-3] * keys * q.dtype.itemsize > SCORES
        found.append(Meta((keys * q.shape[-1] if several else 0,), q.dtype))
    return found
