"""What the numba kernels share: how they are compiled and kept, exp, sigmoid, tanh and Philox.

Kernels release the GIL and are single-threaded; `backends.threads.spread` runs one over spans of its work.
What is reduced over rows is reduced in CHUNKS fixed parts that are added in order, so bits do not depend on
the number of threads.

Compiled code is kept in the user's cache folder under a key made of the sources of all *_cpu.py files and
numba's version; numba adds the processor. Where seqlib is installed and since when does not count. A folder that
cannot be written is read, and what is not in it is compiled anew in each process.
"""

import ctypes
import hashlib
import linecache
import os
import platform
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
import platformdirs
from filelock import FileLock
from llvmlite import ir
from numba.core import types
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _CacheLocator
from numba.core.compiler_lock import global_compiler_lock
from numba.extending import intrinsic

from seqlib.core.backends import onednn_library_cpu, pool_cpu
from seqlib.core.backends.pool_cpu import FREE, PYTHON
from seqlib.core.backends.threads import fork_locks
from seqlib.core.ops.rounding_cpu import padded_rows, turned_rows
from seqlib.core.ops.vectors_cpu import EXP
from seqlib.util.log import get_logger

# Never "nnan" or "ninf": kernels meet -inf (masks) and must let NaN through.
FAST = {"reassoc", "contract", "arcp", "nsz", "afn"}
CHUNKS = 32


@lru_cache(maxsize=1)
def cache_folder() -> str:
    """Where compiled code is; "": nowhere."""
    digest = hashlib.sha256(numba.__version__.encode())
    for path in sorted(Path(__file__).parent.glob("*_cpu.py")):
        digest.update(path.name.encode() + path.read_bytes())
    root = os.environ.get("SEQLIB_CACHE") or platformdirs.user_cache_dir("seqlib")
    folder = Path(root) / "kernels" / digest.hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return ""
    return str(folder)


@lru_cache(maxsize=1)
def _tell() -> None:
    """Say, once, what a first run waits for."""
    folder = cache_folder()
    kept = "they are kept" if os.access(folder, os.W_OK) else "they can't be kept: set SEQLIB_CACHE to another folder"
    get_logger().info("compiling CPU kernels; %s (`seqlib warmup` compiles them beforehand)", kept)


class _Place(_CacheLocator):
    """The folder, the same for all functions, whose name says of which sources it is."""

    def __init__(self, fn: Any, path: str) -> None:
        self._py_file, self._line = path, fn.__code__.co_firstlineno

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> "_Place":
        return cls(py_func, py_file)

    def get_cache_path(self) -> str:
        return cache_folder()

    def get_source_stamp(self) -> int:
        return 0

    def get_disambiguator(self) -> str:
        return str(self._line)


class _Placed(CompileResultCacheImpl):
    _locator_classes = [_Place]


class _Kept(FunctionCache):
    """numba's cache of a function's compiled code, in our folder."""

    _impl_class = _Placed

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        found = super().load_overload(sig, target_context) if self.cache_path else None
        if found is None:
            _tell()
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        if os.access(self.cache_path, os.W_OK):
            with FileLock(Path(self.cache_path) / "lock"):  # two processes would give one name to two functions' code
                super().save_overload(sig, data)


def _compiled(fn: Callable[..., Any], **options: Any) -> Any:
    made: Any = numba.njit(nogil=True, error_model="numpy", **options)(fn)
    made._cache = _Kept(fn)
    return made


def kernel(fn: Callable[..., Any]) -> Any:
    """Decorator: compile at the first call, with the fast-math rules that keep NaN and infinity.

    A loop that adds up writes to no array that it does not read at the same place: where its reads might meet its
    writes, compiled code looks at the distance of the arrays to choose between vector and scalar instructions, which
    add in other orders, and where arrays lie differs from process to process.
    """
    return _compiled(fn, fastmath=FAST)


def exact(fn: Callable[..., Any]) -> Any:
    """Decorator: compile without fast-math (also where it is inlined): the order of operations matters."""
    return _compiled(fn)


def inlined(fn: Callable[..., Any]) -> Any:
    """Decorator: `exact`, but that a product and a sum may be one instruction; put into every loop that calls it.

    Left to the compiler this depends on the version of Python, whose bytecode decides how long a function looks to it;
    a loop with a call in it is not vectorised, and erf takes 50 times as long.
    """
    return _compiled(fn, forceinline=True, fastmath={"contract"})


_intrinsic: Any = intrinsic


