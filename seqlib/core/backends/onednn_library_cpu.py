"""oneDNN, an optional library (extra `onednn`) that is loaded through ctypes: its primitives, and tables of calls of
them that a thread runs. M rows, K inner size, N columns.
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
from typing import Any, NamedTuple

import numpy as np

from seqlib.core.backends import pool_cpu
from seqlib.core.backends.threads import fork_locks
from seqlib.util.errors import UsageError

F32, BF16 = 3, 2  # oneDNN's numbers of dtypes, arguments and queries
SRC, WEIGHTS, BIAS, DST, _SCRATCHPAD = 1, 33, 41, 17, 80
_ACTIVATIONS = {"relu": 0x20, "gelu_tanh": 0x2B, "gelu_erf": 0x31}
_SCRATCHPAD_MD, IMPLEMENTATION = 136, 8
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


class Library:
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
        self.thread = ThreadState(self)
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
        return self.make("memory_desc_create_with_tag", c_int(2), (c_int64 * 2)(k, n), c_int(BF16), c_int(_PANELS))


_lock = threading.Lock()
fork_locks.append(_lock)
_looked: list[Library | None] = []


def find() -> Library | None:
    """The library; None where there is none."""
    if not _looked:
        with _lock:  # two engines would not know each other's memory
            _looked[:] = _looked or [_found()]
    return _looked[0]


def the_library() -> Library:
    """The library, which is there."""
    found = find()
    assert found is not None
    return found


def _found() -> Library | None:
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
            return Library(path)
        except (OSError, AttributeError, ValueError) as error:
            if given is not None:
                raise UsageError(f"SEQLIB_DNNL={given}: no oneDNN 3 that can be used: {error}") from None
    return None


# -- primitives, which all threads share, and what each thread needs to run them ---------------------------------


class After(NamedTuple):
    """What follows a product: the sum with what is there, with a bias [N], and an activation."""

    add: bool = False
    bias: bool = False
    activation: str = ""


class Primitive(NamedTuple):
    handle: c_void_p
    descs: tuple[tuple[int, c_void_p], ...]  # by argument
    scratch: int  # bytes
    desc: Any  # kept alive: it owns the description of the scratch memory


KEPT = 1024
"""Products that are remembered, and tables of a thread: a primitive takes 150 kB of code and 0.2 ms to be made."""


@lru_cache(maxsize=KEPT)
def product_primitive(
    m: int, k: int, n: int, a: Strides, b: Strides | None, out: int, half: bool, after: After
) -> Primitive:
    """The product of [M,K] and [K,N] with strides in elements (of b None: it lies in panels), into rows that begin
    `out` elements apart."""
    library = the_library()
    dtype = BF16 if half else F32
    right = library.panels(k, n) if b is None else library.desc((k, n), b, dtype)
    descs = [library.desc((m, k), a, dtype), right, library.desc((m, n), (out, 1), F32)]
    bias = library.desc((1, n), (n, 1), F32) if after.bias else None
    made = library.make(
        "matmul_primitive_desc_create",
        library.engine,
        *descs[:2],
        bias,
        descs[2],
        library.attributes(after.add, after.activation),
    )
    numbered = zip((SRC, WEIGHTS, DST), descs, strict=True)
    return finished(library, made, [*numbered, *([(BIAS, bias)] if bias else [])])


@lru_cache(maxsize=KEPT)
def rounding(shape: Dims, strides: Dims, to: Dims | None, half: bool = True) -> Primitive:
    """The copy of a float32 array in bfloat16, with strides or (None) in panels; with strides also in float32."""
    library = the_library()
    found = library.panels(*shape) if to is None else library.desc(shape, to, BF16 if half else F32)
    descs, engine = (library.desc(shape, strides, F32), found), library.engine
    made = library.make("reorder_primitive_desc_create", descs[0], engine, descs[1], engine, library.attributes())
    return finished(library, made, zip((SRC, DST), descs, strict=True))


def finished(library: Library, desc: Any, descs: Iterable[tuple[int, c_void_p]]) -> Primitive:
    scratch = c_void_p(library.calls.dnnl_primitive_desc_query_md(desc, c_int(_SCRATCHPAD_MD), c_int(0)))
    needed = library.calls.dnnl_memory_desc_get_size(scratch) if scratch else 0
    return Primitive(library.make("primitive_create", desc), (*descs, (_SCRATCHPAD, scratch)), needed, desc)


class ThreadState(threading.local):
    """A thread's stream, memory objects of primitives, room, and the tables of what it runs."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self.made = library.make("stream_create", library.engine, c_int(1))
        self.addresses = np.array([self.made.value, library.execute, library.place])
        self.kept: dict[int, Any] = {}
        self.rooms: dict[str, Any] = {}
        self.tables: dict[tuple[Any, ...], Table] = {}

    def room(self, purpose: str, nbytes: int) -> int:
        """The address of `nbytes` at least, at a multiple of 64; it is the same until more are asked for."""
        if purpose not in self.rooms or len(self.rooms[purpose]) < nbytes + 64:
            self.rooms[purpose] = np.empty(nbytes + 64, np.uint8)
            self.tables.clear()  # they have addresses
        return -(-self.rooms[purpose].ctypes.data // 64) * 64

    def call(self, primitive: Primitive, *places: tuple[int, int]) -> list[int]:
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
        return row + [0] * (ROW - len(row))

    def keep(self, key: tuple[Any, ...], table: "Table") -> "Table":
        """`table`, from now on found by its key."""
        if len(self.tables) >= KEPT:
            self.tables.clear()
            self.kept = {handle: self.kept[handle] for handle in {int(row[0]) for row in table.rows} - {0}}
        self.tables[key] = table
        return table


ROW = 3 + 3 * 5


class Table(NamedTuple):
    rows: Any  # int64 [calls, ROW]
    tiles: Any  # kept alive: the table's key has its id


def run_rows_slowly(rows: Any, call: Any, bases: Any, caller: Any) -> int:
    """Run a table's calls; the status of the first that fails, or 0. numba's kernels, once they are loaded, bring one
    that does it without the interpreter's lock (ops/jit_cpu.py)."""
    library = the_library()
    for row in rows.tolist():
        for i in range(row[1]):
            memory, base, offset = row[3 + 3 * i : 6 + 3 * i]
            library.short.dnnl_memory_set_data_handle(memory, int(bases[base]) + offset)
        if status := library.calls.dnnl_primitive_execute(row[0], int(call[0]), row[1], row[2]):
            return status
    return 0


run_rows: list[Any] = [run_rows_slowly]
turns: list[Any] = []
"""Not empty once the kernels' loop is there, which also runs rows that are no calls: [0, which base address, how far
from there, columns instead of rows?, bytes from one to the next, how many numbers in each, how many of them, address]
rounds float32 rows or columns into bfloat16 rows (ops/rounding_cpu.py)."""


@contextmanager
def one_thread() -> Generator[None, None, None]:
    """Inside, the calling thread's OpenMP has no others: the pool's threads are ours."""
    library = the_library()
    before = library.short.omp_get_max_threads()
    library.short.omp_set_num_threads(1)
    try:
        yield
    finally:
        library.short.omp_set_num_threads(before)


def run(rows: Any, bases: Any) -> None:
    """Run a table's calls on this thread alone, with these base addresses."""
    library = the_library()
    if (before := library.short.omp_get_max_threads()) != 1:
        library.short.omp_set_num_threads(1)
    try:
        status = run_rows[0](rows, library.thread.addresses, bases, pool_cpu.caller)
    finally:
        if before != 1:
            library.short.omp_set_num_threads(before)
    check(status)


def check(status: int) -> None:
    """Raise RuntimeError where calls did not give 0."""
    if status:
        raise RuntimeError(f"oneDNN: dnnl_primitive_execute gave status {status}")
