"""What attention's numba kernels are made of: products of small matrices in tiles of registers, and what is done to
rows of scores, in vectors of LANES numbers. Arguments are addresses and counts; a `…_row` or `line` is in bytes.

Buffers of a kernel's own hold whole vectors: rows are filled up with zeros to LANES numbers, and there are as many rows
as whole tiles have. Every element of a product is added up in the order of its terms, whatever tile it is in.
"""

from typing import Any

from seqlib.core.ops import vectors_cpu as v
from seqlib.core.ops.jit_cpu import exact

ROWS = 12
"""Products have a multiple of this many rows."""
VECTOR = 4 * v.LANES
_TERMS = 128
_COLUMNS = (4, 2, 1) if v.LANES == 16 else (2, 1, 1)  # vectors beside each other in a tile; its rows:
_HEIGHTS = 6, 12, 12  # as many sums as leave a few registers free


def _tile(rows: int, columns: int) -> Any:
    """The function that computes a tile of so many rows and vectors: out = a w, or out += a w with `more`. Elements of
    a are a_row and a_step bytes from row to row and from term to term; rows of w have `w_row` bytes."""

    @v.function
    def tile(b, count, a, a_row, a_step, w, w_row, out, out_row, more):
        to = v.places(b, v.FLOATS, rows * columns)
        places = [v.at(b, out, (out_row, r), (c, VECTOR)) for r in range(rows) for c in range(columns)]
        for place in to:
            b.store(v.zeros(v.FLOATS), place)

        def add(i: Any) -> None:
            right = [v.load(b, v.at(b, w, (i, w_row), (c, VECTOR)), v.FLOATS) for c in range(columns)]
            for r in range(rows):
                left = v.spread_out(b, v.load(b, v.at(b, a, (a_row, r), (i, a_step)), v.F32))
                for c in range(columns):
                    v.multiply_add(b, left, right[c], to[r * columns + c])

        v.repeat(b, count, add)
        with b.if_then(b.trunc(more, v.BIT)):
            for place, address in zip(to, places, strict=True):
                b.store(b.fadd(v.load(b, address, v.FLOATS), b.load(place)), place)
        for place, address in zip(to, places, strict=True):
            v.store(b, b.load(place), address)

    return tile


(_WIDE, _HALF, _LAST), (_HIGH, _MORE, _MOST) = _COLUMNS, _HEIGHTS
_wide, _half, _last = (_tile(rows, columns) for rows, columns in zip(_HEIGHTS, _COLUMNS, strict=True))


@exact
def _wide_rows(rows, count, a, a_row, a_step, w, w_row, out, out_row, more):
    for r in range(0, rows, _HIGH):
        _wide(count, a + r * a_row, a_row, a_step, w, w_row, out + r * out_row, out_row, more)


@exact
def _half_rows(rows, count, a, a_row, a_step, w, w_row, out, out_row, more):
    for r in range(0, rows, _MORE):
        _half(count, a + r * a_row, a_row, a_step, w, w_row, out + r * out_row, out_row, more)


@exact
def _last_rows(rows, count, a, a_row, a_step, w, w_row, out, out_row, more):
    for r in range(0, rows, _MOST):
        _last(count, a + r * a_row, a_row, a_step, w, w_row, out + r * out_row, out_row, more)


@exact
def product(rows, vectors, count, a, a_row, a_step, w, w_row, out, out_row, more):
    """out [rows, vectors] = a [rows, count] w [count, vectors], or += with `more`; by _TERMS terms, whose sums are
    added up, so that long ones lose no more digits than a BLAS does."""
    for i in range(0, max(1, count), _TERMS):
        size, left, right, add, c = min(_TERMS, count - i), a + i * a_step, w + i * w_row, more if i == 0 else 1, 0
        while vectors - c >= _WIDE:
            at = c * VECTOR
            _wide_rows(rows, size, left, a_row, a_step, right + at, w_row, out + at, out_row, add)
            c += _WIDE
        if vectors - c >= _HALF:
            at = c * VECTOR
            _half_rows(rows, size, left, a_row, a_step, right + at, w_row, out + at, out_row, add)
            c += _HALF
        if vectors - c >= _LAST:
            at = c * VECTOR
            _last_rows(rows, size, left, a_row, a_step, right + at, w_row, out + at, out_row, add)


