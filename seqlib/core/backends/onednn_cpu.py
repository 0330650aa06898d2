"""Matrix products by oneDNN, where it is installed: float32, or bfloat16 with sums in float32.

A product is cut into tiles whose sizes follow from its own alone, so bits do not depend on the number of threads. The
pool's threads take tiles, each of which oneDNN computes on one thread. M rows, K inner size, N columns.
"""

from collections.abc import Iterable
from ctypes import byref, c_char_p, c_int
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from seqlib.core.backends import pool_cpu
from seqlib.core.backends.onednn_library_cpu import (
    IMPLEMENTATION,
    KEPT,
    ROW,
    After,
    Dims,
    Primitive,
    Strides,
    Table,
    ThreadState,
    find,
    one_thread,
    product_primitive,
    rounding,
    run,
    the_library,
    turns,
)
from seqlib.core.backends.onednn_tiles_cpu import WIDTH, bounds, packed_bounds
from seqlib.core.backends.threads import spread


def available() -> bool:
    """True when oneDNN was found."""
    return find() is not None


def worthwhile() -> bool:
    """True when oneDNN was found and the processor has AVX-512: without it NumPy's BLAS has the faster products."""
    return (found := find()) is not None and found.wide


def about() -> str:
    """What was found: "oneDNN 3.2.0 (PATH)", or "not installed"."""
    found = find()
    v = found and found.version
    return f"oneDNN {v.major}.{v.minor}.{v.patch} ({found.path})" if found and v else "not installed"


def has_bfloat16() -> bool:
    """True when oneDNN was found and the processor has instructions for bfloat16 (AVX512_BF16 or AMX)."""
    return (found := find()) is not None and found.half


@lru_cache(maxsize=1)
def packs_bfloat16() -> bool:
    """True when there are such instructions and oneDNN has a fast way to multiply by a matrix that `packed` gave."""
    library = find()
    if library is None or not library.half:
        return False
    made, name = product_primitive(64, 64, 64, (64, 1), None, 64, True, After()), c_char_p()
    library.calls.dnnl_primitive_desc_query(made.desc, c_int(IMPLEMENTATION), c_int(0), byref(name))
    return (name.value or b"").startswith(b"brg")


# -- products ----------------------------------------------------------------------------------------------------


class _Part(NamedTuple):
    """Of a tile: bytes from the first elements of a, b and out to its own; what rounds them, if they are not yet (of a
    also columns or rows, bytes, numbers and how many, see `turns`), and what copies the result to its place, if it has
    to be made elsewhere; bytes of the rooms of a, b and out."""

    a: int
    b: int
    out: int
    bias: int
    round_a: Primitive | tuple[int, int, int, int] | None
    round_b: Primitive | None
    product: Primitive
    copy_out: Primitive | None
    rooms: tuple[int, int, int]


_Tile = list[_Part]