@_intrinsic
def _look(context: Any, counter: Any) -> Any:
    """The first element of an int64 array as it is in memory now, after a short pause for the processor."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if platform.machine() in ("x86_64", "AMD64"):
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(builder.module.declare_intrinsic("llvm.x86.sse2.pause", (), kind), [])
        array = context.make_array(signature.args[0])(context, builder, args[0])
        return builder.load_atomic(array.data, "acquire", 8)

    return types.int64(counter), code


@_intrinsic
def _put(context: Any, counter: Any, value: Any) -> Any:
    """Set the first element of an int64 array, after all that was written before."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        builder.store_atomic(args[1], array.data, "release", 8)
        return context.get_dummy_value()

    return types.void(counter, types.int64), code


@exact
def _spin(counter, value, turns):
    for _ in range(turns):  # noqa: SIM110  (numba has no `any`)
        if _look(counter) != value:
            return True
    return False


@exact
def _stand_by(ended, seen, started, turns, caller, patience):
    _put(ended, seen)
    for _ in range(turns):
        if _look(started) != seen:
            for i in range(10 * patience):
                state = _look(caller)
                if state == FREE or (state == PYTHON and i >= patience):
                    break
            return True
    return False


@_intrinsic
def _call2(context: Any, function: Any, a: Any, b: Any) -> Any:
    """The int that the C function at an address returns for two pointers."""
    return types.int32(function, a, b), _call


@_intrinsic
def _call4(context: Any, function: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """As _call2, for pointer, pointer, int and pointer."""
    return types.int32(function, a, b, c, d), _call


def _call(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    kind = ir.FunctionType(ir.IntType(32), [a.type for a in args[1:]])
    return builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])


@exact
def run_rows(rows, first, last, call, bases):
    """Run calls first … last - 1 of a table (onednn_library_cpu.py), `call` being the addresses of the stream and of
    two functions; the status of the first that fails, or 0."""
    for i in range(first, last):
        if rows[i, 0] == 0:
            near, turn = bases[rows[i, 1]] + rows[i, 2], rows[i, 3]
            if turn:
                turned_rows(near, rows[i, 4], rows[i, 5], rows[i, 6], rows[i, 7])
            else:
                padded_rows(near, rows[i, 4], rows[i, 5], rows[i, 6], rows[i, 7])
            continue
        for j in range(rows[i, 1]):
            _call2(call[2], rows[i, 3 + 3 * j], bases[rows[i, 4 + 3 * j]] + rows[i, 5 + 3 * j])
        status = _call4(call[1], rows[i, 0], call[0], np.int32(rows[i, 1]), rows[i, 2])
        if status != 0:
            return status
    return np.int32(0)


@exact
def _run_rows(rows, call, bases, caller):
    _put(caller, FREE)
    return run_rows(rows, 0, len(rows), call, bases)


YIELD = ctypes.cast(ctypes.CDLL(None).sched_yield, ctypes.c_void_p).value or 0 if os.name == "posix" else 0
"""The address of a function that lets other threads have the processor; 0 where there is none."""
_PATIENT = 2000


@exact
def wait_for_all(arrived, first, last, value, rest):
    """Say that parts first … last - 1 have come to `value`, and wait until all have; arrived int64 [parts, 8]. `rest`
    is YIELD: an address that is not to be compiled in."""
    for part in range(first, last):
        _put(arrived[part], value)
    looks = 0
    for part in range(len(arrived)):
        while _look(arrived[part]) < value:
            looks += 1
            if rest != 0 and looks % _PATIENT == 0:
                _call2(rest, 0, 0)


fork_locks.append(global_compiler_lock)
pool_cpu.spin[:] = [_spin, _stand_by]
onednn_library_cpu.run_rows[:] = [_run_rows]
onednn_library_cpu.turns[:] = [True]


@inlined
def exp32(x):
    """e**x in float32, within 1 unit in the last place down to -20: x = n log 2 + r, a polynomial of degree 6
    in r, and n in the exponent."""
    n = np.floor(x * EXP[0] + np.float32(0.5))
    r = (x - n * EXP[1]) - n * EXP[2]
    p = EXP[3]
    p = p * r + EXP[4]
    p = p * r + EXP[5]
    p = p * r + EXP[6]
    p = p * r + EXP[7]
    p = p * r + EXP[8]
    p = p * r * r + r + np.float32(1.0)
    inside = x > np.float32(-87.0)
    bits = (np.int32(n if inside else np.float32(0.0)) + np.int32(127)) << np.int32(23)
    y = p * np.int32(bits).view(np.float32)
    return y if inside or x != x else np.float32(0.0)


