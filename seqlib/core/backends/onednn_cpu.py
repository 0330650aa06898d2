"""Matrix products by oneDNN, an optional library (extra `onednn`) that is loaded through ctypes: float32, or bfloat16
with sums in float32.

A product is cut into tiles whose sizes follow from its own alone, so bits do not depend on the number of threads. The
pool's threads take tiles, each of which oneDNN computes on one thread. M rows, K inner size, N columns.
"""

import ctypes
import os
import threading
import weakref
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from ctypes import POINTER, Structure, byref, c_char_p, c_float, c_int, c_int64, c_size_t, c_void_p
from functools import lru_cache
from importlib import metadata
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from seqlib.core.backends import pool_cpu
from seqlib.core.backends.onednn_tiles_cpu import WIDTH, bounds, packed_bounds
from seqlib.core.backends.threads import fork_locks, spread
from seqlib.util.errors import UsageError

_F32, _BF16 = 3, 2  # oneDNN's numbers of dtypes, arguments and queries
_SRC, _WEIGHTS, _BIAS, _DST, _SCRATCHPAD = 1, 33, 41, 17, 80
_ACTIVATIONS = {"relu": 0x20, "gelu_tanh": 0x2B, "gelu_erf": 0x31}
_SCRATCHPAD_MD, _IMPLEMENTATION = 136, 8
_PANELS = 384  # BA16a64b2a, panels of WIDTH columns, in each pairs of a column row by row: what it likes for bfloat16
_WIDE_ISA, _BF16_ISA = 0x27, 0xE7  # AVX-512, and with bfloat16; AMX includes both

Dims = tuple[int, ...]
Strides = tuple[int, int]


class _Version(Structure):
    _fields_ = (("major", c_int), ("minor", c_int), ("patch", c_int), ("hash", c_char_p))


class _Argument(Structure):
    _fields_ = (("number", c_int), ("memory", c_void_p))


class _Handle(c_void_p):
    """What oneDNN made."""


class _Library:
    """oneDNN 3 and its CPU engine. `short` calls keep the interpreter's lock, the others let other threads work."""

    def __init__(self, path: str) -> None:
        self.path, self.calls, self.short = path, ctypes.CDLL(path), ctypes.PyDLL(path)
        self.calls.dnnl_version.restype = POINTER(_Version)
        self.version = self.calls.dnnl_version().contents
        for calls in (self.calls, self.short):
            calls.dnnl_memory_desc_get_size.restype = c_size_t
            calls.dnnl_primitive_desc_query_md.restype = c_void_p
            calls.dnnl_primitive_execute.argtypes = (c_void_p, c_void_p, c_int, c_void_p)
            calls.dnnl_memory_set_data_handle.argtypes = (c_void_p, c_void_p)
        self.engine = self.make("engine_create", c_int(1), c_size_t(0))
        self._attributes: dict[tuple[bool, str], c_void_p] = {}
        self.execute, self.place = (
            ctypes.cast(call, c_void_p).value
            for call in (self.calls.dnnl_primitive_execute, self.calls.dnnl_memory_set_data_handle)
        )
        self.thread = _Thread(self)
        isa = self.calls.dnnl_get_effective_cpu_isa()
        self.wide, self.half = isa & _WIDE_ISA == _WIDE_ISA, isa & _BF16_ISA == _BF16_ISA

    def make(self, name: str, *args: Any) -> Any:
        """What `dnnl_NAME` creates, destroyed when it is collected. Raises ValueError where oneDNN does not take the
        arguments."""
        made = _Handle()
        if status := getattr(self.calls, f"dnnl_{name}")(byref(made), *args):
            raise ValueError(f"oneDNN: dnnl_{name} gave status {status}")
        kind = "primitive_desc" if "primitive_desc" in name else name.partition("_create")[0]
        weakref.finalize(made, getattr(self.calls, f"dnnl_{kind}_destroy"), c_void_p(made.value)).atexit = False
        return made

    def attributes(self, add: bool = False, activation: str = "") -> c_void_p:
        """Of a primitive: its scratch memory comes from us; with `add` its result is added to what is there; then an
        `activation` follows."""
        if (add, activation) not in self._attributes:
            made = self.make("primitive_attr_create")
            self.calls.dnnl_primitive_attr_set_scratchpad_mode(made, c_int(1))
            after = self.make("post_ops_create")
            if add:
                self.calls.dnnl_post_ops_append_sum(after, c_float(1.0), c_int(0), c_int(0))
            if activation:
                kind = c_int(_ACTIVATIONS[activation])
                self.calls.dnnl_post_ops_append_eltwise(after, kind, c_float(0.0), c_float(0.0))
            self.calls.dnnl_primitive_attr_set_post_ops(made, after)
            self._attributes[add, activation] = made
        return self._attributes[add, activation]

    def desc(self, shape: Dims, strides: Dims, dtype: int) -> c_void_p:
        n = c_int64 * len(shape)
        return self.make("memory_desc_create_with_strides", c_int(len(shape)), n(*shape), c_int(dtype), n(*strides))

    def panels(self, k: int, n: int) -> c_void_p:
        """Of a matrix [K,N] that lies as `packed` says."""
        return self.make("memory_desc_create_with_tag", c_int(2), (c_int64 * 2)(k, n), c_int(_BF16), c_int(_PANELS))