def _smaller(b: Any, x: Any, y: Any) -> Any:
    return b.select(b.icmp_signed("<", x, y), x, y)


@v.function
def turn(b, rows, step, n, width, to, line):
    """to[c, j] = rows[j, c] for n > 0 rows, filled up to whole vectors with the last one, and `width` columns, filled
    up with zeros."""
    end = b.sub(n, v.long(1))

    def block(i: Any) -> None:
        first = b.mul(i, v.long(v.LANES))
        places = [v.at(b, rows, (_smaller(b, b.add(first, v.long(j)), end), step)) for j in range(v.LANES)]

        def across(c: Any, mask: Any = None) -> None:
            found = [v.load(b, v.at(b, place, (c, VECTOR)), v.FLOATS, mask) for place in places]
            for j, column in enumerate(v.turned(b, found)):
                row = b.add(b.mul(c, v.long(v.LANES)), v.long(j))
                v.store(b, column, v.at(b, to, (row, line), (i, VECTOR)))

        v.over(b, width, across)

    v.repeat(b, b.udiv(b.add(n, v.long(v.LANES - 1)), v.long(v.LANES)), block)


@v.function
def fetch(b, rows, step, n, count, width, to, line):
    """Copy n > 0 rows of `width` numbers, filled up to `count` rows with the last one, and with zeros to whole
    vectors."""
    end = b.sub(n, v.long(1))

    def row(r: Any) -> None:
        place = v.at(b, rows, (_smaller(b, r, end), step))

        def across(c: Any, mask: Any = None) -> None:
            v.store(b, v.load(b, v.at(b, place, (c, VECTOR)), v.FLOATS, mask), v.at(b, to, (r, line), (c, VECTOR)))

        v.over(b, width, across)

    v.repeat(b, count, row)


@v.function
def expect(b, row, width):
    """Have a row of numbers brought to the cache meanwhile; nothing need be there."""
    v.repeat(b, b.udiv(b.add(width, v.long(15)), v.long(16)), lambda c: v.call_for(b, v.at(b, row, (c, 64))))


@v.function
def deliver(b, rows, line, n, width, factors, factor_step, to, step):
    """Copy n rows of `width` numbers out, row r times the number at factors + r · factor_step."""

    def row(r: Any) -> None:
        factor = v.spread_out(b, v.load(b, v.at(b, factors, (r, factor_step)), v.F32))

        def across(c: Any, mask: Any = None) -> None:
            found = b.fmul(v.load(b, v.at(b, rows, (r, line), (c, VECTOR)), v.FLOATS), factor)
            v.store(b, found, v.at(b, to, (r, step), (c, VECTOR)), mask)

        v.over(b, width, across)

    v.repeat(b, n, row)


@v.function
def add_to(b, row, n, to):
    """Add n numbers to others."""

    def add(c: Any, mask: Any = None) -> None:
        place = v.at(b, to, (c, VECTOR))
        v.store(
            b, b.fadd(v.load(b, place, v.FLOATS, mask), v.load(b, v.at(b, row, (c, VECTOR)), v.FLOATS)), place, mask
        )

    v.over(b, n, add)


_STEPS = v.ir.Constant(v.INTS, list(range(v.LANES)))


def _score(b: Any, row: Any, i: Any, n: Any, scale: Any, bias: Any, room: Any) -> tuple[Any, Any]:
    """(product · scale + bias, which of its keys are below n) of a vector of a row."""
    left = b.trunc(b.sub(n, b.mul(i, v.long(v.LANES))), v.INT)
    seen = b.icmp_signed("<", _STEPS, v.spread_out(b, left))
    b.store(b.fmul(v.load(b, v.at(b, row, (i, VECTOR)), v.FLOATS), scale), room)
    with b.if_then(b.icmp_signed("!=", bias, v.long(0))):
        b.store(b.fadd(b.load(room), v.load(b, v.at(b, bias, (i, VECTOR)), v.FLOATS, seen)), room)
    return b.load(room), seen


def _dropped(b: Any, x: Any, i: Any, draws: Any, threshold: Any, room: Any) -> Any:
    """x where the draws of 16 bits that begin at the address `draws` (0: there are none) keep it, else 0."""
    b.store(x, room)
    with b.if_then(b.icmp_signed("!=", draws, v.long(0))):
        found = v.load(b, v.at(b, draws, (i, 2 * v.LANES)), v.HALVES)
        kept = b.icmp_unsigned(">=", found, v.spread_out(b, b.trunc(threshold, v.HALVES.element)))
        b.store(b.select(kept, x, v.zeros(v.FLOATS)), room)
    return b.load(room)


