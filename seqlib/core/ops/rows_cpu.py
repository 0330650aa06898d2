"""The numba kernel of products with the transpose of a float32 matrix, a Linear layer's: a row of the result has the
same bits whatever the other rows are and however many, and a product of few rows reads the matrix once.

M rows, K inner size, N columns: a [M, K] times wᵀ for w [N, K]. Lane l of a vector adds up the products at l, l +
LANES, l + 2 LANES …; then the lanes are added in a fixed order. Every element of every product is computed so,
however many rows and columns are taken together.
"""

from typing import Any

import numpy as np

from seqlib.core.backends.threads import spread
from seqlib.core.ops import vectors_cpu as v
from seqlib.core.ops.jit_cpu import exact

COLUMNS = 8  # columns of a tile
_ROWS = 3 if v.LANES == 16 else 1  # and its rows at most: as many sums as there are registers
_FEW, _FEWEST, _LONG = 24, 6, 4096  # rows up to which columns are read where they lie; those of _LONG numbers and more
_CHUNK, _BLOCK = 512, 96  # inner sizes and rows that are taken together: their columns and sums stay in the cache
_VECTOR = 4 * v.LANES
_ACROSS = _VECTOR * COLUMNS


def _tile(rows: int) -> Any:
    """The function that computes a tile of so many rows and COLUMNS columns.

    a, w and out are addresses, `lda`, `ldw` and `ldo` bytes from row to row of each, `step` those from a vector of w's
    row to its next. Sums come from the address `sums` and go back there unless `begin` and `end` say that this is the
    beginning and the end of the rows.
    """

    @v.function
    def tile(b, a, lda, w, ldw, step, k, next, sums, begin, end, out, ldo):
        to = v.places(b, v.FLOATS, rows * COLUMNS)

        def add(i: Any, mask: Any = None) -> None:
            v.call_for(b, v.at(b, next, (i, _VECTOR)))
            left = [v.load(b, v.at(b, a, (lda, r), (i, _VECTOR)), v.FLOATS, mask) for r in range(rows)]
            for c in range(COLUMNS):
                right = v.load(b, v.at(b, w, (ldw, c), (i, step)), v.FLOATS, mask)
                for r in range(rows):
                    v.multiply_add(b, left[r], right, to[r * COLUMNS + c])

        with b.if_else(b.trunc(begin, v.BIT)) as (new, old):
            with new:
                for place in to:
                    b.store(v.zeros(v.FLOATS), place)
            with old:
                for i, place in enumerate(to):
                    b.store(v.load(b, v.at(b, sums, (i, _VECTOR)), v.FLOATS), place)
        v.over(b, k, add)
        with b.if_else(b.trunc(end, v.BIT)) as (last, more):
            with last:
                for r in range(rows):
                    row = v.sums(b, [b.load(place) for place in to[r * COLUMNS :][:COLUMNS]])
                    v.store(b, row, v.at(b, out, (ldo, r)))
            with more:
                for i, place in enumerate(to):
                    v.store(b, b.load(place), v.at(b, sums, (i, _VECTOR)))

    return tile


@v.function
def _pack(b, w, ldw, k, to):
    """COLUMNS rows of w, vector by vector side by side, into `to`; the next ones are called for meanwhile."""

    def move(i: Any, mask: Any = None) -> None:
        for c in range(COLUMNS):
            place = v.at(b, w, (ldw, c), (i, _VECTOR))
            v.store(b, v.load(b, place, v.FLOATS, mask), v.at(b, to, (i, _ACROSS), (c, _VECTOR)))

    v.over(b, k, move)


_tile1, _tile2, _tile3 = _tile(1), _tile(min(2, _ROWS)), _tile(_ROWS)


@exact
def _rows(first, last, a, lda, w, ldw, step, k, next, ahead, sums, begin, end, out, ldo):
    """A tile's columns for rows first … last - 1."""
    i = first
    while i + _ROWS <= last:
        _tile3(a + i * lda, lda, w, ldw, step, k, next, sums, begin, end, out + i * ldo, ldo)
        i += _ROWS
        next += ahead
        sums += _ROWS * _ACROSS
    if last - i == 2:
        _tile2(a + i * lda, lda, w, ldw, step, k, next, sums, begin, end, out + i * ldo, ldo)
    elif last - i == 1:
        _tile1(a + i * lda, lda, w, ldw, step, k, next, sums, begin, end, out + i * ldo, ldo)


@exact
def _many_rows(first, last, m, k, n, a, lda, w, ldw, out, ldo, room):
    """Columns first … last - 1 of many rows, by packed columns and sums in `room`, whose address is used:
    it is the caller's, since numba frees an array after the last use of its name."""
    packed = (room.ctypes.data + 63) // 64 * 64
    sums = packed + 4 * _CHUNK * COLUMNS
    for top in range(0, m, _BLOCK):
        for column in range(first, last, COLUMNS):
            j = min(column, n - COLUMNS)
            for start in range(0, k, _CHUNK):
                size = min(_CHUNK, k - start)
                _pack(w + j * ldw + 4 * start, ldw, size, packed)
                next = w + j * ldw + 4 * (start + size) if start + size < k else w + (j + COLUMNS) * ldw
                ends = start == 0, start + size == k
                bottom = min(m, top + _BLOCK)
                _rows(
                    top, bottom, a + 4 * start, lda, packed, _VECTOR, _ACROSS, size, next, ldw, sums,
                    np.int64(ends[0]), np.int64(ends[1]), out + 4 * j, ldo,
                )  # fmt: skip


@exact
def _few_rows(first, last, m, k, n, a, lda, w, ldw, out, ldo):
    """Columns first … last - 1, read where they lie; the last tile begins early enough to be whole."""
    for column in range(first, last, COLUMNS):
        j = min(column, n - COLUMNS)
        _rows(0, m, a, lda, w + j * ldw, ldw, _VECTOR, k, w + (j + COLUMNS) * ldw, ldw, 0, 1, 1, out + 4 * j, ldo)


@exact
def columns(first, last, m, k, n, a, lda, w, ldw, out, ldo, room):
    """Columns first … last - 1 of out [m, n] = a [m, k] wᵀ, float32 at addresses with bytes from row to row; `room` is
    room_of(m)."""
    if m <= (_FEW if k < _LONG else _FEWEST):
        _few_rows(first, last, m, k, n, a, lda, w, ldw, out, ldo)
    else:
        _many_rows(first, last, m, k, n, a, lda, w, ldw, out, ldo, room)


def room_of(m: int) -> Any:
    """What a thread needs for `columns` of m rows."""
    return np.empty((_CHUNK * COLUMNS + (_BLOCK + _ROWS) * COLUMNS * v.LANES + 16) * (m > _FEWEST), np.float32)


def _columns(first: int, last: int, m: int, *rest: int) -> None:
    columns(first, last, m, *rest, room_of(m))


def product(a: Any, b: Any, out: Any) -> None:
    """out [M,N] = a [M,K] @ b [K,N] (float32, K > 0, N >= COLUMNS), rows of a and out contiguous, columns of b."""
    (m, k), n = a.shape, b.shape[1]
    place = (x for array in (a, b.T, out) for x in (array.__array_interface__["data"][0], array.strides[0]))
    spread(_columns, n, m * b.size // v.LANES, m, k, n, *place, multiple=COLUMNS)