_lock = threading.Lock()
fork_locks.append(_lock)
_looked: list[_Library | None] = []


def _library() -> _Library | None:
    if not _looked:
        with _lock:  # two engines would not know each other's memory
            _looked[:] = _looked or [_found()]
    return _looked[0]


def _found() -> _Library | None:
    """The library of SEQLIB_DNNL (empty: none), else that of the package onednn-cpu-gomp, else the system's.

    Raises UsageError when the one that SEQLIB_DNNL names can't be used.
    """
    given = os.environ.get("SEQLIB_DNNL")
    if given is not None:
        candidates = [given] if given else []
    else:
        files = [file for found in metadata.distributions(name="onednn-cpu-gomp") for file in found.files or ()]
        candidates = [*(str(file.locate()) for file in files if file.name == "libdnnl.so.3"), "libdnnl.so.3"]
    for path in candidates:
        try:
            return _Library(path)
        except (OSError, AttributeError, ValueError) as error:
            if given is not None:
                raise UsageError(f"SEQLIB_DNNL={given}: no oneDNN 3 that can be used: {error}") from None
    return None


def available() -> bool:
    """True when oneDNN was found."""
    return _library() is not None


def worthwhile() -> bool:
    """True when oneDNN was found and the processor has AVX-512: without it NumPy's BLAS has the faster products."""
    return (found := _library()) is not None and found.wide


def about() -> str:
    """What was found: "oneDNN 3.2.0 (PATH)", or "not installed"."""
    found = _library()
    v = found and found.version
    return f"oneDNN {v.major}.{v.minor}.{v.patch} ({found.path})" if found and v else "not installed"


def has_bfloat16() -> bool:
    """True when oneDNN was found and the processor has instructions for bfloat16 (AVX512_BF16 or AMX)."""
    return (found := _library()) is not None and found.half


@lru_cache(maxsize=1)
def packs_bfloat16() -> bool:
    """True when there are such instructions and oneDNN has a fast way to multiply by a matrix that `packed` gave."""
    library = _library()
    if library is None or not library.half:
        return False
    made, name = _product(64, 64, 64, (64, 1), None, 64, True, After()), c_char_p()
    library.calls.dnnl_primitive_desc_query(made.desc, c_int(_IMPLEMENTATION), c_int(0), byref(name))
    return (name.value or b"").startswith(b"brg")


# -- primitives, which all threads share, and what each thread needs to run them ---------------------------------


class After(NamedTuple):
    """What follows a product: the sum with what is there, with a bias [N], and an activation."""

    add: bool = False
    bias: bool = False
    activation: str = ""


class _Primitive(NamedTuple):
    handle: c_void_p
    descs: tuple[tuple[int, c_void_p], ...]  # by argument
    scratch: int  # bytes
    desc: Any  # kept alive: it owns the description of the scratch memory