def _number(b: Any, address: Any) -> Any:
    return v.spread_out(b, v.load(b, address, v.F32))


@v.function
def soften(b, row, vectors, n, numbers, bias, draws, threshold, top_at, total_at):
    """A row of products becomes e**(score - top), dropped; of keys from n on 0. `numbers` begins with the scale. The
    largest score and the sum, 0 and 1 where no key is seen, go to top_at and total_at."""
    scale, (best, sum, room) = _number(b, numbers), v.places(b, v.FLOATS, 3)
    lowest = v.ir.Constant(v.FLOATS, [-float("inf")] * v.LANES)
    b.store(lowest, best)
    b.store(v.zeros(v.FLOATS), sum)

    def larger(x: Any, y: Any) -> Any:
        return b.select(b.fcmp_ordered(">", x, y), x, y)

    def find(i: Any) -> None:
        x, seen = _score(b, row, i, n, scale, bias, room)
        x = b.select(seen, x, lowest)
        v.store(b, x, v.at(b, row, (i, VECTOR)))
        b.store(larger(x, b.load(best)), best)

    v.repeat(b, vectors, find)
    top = v.reduced(b, b.load(best), larger)
    zero, one = (v.ir.Constant(v.F32, x) for x in (0.0, 1.0))
    top = b.select(b.fcmp_ordered(">", top, v.ir.Constant(v.F32, -float("inf"))), top, zero)
    away = v.spread_out(b, top)

    def weigh(i: Any) -> None:
        place = v.at(b, row, (i, VECTOR))
        x = v.exp(b, b.fsub(v.load(b, place, v.FLOATS), away))
        b.store(b.fadd(b.load(sum), x), sum)
        v.store(b, _dropped(b, x, i, draws, threshold, room), place)

    v.repeat(b, vectors, weigh)
    total = v.reduced(b, b.load(sum), b.fadd)
    total = b.select(b.fcmp_unordered("!=", total, zero), total, one)
    v.store(b, top, top_at)
    v.store(b, total, total_at)


@v.function
def slopes(b, row, d, vectors, all, n, numbers, lse, bias, draws, threshold):
    """A row of products becomes its dropped weights, and `d`, the gradient by these, that by the scores; of keys from n
    on, up to `all` vectors, 0. `numbers` begins with the scale and the scale of what is kept."""
    scale, kept, away = _number(b, numbers), _number(b, b.add(numbers, v.long(4))), _number(b, lse)
    along, room = v.places(b, v.FLOATS, 2)
    b.store(v.zeros(v.FLOATS), along)

    def weigh(i: Any) -> None:
        x, seen = _score(b, row, i, n, scale, bias, room)
        weight = b.select(seen, v.exp(b, b.fsub(x, away)), v.zeros(v.FLOATS))
        place = v.at(b, d, (i, VECTOR))
        slope = _dropped(b, b.fmul(v.load(b, place, v.FLOATS), kept), i, draws, threshold, room)
        slope = b.select(seen, slope, v.zeros(v.FLOATS))
        v.multiply_add(b, weight, slope, along)
        v.store(b, weight, v.at(b, row, (i, VECTOR)))
        v.store(b, slope, place)

    v.repeat(b, vectors, weigh)
    mean = v.spread_out(b, v.reduced(b, b.load(along), b.fadd))

    def finish(i: Any) -> None:
        place, other = v.at(b, row, (i, VECTOR)), v.at(b, d, (i, VECTOR))
        weight = v.load(b, place, v.FLOATS)
        v.store(b, b.fmul(weight, b.fsub(v.load(b, other, v.FLOATS), mean)), other)
        v.store(b, _dropped(b, b.fmul(weight, kept), i, draws, threshold, room), place)

    v.repeat(b, vectors, finish)

    def clear(i: Any) -> None:
        for start in (row, d):
            v.store(b, v.zeros(v.FLOATS), v.at(b, start, (b.add(vectors, i), VECTOR)))

    v.repeat(b, b.sub(all, vectors), clear)
