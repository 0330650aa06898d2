"""Pieces of LLVM code that numba kernels are put together from where every addition must stand in its place: vectors of
LANES numbers, loops, and sums whose order follows from the code alone, on every processor that has as many lanes."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, cast

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

FEATURES = {name for name, there in llvmlite.binding.get_host_cpu_features().items() if there}
LANES = 16 if "avx512f" in FEATURES else 8


EXP = tuple(
    np.float32(value)
    for value in (
        1.44269504, 0.693359375, -2.12194440e-4,  # 1 / log 2; log 2 in two parts
        1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1,
    )
)  # fmt: skip

F32, BIT, BYTE, INT, LONG = ir.FloatType(), ir.IntType(1), ir.IntType(8), ir.IntType(32), ir.IntType(64)
FLOATS, INTS = ir.VectorType(F32, LANES), ir.VectorType(INT, LANES)
HALVES = ir.VectorType(ir.IntType(16), LANES)


def function(emit: Callable[..., None]) -> Any:
    """Decorator: `emit(builder, *arguments)` as a function of 64-bit integers for numba kernels."""
    names = [name for i, name in enumerate(inspect.signature(emit).parameters.values()) if i]

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        emit(builder, *args)
        return context.get_dummy_value()

    def typed(context: Any, *args: Any) -> Any:
        return types.void(*[types.int64] * len(args)), code

    context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    made: Any = intrinsic
    cast("Any", typed).__signature__ = inspect.Signature([context, *names])
    return made(typed)


def long(value: int) -> Any:
    return ir.Constant(LONG, value)


def zeros(kind: Any) -> Any:
    return ir.Constant(kind, [0] * kind.count)


def at(builder: Any, base: Any, *pairs: tuple[Any, Any]) -> Any:
    """base + Σ index · bytes, each a 64-bit integer or an int."""
    for index, nbytes in pairs:
        index, nbytes = (x if hasattr(x, "type") else long(x) for x in (index, nbytes))
        base = builder.add(base, builder.mul(index, nbytes))
    return base


def load(builder: Any, address: Any, kind: Any, mask: Any = None) -> Any:
    """What lies at an address, which is a multiple of 4 at least; 0 where a `mask` is false, where nothing is read."""
    place = builder.inttoptr(address, kind.as_pointer())
    if mask is not None:
        name = f"llvm.masked.load.v{kind.count}{_short(kind)}.p0"
        return builder.call(_outside(builder, name, kind, (place.type, mask.type, kind)), [place, mask, zeros(kind)])
    found = builder.load(place)
    found.align = 2 if kind == HALVES else 4
    return found


def store(builder: Any, value: Any, address: Any, mask: Any = None) -> None:
    """The counterpart of `load`."""
    place = builder.inttoptr(address, value.type.as_pointer())
    if mask is not None:
        name = f"llvm.masked.store.v{value.type.count}{_short(value.type)}.p0"
        kinds = (value.type, place.type, INT, mask.type)
        builder.call(_outside(builder, name, ir.VoidType(), kinds), [value, place, ir.Constant(INT, 4), mask])
        return
    builder.store(value, place).align = 4


def _short(kind: Any) -> str:
    return "f32" if kind.element == F32 else "i32"


def _outside(builder: Any, name: str, result: Any, kinds: Sequence[Any]) -> Any:
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, kinds), name)


def call(builder: Any, name: str, *args: Any) -> Any:
    """An instruction of LLVM that takes and gives values of one kind."""
    kinds = [value.type for value in args]
    return builder.call(_outside(builder, name, kinds[0], kinds), args)


def call_for(builder: Any, address: Any) -> None:
    """Have what lies at an address, which need not be ours, brought to the cache meanwhile."""
    place = builder.inttoptr(address, BYTE.as_pointer())
    how = [ir.Constant(INT, value) for value in (0, 2, 1)]  # to read; to the second level; data
    builder.call(_outside(builder, "llvm.prefetch.p0", ir.VoidType(), (place.type, INT, INT, INT)), [place, *how])


def spread_out(builder: Any, value: Any, lanes: int = LANES) -> Any:
    """A vector of `lanes` times one number."""
    kind = ir.VectorType(value.type, lanes)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(INT, 0))
    return builder.shuffle_vector(one, one, zeros(ir.VectorType(INT, lanes)))


def first(builder: Any, count: Any, lanes: int = LANES) -> Any:
    """The mask of the first `count` lanes."""
    steps = ir.Constant(ir.VectorType(LONG, lanes), list(range(lanes)))
    return builder.icmp_signed("<", steps, spread_out(builder, count, lanes))


def repeat(builder: Any, count: Any, body: Callable[[Any], None]) -> None:
    """body(i) for i from 0 to count - 1."""
    with cgutils.for_range(builder, count) as loop:
        body(loop.index)


def over(builder: Any, count: Any, body: Callable[..., None]) -> None:
    """body(i) for each whole vector i of `count` numbers, then body(i, mask) for what is left, if anything is."""
    whole, rest = builder.udiv(count, long(LANES)), builder.urem(count, long(LANES))
    repeat(builder, whole, body)
    with builder.if_then(builder.icmp_signed(">", rest, long(0))):
        body(whole, first(builder, rest))


def places(builder: Any, kind: Any, count: int) -> list[Any]:
    """Variables of a kind, which LLVM keeps in registers as far as there are any."""
    return [cgutils.alloca_once(builder, kind) for _ in range(count)]


def fused(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """a · b + c in float32, rounded once; twice by an x86 processor without such an instruction."""
    if "fma" in FEATURES or "sse2" not in FEATURES:
        return call(builder, f"llvm.fma.v{LANES}f32", a, b, c)
    return builder.fadd(builder.fmul(a, b), c)


def multiply_add(builder: Any, a: Any, b: Any, to: Any) -> None:
    """The variable `to` += a · b."""
    builder.store(fused(builder, a, b, builder.load(to)), to)


def exp(builder: Any, x: Any) -> Any:
    """exp32 of jit_cpu.py, of a vector."""

    def many(value: Any) -> Any:
        return ir.Constant(FLOATS, [float(value)] * LANES)

    n = call(builder, f"llvm.floor.v{LANES}f32", fused(builder, x, many(EXP[0]), many(0.5)))
    r = fused(builder, n, many(-EXP[2]), fused(builder, n, many(-EXP[1]), x))
    p = many(EXP[3])
    for factor in EXP[4:]:
        p = fused(builder, p, r, many(factor))
    p = builder.fadd(fused(builder, builder.fmul(p, r), r, r), many(1.0))
    inside = builder.fcmp_ordered(">", x, many(-87.0))
    whole = builder.fptosi(builder.select(inside, n, zeros(FLOATS)), INTS)
    bits = builder.shl(builder.add(whole, ir.Constant(INTS, [127] * LANES)), ir.Constant(INTS, [23] * LANES))
    y = builder.fmul(p, builder.bitcast(bits, FLOATS))
    return builder.select(builder.or_(inside, builder.fcmp_unordered("uno", x, x)), y, zeros(FLOATS))


def reduced(builder: Any, x: Any, combine: Callable[[Any, Any], Any]) -> Any:
    """One number made of a vector's, by halves."""
    step = LANES // 2
    while step:
        x = combine(x, builder.shuffle_vector(x, x, ir.Constant(INTS, [lane ^ step for lane in range(LANES)])))
        step //= 2
    return builder.extract_element(x, ir.Constant(INT, 0))


