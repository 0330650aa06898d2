"""Matrix products through NumPy's BLAS, split over the pool, or through oneDNN where that is installed.

M rows, K inner size, N columns: [M,K] times [K,N].
"""

from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from seqlib.core.backends import onednn_batches_cpu
from seqlib.core.backends import onednn_cpu as onednn
from seqlib.core.backends.threads import blas_controlled, single_blas, spread
from seqlib.core.modes import half_products
from seqlib.core.op import installed


def matmul(
    outs: Any, ins: Any, scratch: Any, *, transpose_a: bool, transpose_b: bool, independent: bool, wide: bool
) -> None:
    """The NumPy kernel of matmul."""
    a = ins[0].swapaxes(-1, -2) if transpose_a else ins[0]
    b = ins[1].swapaxes(-1, -2) if transpose_b else ins[1]
    alike = independent and outs[0].ndim == 2 and not half_products()
    (row_product if alike else product)(a, b, outs[0])


ROWS = 48
"""Bounds of a split are multiples of this many rows: BLAS kernels work on tiles of 4 to 24 rows, and a row's
bits depend on whether its tile is whole."""


def product(a: Any, b: Any, out: Any) -> None:
    """out = a @ b over the last two axes, batched with broadcasting; operands may be transposed views.

    A large single product is split along the longer side of the result, a batch along its first axis. oneDNN computes
    large single products of float32.
    """
    if out.ndim == 2 and by_onednn(a, b, out):
        half = half_products()
        if half and len(a) < ROUNDED and _by_rows(a, b, out):
            return
        onednn.product(a, b, out, half and len(a) >= ROUNDED)
        return
    if np.may_share_memory(a, b) and _address(a) == _address(b):
        # NumPy has another algorithm for a matrix times its own transpose: bits would depend on who shares a buffer.
        b = b.copy(order="K")
    work = out.size * a.shape[-1] if blas_controlled() else 0
    if work < _WORTH:
        np.matmul(a, b, out=out)
    elif out.ndim == 2:
        if out.shape[0] >= out.shape[1]:
            spread(_rows, out.shape[0], work, a, b, out, multiple=ROWS)
        else:
            # By sizes alone: a BLAS blocks the columns of a call, and so rounds, by their number.
            panels = 2 * max(1, out.shape[1] // 512)
            spread(_columns, panels, work, _panels(out.shape[1], panels), a, b, out)
    else:
        batch = out.shape[:-2]
        if half_products() and _rounds(a, b, out):
            spread(_rounded_batch, out.shape[0], work, a, b, out)
            return
        a, b = (x if x.shape[:-2] == batch else np.broadcast_to(x, batch + x.shape[-2:]) for x in (a, b))
        spread(_batch, out.shape[0], work, a, b, out)


_WORTH = 1 << 20  # multiply-adds, about 20 µs on one core


ROUNDED = 16
"""Rows from which on it pays to round a product's operands."""


def by_onednn(a: Any, b: Any, out: Any) -> bool:
    """True when oneDNN is to compute a product of matrices."""
    large = out.size * a.shape[1] >= _WORTH
    return large and a.dtype == b.dtype == out.dtype == np.float32 and out.strides[1] == 4 and onednn.worthwhile()


def _rounds(a: Any, b: Any, out: Any) -> bool:
    """True when oneDNN takes a batch of products as it is, and rounding pays."""
    if a.ndim != b.ndim or len(a) != len(b) or min(out.shape[-2:]) < 32 or out.strides[-1] != 4:
        return False
    steps = [step for x in (a, b, out) for step, n in zip(x.strides, x.shape, strict=True) if n > 1]
    alike = all(4 in x.strides[-2:] and x.dtype == np.float32 for x in (a, b, out))
    return alike and min(steps) > 0 and onednn.available()


def _rounded_batch(first: int, last: int, a: Any, b: Any, out: Any) -> None:
    onednn_batches_cpu.batched(a[first:last], b[first:last], out[first:last])


def _address(array: Any) -> int:
    return array.__array_interface__["data"][0]


def _rows(first: int, last: int, a: Any, b: Any, out: Any) -> None:
    np.matmul(a[first:last], b, out=out[first:last])


def _panels(n: int, count: int) -> list[int]:
    """Bounds of `count` panels of n columns."""
    return [n * i // count // ROWS * ROWS for i in range(count)] + [n]


def _columns(first: int, last: int, bounds: list[int], a: Any, b: Any, out: Any) -> None:
    for start, stop in pairwise(bounds[first : last + 1]):
        np.matmul(a, b[:, start:stop], out=out[:, start:stop])


def _batch(first: int, last: int, a: Any, b: Any, out: Any) -> None:
    np.matmul(a[first:last], b[first:last], out=out[first:last])


# -- products whose rows do not depend on each other -----------------------------------------------


class _Way(NamedTuple):
    """How to call BLAS: with `rows` rows or a multiple of them, `fixed` with just that many; `turned`: it is asked
    for the transpose of the result."""

    rows: int
    fixed: bool = False
    turned: bool = False


def row_product(a: Any, b: Any, out: Any) -> None:
    """out [M,N] = a [M,K] @ b [K,N], a row of the result having the same bits for any M, other rows and place.

    With the transpose of a float32 matrix of 8 rows or more a kernel computes it (rows_cpu.py), where numba is there.

    A BLAS chooses its algorithm by M too: other kernels for one row, for few rows, for small products, for the rest
    of a tile. So M is filled up to a multiple of a tile that `_way` has found to be free of such choices, and columns
    are always cut at the same places. The price is that of the rows which fill up the last tile.
    """
    if not out.size:
        return
    if a.strides[1] != a.itemsize:
        a = np.ascontiguousarray(a)
    if _by_rows(a, b, out):
        return
    n = b.shape[1]
    work = max(len(a), 12) * b.size
    work = work if work >= _WORTH and blas_controlled() else 0
    panels = max(1, n // 1024 * 2)  # an even number, for two threads
    if panels > 1:
        spread(_row_panels, panels, work, _panels(n, panels), a, b, out)
    else:
        way = _way_for(b)
        spread(_row_tiles, len(a), work, a, b, out, way, multiple=way.rows)


def _by_rows(a: Any, b: Any, out: Any) -> bool:
    """Whether rows_cpu.py has computed out = a @ b."""
    alike = a.dtype == b.dtype == out.dtype == np.float32 and b.strides[0] == a.strides[1] == out.strides[1] == 4
    if not alike or b.shape[1] < 8 or not len(b) or not installed("numba"):
        return False
    from seqlib.core.ops import rows_cpu

    rows_cpu.product(a, b, out)
    return True


def _row_panels(first: int, last: int, bounds: Any, a: Any, b: Any, out: Any) -> None:
    for start, stop in pairwise(bounds[first : last + 1]):
        part = b[:, start:stop]
        _row_tiles(0, len(a), a, part, out[:, start:stop], _way_for(part))


def _way_for(b: Any) -> _Way:
    return _way(b.shape[1], b.shape[0], bool(b.strides[0] < b.strides[1]), b.dtype.char)


def _row_tiles(first: int, last: int, a: Any, b: Any, out: Any, way: _Way) -> None:
    """Rows first … last - 1, `first` on a tile's bound."""
    count = last - first
    whole = last - count % way.rows if count % way.rows == 0 or count > _ONE_CALL else first
    step = way.rows if way.fixed else max(1, whole - first)
    for start in range(first, whole, step):
        _call(a[start : start + step], b, out[start : start + step], way)
    if whole < last:
        filled = np.empty((-(-(last - whole) // way.rows) * way.rows, a.shape[1]), a.dtype)
        filled[: last - whole] = a[whole:last]
        filled[last - whole :] = 0
        result = np.empty((len(filled), b.shape[1]), a.dtype)
        _row_tiles(0, len(filled), filled, b, result, way)
        out[whole:last] = result[: last - whole]


def _call(a: Any, b: Any, out: Any, way: _Way) -> None:
    if way.turned:
        out[...] = np.matmul(b.T, a.T).T
    else:
        np.matmul(a, b, out=out)


_ONE_CALL = 192
"""Fewer rows are filled up as a whole: a copy costs less than another call for the last tile."""

_WAYS = (_Way(12), _Way(24), _Way(48))
_FIXED_WAYS = (_Way(48, True), _Way(16, True, True), _Way(8, True), _Way(1, True))
_MOST_ROWS = 960
_SMALL = 4 << 20  # multiply-adds; OpenBLAS has other kernels up to 10**6


@lru_cache(maxsize=1024)
def _way(n: int, k: int, transposed: bool, dtype: str) -> _Way:
    """The way for products with a [K,N] matrix, found by trying once for each kind of matrix.

    The first for which products of many multiples of its rows, from one to beyond what a BLAS may call a small
    product, agree to the bit. Where none does, or the matrix is so small that all products with it might be small
    ones, every call gets the same shape; the last way, a call a row, leaves nothing to choose by.
    """
    free = n * k * _MOST_ROWS >= _SMALL and blas_controlled()
    ways = (*_WAYS, *_FIXED_WAYS) if free else _FIXED_WAYS
    return next((way for way in ways if _agrees(n, k, transposed, dtype, way)), ways[-1])


def _agrees(n: int, k: int, transposed: bool, dtype: str, way: _Way) -> bool:
    rows = way.rows
    counts = [2 * rows, 3 * rows, 5 * rows]
    while not way.fixed and counts[-1] * n * k < _SMALL and counts[-1] < _MOST_ROWS:
        counts.append(counts[-1] * 7 // (5 * rows) * rows)
    rng = np.random.default_rng(0)
    a = rng.random((counts[-1] + 1, k), np.float32).astype(dtype) - 0.5
    b = rng.random((n, k) if transposed else (k, n), np.float32).astype(dtype) - 0.5
    b = b.T if transposed else b

    def product(first: int, count: int) -> Any:
        out = np.empty((count, n), dtype)
        _row_tiles(0, count, a[first : first + count], b, out, way)
        return out

    with single_blas():
        expected = np.concatenate([product(i, rows) for i in range(0, counts[-1], rows)])
        moved = product(1, rows)[:-1]  # the rows at other places of their tile
        if not np.array_equal(moved, expected[1:rows]):
            return False
        return way.fixed or all(np.array_equal(product(0, m), expected[:m]) for m in counts)
