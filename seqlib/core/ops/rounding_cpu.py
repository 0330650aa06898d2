"""Left operands of products rounded to bfloat16 with contiguous rows, as oneDNN multiplies them fastest, in LLVM code.
Rounding is to nearest, ties to even; NaN stays NaN.

K inner size; what is written has an inner size of a multiple of STEP, which is 32 where a processor has AVX-512 and so
bfloat16, filled up with zeros.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from seqlib.core.ops import vectors_cpu as v

STEP = 2 * v.LANES
"""What is done at once: so many numbers of a row or column in the inner size, LANES of the other."""


def _bits(b: Any, x: Any) -> Any:
    """Of each float32 the bits of its bfloat16, in the upper half of 32."""
    bits = b.bitcast(x, v.INTS)
    odd = b.and_(b.lshr(bits, _many(16)), _many(1))
    rounded = b.add(b.add(bits, _many(0x7FFF)), odd)
    return b.select(b.fcmp_unordered("uno", x, x), b.or_(bits, _many(0x400000)), rounded)


def _many(value: int) -> Any:
    return ir.Constant(v.INTS, [value] * v.LANES)


def _pair(b: Any, low: Any, high: Any) -> Any:
    """The numbers of two vectors in turn, 32 bits each two."""
    return b.or_(b.lshr(_bits(b, low), _many(16)), b.and_(_bits(b, high), _many(-65536)))


def _blocks(b: Any, inner: Any, other: Any, block: Callable[..., None]) -> None:
    """block(first of the inner size, first of the other, how many there are of each or None: all)."""

    def steps(count: Any, size: int, body: Callable[..., None]) -> None:
        whole, rest = b.udiv(count, v.long(size)), b.urem(count, v.long(size))
        v.repeat(b, whole, lambda i: body(b.mul(i, v.long(size)), None))
        with b.if_then(b.icmp_signed(">", rest, v.long(0))):
            body(b.mul(whole, v.long(size)), rest)

    def row(i: Any, some: Any) -> None:
        steps(other, v.LANES, lambda j, few: block(i, j, some, few))

    steps(inner, STEP, row)


def _both(b: Any, count: Any, i: int, mask: Any) -> Any:
    """A mask where i < count, nowhere else."""
    if count is None:
        return mask
    there = v.spread_out(b, b.icmp_signed(">", count, v.long(i)))
    return there if mask is None else b.and_(there, mask)


@v.function
def turned_rows(b, source, step, inner, height, target):
    """[height, K] with contiguous rows, from [K, height] with rows `step` bytes apart. There is room for the rows of a
    whole vector."""
    across = b.mul(b.udiv(b.add(inner, v.long(STEP - 1)), v.long(STEP)), v.long(2 * STEP))  # bytes of a row

    def block(i: Any, j: Any, some: Any, few: Any) -> None:
        near = v.at(b, source, (i, step), (j, 4))
        mask = None if few is None else v.first(b, few)
        read = [v.load(b, v.at(b, near, (step, t)), v.FLOATS, _both(b, some, t, mask)) for t in range(STEP)]
        pairs = [_pair(b, *read[t : t + 2]) for t in range(0, STEP, 2)]
        far = v.at(b, target, (i, 2), (j, across))
        for c, column in enumerate(v.turned(b, pairs)):
            v.store(b, column, v.at(b, far, (across, c)))

    _blocks(b, inner, height, block)


@v.function
def padded_rows(b, source, step, inner, height, target):
    """[height, K] with contiguous rows, from the same in float32 with rows `step` bytes apart."""
    across = b.mul(b.udiv(b.add(inner, v.long(STEP - 1)), v.long(STEP)), v.long(2 * STEP))

    def row(r: Any) -> None:
        near, far = v.at(b, source, (r, step)), v.at(b, target, (r, across))

        def vector(i: Any) -> None:
            there = v.first(b, b.sub(inner, b.mul(i, v.long(v.LANES))))  # of the last ones perhaps nothing
            x = v.load(b, v.at(b, near, (i, 4 * v.LANES)), v.FLOATS, there)
            v.store(b, b.trunc(b.lshr(_bits(b, x), _many(16)), v.HALVES), v.at(b, far, (i, 2 * v.LANES)))

        v.repeat(b, b.udiv(across, v.long(2 * v.LANES)), vector)

    v.repeat(b, height, row)
