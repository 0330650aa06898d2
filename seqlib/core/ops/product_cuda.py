"""Matrix products on the GPU through cuBLASLt: one plan for each shape, layout and dtype, with the algorithm that it
uses. A planned product allocates nothing and can be captured in a CUDA graph.

cuBLASLt is column-major: a row-major product C = A B is computed as Cᵀ = Bᵀ Aᵀ, so its first operand is our B.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import platformdirs

from seqlib.core.backends.cuda import cuda
from seqlib.util.atomic import write_json

WORKSPACE = 32 << 20
"""Bytes of the one workspace that all products share; they run one after the other on one stream."""
CANDIDATES = 8
LARGE = 1 << 27
"""Multiplications from which on the algorithms are measured."""
APART = -1
"""The choice of several launches in the place of one with an epilogue."""

Launch = Callable[[], None]

_REAL = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 14}  # cudaDataType
_COMPUTE = {"float32": 68, "float64": 70, "tf32": 77}  # cublasComputeType


class Operand(NamedTuple):
    """A matrix as it lies: `transposed` if its columns are contiguous, rows (or columns) `lead` apart, matrices of a
    batch `step` apart."""

    dtype: str
    transposed: bool
    lead: int
    step: int


class Key(NamedTuple):
    m: int
    n: int
    k: int
    batch: int
    a: Operand
    b: Operand
    out: Operand
    accumulate: bool
    tf32: bool
    epilogue: str = "DEFAULT"  # what else is done: one of cublasLtEpilogue_t


def operand(x: Any, transposed: bool) -> Operand | None:
    """How the last two axes of x (read transposed or not) lie, for a batch on at most one axis; None for a layout
    that products can't read in place."""
    rows, columns = x.strides[-2] // x.itemsize, x.strides[-1] // x.itemsize
    step = x.strides[0] // x.itemsize if x.ndim == 3 and x.shape[0] > 1 else 0
    height, width = x.shape[-2:]
    if columns == 1 or width == 1:
        lead, flipped = (rows if height > 1 else width), False
    elif rows == 1 or height == 1:
        lead, flipped = columns, True
    else:
        return None
    if lead < (height if flipped else width):
        return None
    return Operand(np.dtype(x.dtype).name, flipped != transposed, lead, step)


@lru_cache(maxsize=1)
def _library() -> tuple[Any, int, Any]:
    from nvmath.bindings import cublasLt  # pyright: ignore[reportMissingImports]

    with cuda().stream:
        workspace = cuda().xp.empty(WORKSPACE, np.uint8)
    return cublasLt, cublasLt.create(), workspace