@inlined
def bits16(x):
    """The bits of a float32 number rounded to bfloat16, to nearest and ties to even, as int32 of which 16 count."""
    bits = np.float32(x).view(np.int32)
    rounded = (bits + np.int32(0x7FFF) + ((bits >> np.int32(16)) & np.int32(1))) >> np.int32(16)
    return rounded if x == x else np.int32(0x7FC0)


@inlined
def sigmoid32(x):
    """1 / (1 + e**-x) in float32, small values with all their digits."""
    e = exp32(-abs(x))
    return (np.float32(1.0) if x > np.float32(0.0) else e) / (np.float32(1.0) + e)


@inlined
def tanh32(x):
    """tanh in float32: an odd polynomial (least squares in the relative error) up to 0.6, by exp beyond."""
    a, z = abs(x), x * x
    p = np.float32(-5.8310695e-3)
    p = p * z + np.float32(2.0744130e-2)
    p = p * z + np.float32(-5.3769472e-2)
    p = p * z + np.float32(1.3331768e-1)
    p = p * z + np.float32(-3.3333293e-1)
    e = exp32(-np.float32(2.0) * a)
    far = (np.float32(1.0) - e) / (np.float32(1.0) + e)
    y = a + a * z * p if a < np.float32(0.6) else far
    return y if x > np.float32(0.0) else -y


@inlined
def largest(row):
    """The largest element, NaN left out; -inf of none. Eight running maxima: one alone waits for itself."""
    a = b = c = d = e = f = g = h = np.float32(-np.inf)
    whole = row.size - row.size % 8
    for j in range(0, whole, 8):
        a = row[j] if row[j] > a else a
        b = row[j + 1] if row[j + 1] > b else b
        c = row[j + 2] if row[j + 2] > c else c
        d = row[j + 3] if row[j + 3] > d else d
        e = row[j + 4] if row[j + 4] > e else e
        f = row[j + 5] if row[j + 5] > f else f
        g = row[j + 6] if row[j + 6] > g else g
        h = row[j + 7] if row[j + 7] > h else h
    for j in range(whole, row.size):
        a = row[j] if row[j] > a else a
    return max(max(max(a, b), max(c, d)), max(max(e, f), max(g, h)))


SPAN = 256
"""Elements that a kernel computes into a buffer of its own and then copies to where they belong."""


@inlined
def copy(source, target):
    """The first elements of `source` into `target`. Where an output may lie where an input lies, a loop that writes it
    straight away is not vectorised: its writes might meet its reads. Three to five times as slow as buffer and copy."""
    for i in range(target.size):
        target[i] = source[i]


TILE = 64
"""Philox blocks made together: 512 draws of 16 bits."""


@inlined
def philox_block(b, seed, offset):
    """The four words of block b, in two numbers. Every value is 32 bits in a 64-bit lane: so the compiler makes vector
    instructions of many blocks."""
    mask, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    a0, a1, a2, a3 = b & mask, b >> half, offset & mask, offset >> half
    k0, k1 = seed & mask, seed >> half
    for _ in range(10):
        p0, p1 = a0 * np.uint64(0xD2511F53), a2 * np.uint64(0xCD9E8D57)
        a0, a2 = (p1 >> half) ^ a1 ^ k0, (p0 >> half) ^ a3 ^ k1
        a1, a3 = p1 & mask, p0 & mask
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & mask, (k1 + np.uint64(0xBB67AE85)) & mask
    return a0 | (a1 << half), a2 | (a3 << half)


@kernel
def philox_tile(first_block, seed, offset, words):
    """The words of blocks first_block … first_block + TILE - 1 into words[TILE * 4]."""
    pairs = words.view(np.uint64)
    for j in range(TILE):
        pairs[2 * j], pairs[2 * j + 1] = philox_block(first_block + np.uint64(j), seed, offset)


def generated(source: str) -> Any:
    """The function `loop` of a source, compiled without fast-math at its first call.

    Compiled code is kept by file and function, so both get a name of their own. There is no such file; its lines are
    told, or those of this module would be taken for them (numba notes them, and Python 3.13 fails there)."""
    name = f"loop_{hashlib.sha256(source.encode()).hexdigest()[:16]}"
    source = source.replace("def loop(", f"def {name}(")
    linecache.cache[f"{name}.py"] = (len(source), None, source.splitlines(keepends=True), f"{name}.py")
    space: dict[str, Any] = {"__name__": __name__}
    exec(compile(source, f"{name}.py", "exec"), space)
    return _compiled(space[name])