_KEPT = 1024
"""Products that are remembered, and tables of a thread: a primitive takes 150 kB of code and 0.2 ms to be made."""


@lru_cache(maxsize=_KEPT)
def _product(m: int, k: int, n: int, a: Strides, b: Strides | None, out: int, half: bool, after: After) -> _Primitive:
    """The product of [M,K] and [K,N] with strides in elements (of b None: it lies in panels), into rows that begin
    `out` elements apart."""
    library = _library()
    assert library is not None
    dtype = _BF16 if half else _F32
    right = library.panels(k, n) if b is None else library.desc((k, n), b, dtype)
    descs = [library.desc((m, k), a, dtype), right, library.desc((m, n), (out, 1), _F32)]
    bias = library.desc((1, n), (n, 1), _F32) if after.bias else None
    made = library.make(
        "matmul_primitive_desc_create",
        library.engine,
        *descs[:2],
        bias,
        descs[2],
        library.attributes(after.add, after.activation),
    )
    numbered = zip((_SRC, _WEIGHTS, _DST), descs, strict=True)
    return _finished(library, made, [*numbered, *([(_BIAS, bias)] if bias else [])])


@lru_cache(maxsize=_KEPT)
def _rounding(shape: Dims, strides: Dims, to: Dims | None, half: bool = True) -> _Primitive:
    """The copy of a float32 array in bfloat16, with strides or (None) in panels; with strides also in float32."""
    library = _library()
    assert library is not None
    found = library.panels(*shape) if to is None else library.desc(shape, to, _BF16 if half else _F32)
    descs, engine = (library.desc(shape, strides, _F32), found), library.engine
    made = library.make("reorder_primitive_desc_create", descs[0], engine, descs[1], engine, library.attributes())
    return _finished(library, made, zip((_SRC, _DST), descs, strict=True))


def _finished(library: _Library, desc: Any, descs: Iterable[tuple[int, c_void_p]]) -> _Primitive:
    scratch = c_void_p(library.calls.dnnl_primitive_desc_query_md(desc, c_int(_SCRATCHPAD_MD), c_int(0)))
    needed = library.calls.dnnl_memory_desc_get_size(scratch) if scratch else 0
    return _Primitive(library.make("primitive_create", desc), (*descs, (_SCRATCHPAD, scratch)), needed, desc)