class Product:
    """A planned product: out = A B, or out += A B when the key says `accumulate`."""

    def __init__(self, key: Key) -> None:
        lt, handle, workspace = _library()
        self.key = key
        self._lt, self._handle, self._workspace = lt, handle, workspace.data.ptr
        double = key.out.dtype == "float64"
        scalar = np.float64 if double else np.float32
        self._alpha, self._beta = np.array(1, scalar), np.array(int(key.accumulate), scalar)
        compute = _COMPUTE["float64" if double else "tf32" if key.tf32 else "float32"]
        self._desc = lt.matmul_desc_create(compute, _REAL["float64" if double else "float32"])
        for name, x in (("TRANSA", key.b), ("TRANSB", key.a)):
            self._set(lt.MatmulDescAttribute[name], int(x.transposed))
        if key.epilogue != "DEFAULT":
            self._set(lt.MatmulDescAttribute.EPILOGUE, int(lt.Epilogue[key.epilogue]))
            self._point(self._workspace, self._workspace)
        self._a = self._layout(key.b, key.n, key.k)
        self._b = self._layout(key.a, key.k, key.m)
        self._d = self._layout(key.out, key.n, key.m)
        self.algorithms = self._heuristics()
        self.choice: int | None = None  # not measured yet

    def _set(self, attribute: Any, value: int) -> None:
        held = np.array(value, self._lt.get_matmul_desc_attribute_dtype(attribute))
        self._lt.matmul_desc_set_attribute(self._desc, attribute, held.ctypes.data, held.itemsize)

    def _point(self, vector: int, aux: int) -> None:
        """Where the vector and the matrix beside the result are, of the epilogues that have them."""
        has = self._lt.MatmulDescAttribute
        if any(word in self.key.epilogue for word in ("BIAS", "BGRAD")):
            self._set(has.BIAS_POINTER, vector)
        if any(word in self.key.epilogue for word in ("AUX", "DGELU")):
            self._set(has.EPILOGUE_AUX_POINTER, aux)
            self._set(has.EPILOGUE_AUX_LD, self.key.n)

    def _layout(self, x: Operand, rows: int, columns: int) -> int:
        """The column-major layout of an operand that is `rows` by `columns` once it is read as the product wants it."""
        if x.transposed:
            rows, columns = columns, rows
        lt = self._lt
        layout = lt.matrix_layout_create(_REAL[x.dtype], rows, columns, x.lead)
        if self.key.batch > 1:
            for name, value in (("BATCH_COUNT", self.key.batch), ("STRIDED_BATCH_OFFSET", x.step)):
                attribute = lt.MatrixLayoutAttribute[name]
                held = np.array(value, lt.get_matrix_layout_attribute_dtype(attribute))
                lt.matrix_layout_set_attribute(layout, attribute, held.ctypes.data, held.itemsize)
        return layout

    def _heuristics(self) -> Any:
        lt = self._lt
        preference = lt.matmul_preference_create()
        attribute = lt.MatmulPreferenceAttribute.MAX_WORKSPACE_BYTES
        held = np.array(WORKSPACE, lt.get_matmul_preference_attribute_dtype(attribute))
        lt.matmul_preference_set_attribute(preference, attribute, held.ctypes.data, held.itemsize)
        found, count = lt.MatmulHeuristicResult(CANDIDATES), np.zeros(1, np.int32)
        with suppress(lt.cuBLASLtError):  # it has none
            lt.matmul_algo_get_heuristic(
                self._handle, self._desc, self._a, self._b, self._d, self._d, preference, CANDIDATES, found.ptr,
                count.ctypes.data,
            )  # fmt: skip
        lt.matmul_preference_destroy(preference)
        return [np.array(found[i]["algo"]) for i in range(int(count[0])) if i == 0 or not found[i]["state"]]

    def run(
        self, a: int, b: int, out: int, stream: int, vector: int = 0, aux: int = 0, apart: Launch | None = None
    ) -> None:
        """Compute on the arrays at these addresses. The first run outside of a graph measures the algorithms, and
        `apart`, which does the same in several launches.
        """
        self._point(vector, aux)
        ways = [partial(self._run, choice, a, b, out, stream) for choice in range(len(self.algorithms))]
        ways += [] if apart is None else [apart]
        if not ways:
            raise RuntimeError(f"cuBLASLt has no algorithm for {self.key}")
        if self.choice is None and not cuda().stream.is_capturing():
            small = self.key.m * self.key.n * self.key.k * self.key.batch < LARGE
            known = 0 if small else self._known()
            known = 0 if known is None and self.key.accumulate else known  # measuring would add again and again
            self.choice = self._measured(ways) if known is None else known
            _used[self._name()] = self.choice
        ways[self.choice or 0]()

    def _run(self, choice: int, a: int, b: int, out: int, stream: int) -> None:
        self._lt.matmul(
            self._handle, self._desc, self._alpha.ctypes.data, b, self._a, a, self._b, self._beta.ctypes.data, out,
            self._d, out, self._d, self.algorithms[choice].ctypes.data, self._workspace, WORKSPACE, stream,
        )  # fmt: skip

    def _name(self) -> str:
        """What the table of choices calls this plan. Adding to what is there changes nothing."""
        device = cuda().xp.cuda.runtime.getDeviceProperties(cuda().xp.cuda.Device().id)["name"].decode()
        return f"{device} cuBLASLt {self._lt.get_version()} {tuple(self.key._replace(accumulate=False))}"

    def _known(self) -> int | None:
        choice = _choices().get(self._name())
        return choice if choice is not None and choice < len(self.algorithms) else None

    def _measured(self, ways: Sequence[Launch]) -> int:
        """The fastest of the algorithms and what may follow them, in a graph of 10 runs; the library's first guess
        unless another is 3 % faster."""
        times = [self._time(way) for way in ways]
        best = int(np.argmin(times))
        best = best if times[best] < 0.97 * times[0] else 0
        best = APART if best == len(self.algorithms) else best
        _choices()[self._name()] = best
        with suppress(OSError):  # a cache that can't be written to
            _table().parent.mkdir(parents=True, exist_ok=True)
            write_json(_table(), _choices())
        return best

    def _time(self, way: Launch) -> float:
        cp, on = cuda().xp.cuda, cuda().stream
        try:
            way()
        except self._lt.cuBLASLtError:  # not for these addresses
            return float("inf")
        on.begin_capture()
        try:
            for _ in range(10):
                way()
        finally:
            graph = on.end_capture()
        found: list[float] = []
        for _ in range(3):
            start, end = cp.Event(), cp.Event()
            start.record(on)
            graph.launch(on)
            end.record(on)
            end.synchronize()
            found.append(cp.get_elapsed_time(start, end))
        return min(found)