def turned(builder: Any, rows: Sequence[Any]) -> list[Any]:
    """The columns of LANES vectors."""
    rows, step = list(rows), 1
    while step < LANES:
        low = [lane if not lane & step else LANES + lane - step for lane in range(LANES)]
        for i in (i for i in range(LANES) if not i & step):
            pair = rows[i], rows[i + step]
            for j, far in ((i, 0), (i + step, step)):
                rows[j] = builder.shuffle_vector(*pair, ir.Constant(INTS, [lane + far for lane in low]))
        step *= 2
    return rows


def sums(builder: Any, vectors: Sequence[Any]) -> Any:
    """The sums over the lanes of each of the float32 vectors, a power of two of them and no more than there are lanes,
    as one vector: upper half to lower half, until one number is left. The order of a sum is the same for all."""
    width, parts, found = LANES, 1, list(vectors)
    while width > 1:
        width //= 2
        low = [part * 2 * width + lane for part in range(parts) for lane in range(width)]
        if len(found) > 1:
            parts *= 2
            low += [lane + LANES for lane in low]
            found = [_halves(builder, x, y, low, width) for x, y in zip(found[::2], found[1::2], strict=True)]
        else:
            found = [_halves(builder, found[0], found[0], low, width)]
    return found[0]


def _halves(builder: Any, x: Any, y: Any, low: list[int], width: int) -> Any:
    kind = ir.VectorType(INT, len(low))
    halves = (builder.shuffle_vector(x, y, ir.Constant(kind, [lane + far for lane in low])) for far in (0, width))
    return builder.fadd(*halves)