@lru_cache(maxsize=KEPT)
def _tiles(m: int, k: int, n: int, a: Strides, b: Strides | None, out: int, half: bool, after: After) -> list[_Tile]:
    """The tiles of a product of arrays with these strides (in elements), or of a `packed` b (None)."""
    rows, columns, parts = (packed_bounds if b is None else bounds)(m, k, n)
    step, columns_of_a = b or (0, 16 * -(-k // 32)), a[0] == 1 < a[1]
    padded = b is None and turns and (columns_of_a or k % 32 > 0)

    def part(top: int, bottom: int, start: int, stop: int, near: int, far: int) -> _Part:
        height, width, depth = bottom - top, stop - start, far - near
        last = after._replace(add=after.add or near > 0)
        deep = -(-depth // 32) * 32 if padded else depth
        left = (deep, 1) if padded else dense((height, depth), a) if half else a
        right = dense((depth, width), b) if half and b else b
        near_out = out if b else width  # oneDNN has no fast way from panels to a part of a row
        turn = (int(columns_of_a), 4 * max(a), depth, height) if padded else None
        return _Part(
            4 * (top * a[0] + near * a[1]),
            4 * (near * step[0] + start * step[1]),
            4 * (top * out + start),
            4 * start,
            turn or (rounding((height, depth), a, left) if half else None),
            rounding((depth, width), b, right) if half and b else None,
            product_primitive(height, deep, width, left, right, near_out, half, last if far == k else After(last.add)),
            rounding((height, width), (width, 1), (out, 1), half=False) if near_out != out else None,
            (2 * -(-height // 16) * 16 * deep, 2 * depth * width, 4 * height * width),
        )

    with one_thread():  # a primitive is made for the threads that there are then
        return [[part(*r, *c, *p) for p in pairwise(parts)] for r in pairwise(rows) for c in pairwise(columns)]


def dense(shape: Dims, strides: Dims) -> Any:
    """Strides of a copy whose matrices lie like those of an array with `strides`."""
    *outer, rows, columns = shape
    found = [columns, 1] if strides[-1] == 1 else [1, rows]
    step = rows * columns
    for size in reversed(outer):
        found.insert(0, step)
        step *= size
    return tuple(found)


def product(a: Any, b: Any, out: Any, half: bool, add: bool = False, bias: Any = None, activation: str = "") -> None:
    """out [M,N] = a [M,K] @ b [K,N] in float32, or out += with `add`; `half`: of a and b rounded to bfloat16.

    Each array has contiguous rows, a and b may have contiguous columns instead (others are copied); none is empty. b
    may be what `packed` gave (with `half`). A contiguous `bias` [N] is added in the same pass, then comes an
    activation: relu, gelu_tanh or gelu_erf.
    """
    left = _steps(a) or _steps(a := np.ascontiguousarray(a))
    right = None if b.ndim > 2 else _steps(b) or _steps(b := np.ascontiguousarray(b))
    after, (m, k), n = After(add, bias is not None, activation), a.shape, out.shape[1]
    places = [0 if x is None else x.__array_interface__["data"][0] for x in (a, b, out, bias)]
    if half and right and turns and _packs(m, k, n, left):
        room = the_library().thread.room("packed", _packed_bytes(k, n))
        _pack(k, n, right, places[1], room)
        places[1], right = room, None
    tiles = _tiles(m, k, n, left, right, out.strides[0] // 4, half, after)
    spread(_some, len(tiles), m * k * n, tiles, *places)


def _packs(m: int, k: int, n: int, a: Strides) -> bool:
    """Whether it pays to pack b first, for all tiles: where a's columns lie together, since they then become rows; for
    wide results; and where oneDNN would multiply rows of a that do not fill cache lines."""
    if a[0] == 1 < a[1]:
        return n <= m
    return m >= 512 and (n >= 1024 or (k % 32 > 0 and k < 4096))


def _steps(x: Any) -> Any:
    """Its strides in elements; None for a matrix that oneDNN does not take."""
    rows, columns = x.strides
    return (rows // 4, columns // 4) if (rows == 4 or columns == 4) and rows > 0 and columns > 0 else None


def packed(b: Any) -> Any:
    """A float32 matrix [K,N] with contiguous rows or columns, rounded to bfloat16, in panels of WIDTH columns, the last
    with zeros: int32 [P, 16 ceil(K / 32), WIDTH], each of two numbers of a column."""
    k, n = b.shape
    found = np.empty((-(-n // WIDTH), 16 * -(-k // 32), WIDTH), np.int32)
    _pack(k, n, _steps(b), *(x.__array_interface__["data"][0] for x in (b, found)))
    return found


def _packed_bytes(k: int, n: int) -> int:
    return -(-n // WIDTH) * 16 * -(-k // 32) * WIDTH * 4


def _pack(k: int, n: int, steps: Strides, b: int, to: int) -> None:
    """Pack a matrix with `steps` at an address."""
    spread(_panels, -(-n // WIDTH), k * n, k, n, steps, b, to)


def _panels(first: int, last: int, k: int, n: int, steps: Strides, b: int, to: int) -> None:
    pool_cpu.caller[0] = pool_cpu.SAYS
    thread, start = the_library().thread, first * WIDTH
    key = k, min(n, last * WIDTH) - start, steps
    if (table := thread.tables.get(key)) is None:
        with one_thread():
            packing = rounding(key[:2], steps, None)
        thread.room("scratch", packing.scratch)
        table = thread.keep(key, Table(np.array([thread.call(packing, (0, 0), (1, 0))]), packing))
    bases = b + 4 * start * steps[1], to + _packed_bytes(k, start), 0, 0, 0
    run(table.rows, np.array(bases, np.int64))


def _some(first: int, last: int, tiles: list[_Tile], a: int, b: int, out: int, bias: int) -> None:
    pool_cpu.caller[0] = pool_cpu.SAYS
    thread = the_library().thread
    table = thread.tables.get((id(tiles), first, last)) or _table(thread, tiles, first, last)
    run(table.rows, np.array((a, b, out, 0, bias), np.int64))


def _table(thread: ThreadState, tiles: list[_Tile], first: int, last: int) -> Table:
    some = [part for parts in zip(*tiles[first:last], strict=True) for part in parts]  # b's parts serve all tiles
    thread.room("scratch", max(p.scratch for t in some for p in t if isinstance(p, Primitive)))
    rooms = [thread.room(name, max(part.rooms[i] for part in some)) for i, name in enumerate(("a", "b", "out"))]
    rows: list[list[int]] = []
    rounded = [-1, -1]  # where what was rounded last begins
    for part in some:
        places = [(0, part.a), (1, part.b)]
        for i, how in enumerate((part.round_a, part.round_b)):
            if how is not None:
                if rounded[i] != places[i][1]:
                    if isinstance(how, Primitive):
                        rows.append(thread.call(how, places[i], (3, rooms[i])))
                    else:
                        rows.append([0, *places[i], *how, rooms[i]] + [0] * (ROW - 8))
                    rounded[i] = places[i][1]
                places[i] = 3, rooms[i]
        after = [(4, part.bias)] * (len(part.product.descs) - 4)
        if part.copy_out is None:
            rows.append(thread.call(part.product, *places, (2, part.out), *after))
        else:
            rows.append(thread.call(part.product, *places, (3, rooms[2]), *after))
            rows.append(thread.call(part.copy_out, (3, rooms[2]), (2, part.out)))
    return thread.keep((id(tiles), first, last), Table(np.array(rows, np.int64), tiles))


def calls(m: int, k: int, products: Iterable[tuple[int, int, int]]) -> tuple[Any, Any]:
    """For a loop that runs them itself, on the calling thread: the calls of products of a contiguous matrix [M,K] in
    bfloat16, K a multiple of 32, by matrices as `packed` gives them (address, columns) into arrays (address). The left
    one's address is the first base, the others are 0. Second come a thread's addresses."""
    library, rows = the_library(), []
    with one_thread():
        for b, n, out in products:
            made = product_primitive(m, k, n, (k, 1), None, n, True, After())
            library.thread.room("scratch", made.scratch)
            rows.append(library.thread.call(made, (0, 0), (3, b), (3, out)))
    return np.array(rows), library.thread.addresses