class _Thread(threading.local):
    """A thread's stream, memory objects of primitives, room, and the tables of what it runs."""

    def __init__(self, library: _Library) -> None:
        self.library = library
        self.made = library.make("stream_create", library.engine, c_int(1))
        self.addresses = np.array([self.made.value, library.execute, library.place])
        self.kept: dict[int, Any] = {}
        self.rooms: dict[str, Any] = {}
        self.tables: dict[tuple[int, int, int], _Table] = {}

    def room(self, purpose: str, nbytes: int) -> int:
        """The address of `nbytes` at least, at a multiple of 64; it is the same until more are asked for."""
        if purpose not in self.rooms or len(self.rooms[purpose]) < nbytes + 64:
            self.rooms[purpose] = np.empty(nbytes + 64, np.uint8)
            self.tables.clear()  # they have addresses
        return -(-self.rooms[purpose].ctypes.data // 64) * 64

    def call(self, primitive: _Primitive, *places: tuple[int, int]) -> list[int]:
        """A row of a table: handle, number of arguments, their address, then of each the memory object, which of the
        base addresses it lies at and how far from there; the last is scratch memory."""
        handle = primitive.handle.value or 0
        if handle not in self.kept:
            make = self.library.make
            memories = [make("memory_create", desc, self.library.engine, None) for _, desc in primitive.descs]
            numbers = [number for number, _ in primitive.descs]
            arguments = (_Argument * len(numbers))(*zip(numbers, memories, strict=True))
            self.kept[handle] = arguments, memories, primitive
        arguments, memories, _ = self.kept[handle]
        row = [handle, len(arguments), ctypes.addressof(arguments)]
        for memory, place in zip(memories, (*places, (3, self.room("scratch", primitive.scratch))), strict=True):
            row += [memory.value, *place]
        return row + [0] * (_ROW - len(row))

    def keep(self, key: tuple[int, int, int], table: "_Table") -> "_Table":
        """`table`, from now on found by its key."""
        if len(self.tables) >= _KEPT:
            self.tables.clear()
            self.kept = {handle: self.kept[handle] for handle in {int(row[0]) for row in table.rows}}
        self.tables[key] = table
        return table


_ROW = 3 + 3 * 5


class _Table(NamedTuple):
    rows: Any  # int64 [calls, _ROW]
    tiles: Any  # kept alive: the table's key has its id


def run_rows_slowly(rows: Any, call: Any, bases: Any, caller: Any) -> int:
    """Run a table's calls; the status of the first that fails, or 0. numba's kernels, once they are loaded, bring one
    that does it without the interpreter's lock (ops/jit_cpu.py)."""
    library = _library()
    assert library is not None
    for row in rows.tolist():
        for i in range(row[1]):
            memory, base, offset = row[3 + 3 * i : 6 + 3 * i]
            library.short.dnnl_memory_set_data_handle(memory, int(bases[base]) + offset)
        if status := library.calls.dnnl_primitive_execute(row[0], int(call[0]), row[1], row[2]):
            return status
    return 0


run_rows: list[Any] = [run_rows_slowly]


@contextmanager
def _one_thread() -> Generator[None, None, None]:
    """Inside, the calling thread's OpenMP has no others: the pool's threads are ours."""
    library = _library()
    assert library is not None
    before = library.short.omp_get_max_threads()
    library.short.omp_set_num_threads(1)
    try:
        yield
    finally:
        library.short.omp_set_num_threads(before)


# -- products ----------------------------------------------------------------------------------------------------


class _Part(NamedTuple):
    """Of a tile: bytes from the first elements of a, b and out to its own; what rounds them, if they are not yet, and
    what copies the result to its place, if it has to be made elsewhere; bytes of the rooms of a, b and out."""

    a: int
    b: int
    out: int
    bias: int
    round_a: _Primitive | None
    round_b: _Primitive | None
    product: _Primitive
    copy_out: _Primitive | None
    rooms: tuple[int, int, int]


_Tile = list[_Part]


@lru_cache(maxsize=_KEPT)
def _tiles(m: int, k: int, n: int, a: Strides, b: Strides | None, out: int, half: bool, after: After) -> list[_Tile]:
    """The tiles of a product of arrays with these strides (in elements), or of a `packed` b (None)."""
    rows, columns, parts = (packed_bounds if b is None else bounds)(m, k, n)
    step = b or (0, 16 * -(-k // 32))

    def part(top: int, bottom: int, start: int, stop: int, near: int, far: int) -> _Part:
        height, width, depth = bottom - top, stop - start, far - near
        last = after._replace(add=after.add or near > 0)
        left = _dense((height, depth), a) if half else a
        right = _dense((depth, width), b) if half and b else b
        near_out = out if b else width  # oneDNN has no fast way from panels to a part of a row
        return _Part(
            4 * (top * a[0] + near * a[1]),
            4 * (near * step[0] + start * step[1]),
            4 * (top * out + start),
            4 * start,
            _rounding((height, depth), a, left) if half else None,
            _rounding((depth, width), b, right) if half and b else None,
            _product(height, depth, width, left, right, near_out, half, last if far == k else After(last.add)),
            _rounding((height, width), (width, 1), (out, 1), half=False) if near_out != out else None,
            (2 * height * depth, 2 * depth * width, 4 * height * width),
        )

    with _one_thread():  # a primitive is made for the threads that there are then
        return [[part(*r, *c, *p) for p in pairwise(parts)] for r in pairwise(rows) for c in pairwise(columns)]


def _dense(shape: Dims, strides: Dims) -> Any:
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
    tiles = _tiles(m, k, n, left, right, out.strides[0] // 4, half, after)
    addresses = [0 if x is None else x.__array_interface__["data"][0] for x in (a, b, out, bias)]
    spread(_some, len(tiles), m * k * n, tiles, *addresses)


def _steps(x: Any) -> Any:
    """Its strides in elements; None for a matrix that oneDNN does not take."""
    rows, columns = x.strides
    return (rows // 4, columns // 4) if (rows == 4 or columns == 4) and rows > 0 and columns > 0 else None


def packed(b: Any) -> Any:
    """A float32 matrix [K,N] with contiguous rows or columns, rounded to bfloat16, in panels of WIDTH columns, the last
    with zeros: int32 [P, 16 ceil(K / 32), WIDTH], each of two numbers of a column."""
    library = _library()
    assert library is not None
    (k, n), strides = b.shape, (b.strides[0] // 4, b.strides[1] // 4)
    found = np.empty((-(-n // WIDTH), 16 * -(-k // 32), WIDTH), np.int32)
    with _one_thread():
        packing = _rounding((k, n), strides, None)
    bases = [x.__array_interface__["data"][0] for x in (b, found)]
    _run(library, np.array([library.thread.call(packing, (0, 0), (1, 0))]), np.array((*bases, 0, 0), np.int64))
    return found


def _some(first: int, last: int, tiles: list[_Tile], a: int, b: int, out: int, bias: int) -> None:
    pool_cpu.caller[0] = pool_cpu.SAYS
    library = _library()
    assert library is not None
    table = library.thread.tables.get((id(tiles), first, last)) or _table(library.thread, tiles, first, last)
    _run(library, table.rows, np.array((a, b, out, 0, bias), np.int64))


def _run(library: _Library, rows: Any, bases: Any) -> None:
    if (before := library.short.omp_get_max_threads()) != 1:
        library.short.omp_set_num_threads(1)
    try:
        status = run_rows[0](rows, library.thread.addresses, bases, pool_cpu.caller)
    finally:
        if before != 1:
            library.short.omp_set_num_threads(before)
    if status:
        raise RuntimeError(f"oneDNN: dnnl_primitive_execute gave status {status}")


def _table(thread: _Thread, tiles: list[_Tile], first: int, last: int) -> _Table:
    some = [part for parts in zip(*tiles[first:last], strict=True) for part in parts]  # b's parts serve all tiles
    thread.room("scratch", max(p.scratch for t in some for p in (t.round_a, t.round_b, t.product, t.copy_out) if p))
    rooms = [thread.room(name, max(part.rooms[i] for part in some)) for i, name in enumerate(("a", "b", "out"))]
    rows: list[list[int]] = []
    rounded = [-1, -1]  # where what was rounded last begins
    for part in some:
        places = [(0, part.a), (1, part.b)]
        for i, rounding in enumerate((part.round_a, part.round_b)):
            if rounding is not None:
                if rounded[i] != places[i][1]:
                    rows.append(thread.call(rounding, places[i], (3, rooms[i])))
                    rounded[i] = places[i][1]
                places[i] = 3, rooms[i]
        after = [(4, part.bias)] * (len(part.product.descs) - 4)
        if part.copy_out is None:
            rows.append(thread.call(part.product, *places, (2, part.out), *after))
        else:
            rows.append(thread.call(part.product, *places, (3, rooms[2]), *after))
            rows.append(thread.call(part.copy_out, (3, rooms[2]), (2, part.out)))
    return thread.keep((id(tiles), first, last), _Table(np.array(rows, np.int64), tiles))


def calls(m: int, k: int, products: Iterable[tuple[int, int, int]]) -> tuple[Any, Any]:
    """For a loop that runs them itself, on the calling thread: the calls of products of a contiguous matrix [M,K] in
    bfloat16, K a multiple of 32, by matrices as `packed` gives them (address, columns) into arrays (address). The left
    one's address is the first base, the others are 0. Second come a thread's addresses."""
    library, rows = _library(), []
    assert library is not None
    for b, n, out in products:
        with _one_thread():
            made = _product(m, k, n, (k, 1), None, n, True, After())
        library.thread.room("scratch", made.scratch)
        rows.append(library.thread.call(made, (0, 0), (3, b), (3, out)))
    return np.array(rows), library.thread.addresses