def _table() -> Path:
    """Where measured choices are kept."""
    return Path(os.environ.get("SEQLIB_CACHE") or platformdirs.user_cache_dir("seqlib")) / "products.json"


@lru_cache(maxsize=1)
def _choices() -> dict[str, int]:
    """The number of the chosen algorithm by the name of a plan; empty when the table is not there or damaged."""
    try:
        found = json.loads(_table().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    whole = found.items() if isinstance(found, dict) else ()
    return {name: n for name, n in whole if isinstance(n, int) and n >= APART}


_used: dict[str, int] = {}


def used_choices() -> dict[str, int]:
    """What the products of this process chose, by the names of their plans."""
    return dict(_used)


def prefer_choices(known: Mapping[str, int]) -> None:
    """Let plans choose what they chose before (`used_choices`), whatever the table says: results have the same bits."""
    _choices().update(known)


@cache
def planned(key: Key) -> Product:
    """The plan for a key, made once in a process."""
    return Product(key)


def product(
    a: Any, b: Any, out: Any, transpose_a: bool = False, transpose_b: bool = False, accumulate: bool = False,
    tf32: bool = False, epilogue: str = "DEFAULT", vector: Any = None, aux: Any = None, apart: Launch | None = None,
) -> None:  # fmt: skip
    """out = a b (or out += a b) over the last two axes, batched with broadcasting; operands may be strided views of one
    dtype; out may be wider than they are. With an `epilogue` they are matrices, and it reads or writes a `vector` of
    out's dtype, and the contiguous matrix `aux` in out's shape; `apart`, if given, does all of it in several launches.
    """
    if out.size == 0:
        return
    inner = a.shape[-2] if transpose_a else a.shape[-1]
    if inner == 0:
        if not accumulate:
            out.fill(0)
        return
    batch = out.shape[:-2]
    if len(batch) > 1 and a.shape[:-2] == b.shape[:-2] == batch and all(x.flags.c_contiguous for x in (a, b, out)):
        a, b, out = (x.reshape(-1, *x.shape[-2:]) for x in (a, b, out))
        batch = out.shape[:-2]
    if len(batch) > 1 or (batch and batch[0] == 1):
        xp = cuda().xp
        wide = [xp.broadcast_to(x, batch + x.shape[-2:]) for x in (a, b)]
        for index in np.ndindex(*batch[:-1] if batch[-1] > 1 else batch):
            product(wide[0][index], wide[1][index], out[index], transpose_a, transpose_b, accumulate, tf32)
        return
    found = [operand(a, transpose_a), operand(b, transpose_b), operand(out, False)]
    if found[2] is None or found[2].transposed:
        raise AssertionError("a product's result is written row by row")
    for i, x in enumerate((a, b)):
        if found[i] is None:  # no in-place layout: copied, outside of captured graphs only
            copied = cuda().xp.ascontiguousarray(x)
            a, b = (copied, b) if i == 0 else (a, copied)
            found[i] = operand(copied, (transpose_a, transpose_b)[i])
    m, n = out.shape[-2:]
    key = Key(m, n, inner, batch[0] if batch else 1, *found, accumulate, tf32, epilogue)  # type: ignore[arg-type]
    at, beside = (0 if x is None else x.data.ptr for x in (vector, aux))
    planned(key).run(a.data.ptr, b.data.ptr, out.data.ptr, cuda().stream.ptr, at, beside, apart)
