"""Elementwise expressions as CUDA kernels: one generated loop for a plan, the dtypes of its arrays and the width of its
accesses (include/elementwise.cuh). Steps are not contracted to fused multiply-adds, so fusion changes no value.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from seqlib.core import dtypes
from seqlib.core.backends.base import Bound
from seqlib.core.backends.cuda import aligned, generated, grid, name_of
from seqlib.core.backends.stream_cuda import pieces, place
from seqlib.core.ops.expression import Plan

_DIMS = 6
_CHUNK = 4096  # elements that a block of a joined launch owns
_SMALL = 1 << 20  # elements of a result from which on a launch of its own, with wider accesses, is faster
_PARAMETERS = 4000  # bytes that a kernel's parameters may have
_INFIX = {
    "add": "+",
    "subtract": "-",
    "multiply": "*",
    "divide": "/",
    "equal": "==",
    "not_equal": "!=",
    "less": "<",
    "less_equal": "<=",
    "greater": ">",
    "greater_equal": ">=",
    "logical_and": "&&",
    "logical_or": "||",
}
_NAMES = {"power": "pow", "abs": "absolute"}
_NAMES_16 = {**_NAMES, "tanh": "tanh16", "exp": "__expf"}
"""What functions are called where all results have 16 bits."""


def _step(fn: str, args: Sequence[str], compute: str, names: dict[str, str]) -> str:
    if fn in _INFIX:
        return f"{args[0]} {_INFIX[fn]} {args[1]}"
    if fn == "where":
        return f"{args[0]} ? {args[1]} : {args[2]}"
    if fn in ("negative", "logical_not"):
        return f"{'-' if fn == 'negative' else '!'}{args[0]}"
    if fn == "number":
        return f"{compute}({args[0]})"
    return f"{names.get(fn, fn)}({', '.join(args)})"


def _body(plan: Plan, compute: str, names: dict[str, str]) -> list[str]:
    """The steps as C++ statements on the inputs x0, x1, … and the storages s0, s1, …"""

    def text(argument: Any) -> str:
        if isinstance(argument, tuple):
            return f"{'x' if argument[0] == 'in' else 's'}{argument[1]}"
        if compute == "float":
            return f"{float(argument)!r}f" if np.isfinite(argument) else ("INF" if argument > 0 else "-INF")
        return f"{compute}({'INF' if argument > 0 else '-INF'})" if np.isinf(argument) else f"{compute}({argument!r})"

    declared = [f"{'bool' if s in plan.masks else compute} s{s};" for s in range(plan.storages)]
    steps = [(step.target, _step(step.fn, [*map(text, step.args)], compute, names)) for step in plan.steps]
    return declared + [f"s{target} = {value};" for target, value in steps]


@cache
def source(
    plan: Plan, types: tuple[str, ...], outs: tuple[str | None, ...], compute: str, width: int, big: bool = False
) -> str:
    """A kernel for inputs of these types; None for a result that nobody needs; `width` elements a thread. `big`: there
    may be 2^31 elements or more."""
    n, index = len(types), "i64" if big else "int"
    names = _NAMES_16 if all(t in ("bf16", "f16", None) for t in outs) else _NAMES
    given = [(o, t) for o, t in enumerate(outs) if t is not None]
    arguments = [f"{t}* y{o}" for o, t in given] + [f"const {t}* a{i}" for i, t in enumerate(types)]
    lines = [
        '#include "elementwise.cuh"',
        f"constexpr int V = {width};",
        f'extern "C" __global__ void elementwise({", ".join(arguments)}, Walk<{n}> w) {{',
        f"    {index} chunk = {index}(blockIdx.x) * blockDim.x + threadIdx.x;",
        f"    if (chunk >= {index}(w.chunks)) return;",
        f"    {index} row = w.dims > 1 ? chunk / {index}(w.per_row) : 0;",
        f"    {index} inner = (chunk - row * {index}(w.per_row)) * V;",
        f"    i64 at = row * w.last + inner, offset[{max(n, 1)}];",
        "    locate(w, row, inner, offset);",
        "    int count = w.last - inner < V ? int(w.last - inner) : V;",
    ]
    for i, t in enumerate(types):
        stride = f"w.stride[{i}][w.dims - 1]"
        lines.append(f"    {t} v{i}[V]; fetch<{t}, V>(v{i}, a{i}, offset[{i}], {stride}, count);")
    lines += [f"    Pack<{t}, V> p{o};" for o, t in given]
    lines += ["#pragma unroll", "    for (int j = 0; j < V; ++j) if (j < count) {"]
    for i, t in enumerate(types):
        inside = "bool" if t == "bool" else compute
        lines.append(f"        {inside} x{i} = as<{inside}>(v{i}[j]);")
    lines += [f"        {line}" for line in _body(plan, compute, names)]
    for o, t in given:
        lines.append(f"        p{o}.at[j] = " + (f"s{o};" if o in plan.masks else f"put<{t}, {compute}>(s{o});"))
    lines.append("    }")
    for o, t in given:
        lines.append(f"    if (V > 1 && count == V) *reinterpret_cast<Pack<{t}, V>*>(y{o} + at) = p{o};")
        lines.append(f"    else for (int j = 0; j < V; ++j) if (j < count) y{o}[at + j] = p{o}.at[j];")
    lines.append("}")
    return "\n".join(lines) + "\n"


def compute_type(ins: Sequence[Any], outs: Sequence[Any]) -> str:
    """float for 16- and 32-bit floats, double with a float64; for integers the widest of them; bool for bools alone."""
    found = [a.dtype for a in (*ins, *outs)]
    if any(dtypes.is_float(d) for d in found):
        return "double" if dtypes.float64 in found else "float"
    return "i64" if dtypes.int64 in found else "int" if dtypes.int32 in found else "bool"


def collapse(shape: tuple[int, ...], strides: Sequence[Sequence[int]]) -> tuple[list[int], list[list[int]]]:
    """The same walk in fewer dimensions: neighbours that every operand steps through evenly are one."""
    sizes: list[int] = []
    steps: list[list[int]] = [[] for _ in strides]
    for d, size in enumerate(shape):
        if size == 1:
            continue
        even = sizes and all(s[-1] == own[d] * size for s, own in zip(steps, strides, strict=True))
        if even:
            sizes[-1] *= size
            for s, own in zip(steps, strides, strict=True):
                s[-1] = own[d]
        else:
            sizes.append(size)
            for s, own in zip(steps, strides, strict=True):
                s.append(own[d])
    if not sizes:
        return [1], [[0] for _ in strides]
    return sizes, steps


@cache
def _walk_type(inputs: int) -> np.dtype[Any]:
    fields = [("chunks", "i8"), ("last", "i8"), ("per_row", "i8"), ("dims", "i4"), ("size", "i4", (_DIMS,))]
    return np.dtype([*fields, ("stride", "i8", (inputs, _DIMS))], align=True)  # type: ignore[call-overload]


def _element_strides(x: Any, shape: tuple[int, ...]) -> list[int]:
    """The strides of x broadcast to `shape`, in elements."""
    own = [0] * (len(shape) - x.ndim) + [s // x.itemsize for s in x.strides]
    sizes = (1,) * (len(shape) - x.ndim) + x.shape
    return [0 if size == 1 else s for size, s in zip(sizes, own, strict=True)]


class Loops:
    """The CUDA kernel of a plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def __call__(self, outs: Sequence[Any], ins: Sequence[Any], _: Sequence[Any] = ()) -> None:
        given = [o for o in outs if o is not None]
        shape = given[0].shape
        if given[0].size == 0:
            return
        sizes, steps = collapse(shape, [_element_strides(x, shape) for x in ins])
        if len(sizes) > _DIMS:
            raise AssertionError(f"elementwise: more than {_DIMS} dimensions that can't be merged: {shape}")
        compute = compute_type(ins, given)
        width = _width(given, ins, sizes, steps)
        names = tuple(None if o is None else name_of(o) for o in outs)
        text = source(self.plan, tuple(name_of(x) for x in ins), names, compute, width, given[0].size >= 1 << 30)
        walk = np.zeros((), _walk_type(len(ins)))
        walk["chunks"] = -(-sizes[-1] // width) * int(np.prod(sizes[:-1], dtype=np.int64))
        walk["last"], walk["per_row"], walk["dims"] = sizes[-1], -(-sizes[-1] // width), len(sizes)
        walk["size"][: len(sizes)] = sizes
        walk["stride"][:, : len(sizes)] = steps
        kernel = generated(text, "elementwise", ("--fmad=false",))
        kernel(grid(int(walk["chunks"]), 256), (256,), (*given, *ins, walk))

    def several(self, launches: Sequence[Bound]) -> None:
        """Launches of which none needs what another writes, those over small whole arrays as one."""
        alike: dict[Any, list[Bound]] = {}
        for launch in launches:
            alike.setdefault(_joins(launch[1], launch[2]), []).append(launch)
        for key, found in alike.items():
            if key is None or len(found) == 1:
                for _, outs, ins, *_ in found:
                    self(outs, ins)
                continue
            rows = [[x for x in (*launch[1], *launch[2]) if x is not None] for launch in found]
            count, kernel = len(rows[0]), generated(joined_source(self.plan, *key), "elementwise", ("--fmad=false",))
            room = _room(count)
            fields = [("at", "u8", (count, room)), ("size", "i8", room), ("first", "i4", room)]
            for piece in pieces(rows, room):
                struct = np.zeros((), np.dtype(fields, align=True))
                struct["at"][:, : len(piece)] = np.array([[x.data.ptr for x in row] for row in piece], np.uint64).T
                kernel((place(struct, [row[0].size for row in piece], _CHUNK),), (256,), (struct,))


def _width(outs: Sequence[Any], ins: Sequence[Any], sizes: Sequence[int], steps: Sequence[Sequence[int]]) -> int:
    """Elements a thread: as many as one access of 16 bytes moves, 1 where rows don't allow it."""
    width = 16 // max(x.itemsize for x in (*outs, *ins))
    if width == 1 or sizes[-1] < width or (len(sizes) > 1 and sizes[-1] % width):
        return 1
    for x, own in zip(ins, steps, strict=True):
        if own[-1] not in (0, 1) or (own[-1] == 1 and any(s % width for s in own[:-1])):
            return 1
        if own[-1] == 1 and not aligned(x, nbytes=width * x.itemsize):
            return 1
    return width if all(aligned(o, nbytes=width * o.itemsize) for o in outs) else 1


# -- several launches of one plan in one


def joined_source(
    plan: Plan, types: tuple[str, ...], outs: tuple[str | None, ...], whole: Sequence[bool], compute: str
) -> str:
    """A kernel over several groups of arrays, each group as long as its results; an input that is not `whole` has one
    element."""
    names = _NAMES_16 if all(t in ("bf16", "f16", None) for t in outs) else _NAMES
    given = [(o, t) for o, t in enumerate(outs) if t is not None]
    arrays = [(f"y{o}", t) for o, t in given] + [(f"a{i}", t) for i, t in enumerate(types)]
    lines = [
        '#include "elementwise.cuh"',
        f"struct All {{ void* at[{len(arrays)}][{_room(len(arrays))}]; i64 size[{_room(len(arrays))}];",
        f"    int first[{_room(len(arrays))}]; }};",
        'extern "C" __global__ void elementwise(const __grid_constant__ All all) {',
        "    int t = owner(all.first, blockIdx.x);",
        f"    i64 start = i64(blockIdx.x - all.first[t]) * {_CHUNK}, end = min(start + {_CHUNK}, all.size[t]);",
        *(f"    {t}* {name} = reinterpret_cast<{t}*>(all.at[{k}][t]);" for k, (name, t) in enumerate(arrays)),
        "#pragma unroll 4",
        "    for (i64 j = start + threadIdx.x; j < end; j += blockDim.x) {",
    ]
    for i, t in enumerate(types):
        inside = "bool" if t == "bool" else compute
        lines.append(f"        {inside} x{i} = as<{inside}>(a{i}[{'j' if whole[i] else '0'}]);")
    lines += [f"        {line}" for line in _body(plan, compute, names)]
    for o, t in given:
        lines.append(f"        y{o}[j] = " + (f"s{o};" if o in plan.masks else f"put<{t}, {compute}>(s{o});"))
    return "\n".join([*lines, "    }", "}"]) + "\n"


def _room(arrays: int) -> int:
    """Groups of so many arrays that fit into the parameters of a launch."""
    return _PARAMETERS // (8 * arrays + 12)


def _joins(outs: Sequence[Any], ins: Sequence[Any]) -> Any:
    """What launches that may be joined have in common; None for one that stays alone."""
    given = [o for o in outs if o is not None]
    first = given[0]
    if not 0 < first.size < _SMALL or not all(x.flags.c_contiguous for x in (*given, *ins)):
        return None
    whole = tuple(x.shape == first.shape for x in ins)
    if not all(full or x.size == 1 for full, x in zip(whole, ins, strict=True)):
        return None
    types = tuple(name_of(x) for x in ins), tuple(None if o is None else name_of(o) for o in outs)
    return *types, whole, compute_type(ins, given)
