"""The numba kernel of int8_product: bytes of x times bytes of the matrix, four at a time and added up in 32 bits where
the processor has an instruction for that (AVX512_VNNI), else by pairs; integers, so that no order counts.

A lane holds a column of a panel of 16, a tile some rows of x and some panels. Numbers of the matrix are 128 too large,
which the sum of a row of x takes back.
"""

from typing import Any

import numpy as np
from llvmlite import ir

from seqlib.core.backends.threads import spread
from seqlib.core.ops import vectors_cpu as v
from seqlib.core.ops.jit_cpu import exact, kernel

_WIDE = v.LANES == 16
_PANELS = 4 if _WIDE else 2  # of a tile
_ROWS = 6 if _WIDE else 2  # and its rows at most
_WORDS, _NUMBERS = ir.VectorType(v.INT, 16), ir.VectorType(v.F32, 16)


def _dot(b: Any, old: Any, plain: Any, signed: Any) -> Any:
    """old + Σ of 4 products of bytes, `plain` ones without a sign, in each of 16 lanes of 32 bits."""
    if _WIDE and "avx512vnni" in v.FEATURES:
        return v.call(b, "llvm.x86.avx512.vpdpbusd.512", old, plain, signed)
    halves = ir.VectorType(ir.IntType(16), 32)
    plain, signed = b.bitcast(plain, halves), b.bitcast(signed, halves)
    eight = ir.Constant(halves, [8] * 32)
    even = b.and_(plain, ir.Constant(halves, [255] * 32)), b.ashr(b.shl(signed, eight), eight)
    for x, y in (even, (b.lshr(plain, eight), b.ashr(signed, eight))):
        products = b.mul(*(b.sext(z, ir.VectorType(v.INT, 32)) for z in (x, y)))
        kind = ir.VectorType(v.INT, 16)
        pair = (b.shuffle_vector(products, products, ir.Constant(kind, [*range(i, 32, 2)])) for i in (0, 1))
        old = b.add(old, b.add(*pair))
    return old


def _tile(rows: int, panels: int) -> Any:
    """The function that computes a tile, of which `n` columns are left. A row of x: `k` words, its factor and sum."""

    @v.function
    def tile(b, x, w, k, scale, n, out, ldo):
        to, ldx = v.places(b, _WORDS, rows * panels), b.mul(b.add(k, v.long(2)), v.long(4))
        for place in to:
            b.store(v.zeros(_WORDS), place)

        def add(i: Any) -> None:
            right = [v.load(b, v.at(b, w, (b.mul(k, v.long(p)), 64), (i, 64)), _WORDS) for p in range(panels)]
            for r in range(rows):
                left = v.spread_out(b, v.load(b, v.at(b, x, (ldx, r), (i, 4)), v.INT), 16)
                for p, place in enumerate(to[r * panels :][:panels]):
                    b.store(_dot(b, b.load(place), right[p], left), place)

        v.repeat(b, k, add)
        for p in range(panels):
            mask = v.first(b, b.sub(n, v.long(16 * p)), 16)
            columns = v.load(b, v.at(b, scale, (p, 64)), _NUMBERS, mask)
            for r in range(rows):
                more = b.mul(v.load(b, v.at(b, x, (ldx, r), (k, 4), (1, 4)), v.INT), ir.Constant(v.INT, 128))
                total = b.sub(b.load(to[r * panels + p]), v.spread_out(b, more, 16))
                factor = v.spread_out(b, v.load(b, v.at(b, x, (ldx, r), (k, 4)), v.F32), 16)
                found = b.fmul(b.sitofp(total, _NUMBERS), b.fmul(columns, factor))
                v.store(b, found, v.at(b, out, (ldo, r), (p, 64)), mask)

    return tile


_tiles = [_tile(rows, panels) for panels in (_PANELS, 1) for rows in (_ROWS, 2, 1)]
_many, _two, _one, _many1, _two1, _one1 = _tiles


@exact
def _panels(first, last, m, k, x, w, scale, n, out, ldo):
    """Panels first … last - 1."""
    panel = first
    while panel < last:
        size = _PANELS if panel + _PANELS <= last else 1
        wide = size == _PANELS
        here, s, left, to = w + panel * k * 64, scale + panel * 64, n - panel * 16, out + panel * 64
        i = 0
        while i < m:
            rows = _ROWS if i + _ROWS <= m else (2 if i + 2 <= m else 1)
            row, place = x + i * (k + 2) * 4, to + i * ldo
            if rows == _ROWS:
                if wide:
                    _many(row, here, k, s, left, place, ldo)
                else:
                    _many1(row, here, k, s, left, place, ldo)
            elif rows == 2:
                if wide:
                    _two(row, here, k, s, left, place, ldo)
                else:
                    _two1(row, here, k, s, left, place, ldo)
            elif wide:
                _one(row, here, k, s, left, place, ldo)
            else:
                _one1(row, here, k, s, left, place, ldo)
            i += rows
        panel += size


@exact
def _divided(a, b):
    return a / b


@kernel
def _round(first, last, x, q):
    """Rows first … last - 1 of x as bytes into q [M, ceil(K / 4) + 2], then what to multiply them by and their sum."""
    width, words = x.shape[1], q.shape[1] - 2
    for i in range(first, last):
        row, bits, to = x[i], x[i].view(np.int32), q[i, :words].view(np.int8)
        top, most = np.float32(0.0), np.int32(0)
        for j in range(width):
            top = max(top, abs(row[j]))
        for j in range(width):
            most = max(most, bits[j] & np.int32(0x7F800000))
        odd = most == np.int32(0x7F800000)  # an infinity or NaN
        back = _divided(np.float32(127.0), top) if top > 0 else np.float32(0.0)
        total = np.int32(0)
        for j in range(width):
            to[j] = np.int8(0) if odd else np.int8(np.rint(row[j] * back))
        for j in range(width):
            total += np.int32(to[j])
        to[width:] = 0
        q[i, words:].view(np.float32)[0] = np.float32(np.nan) if odd else top * np.float32(1 / 127)
        q[i, words + 1] = total


def product(outs: Any, ins: Any, scratch: Any) -> None:
    """The kernel of int8_product."""
    x, q, out = np.ascontiguousarray(ins[0]), scratch[0], outs[0]
    spread(_round, len(x), 4 * x.size, x, q)
    m, k, start = len(q), q.shape[1] - 2, 0
    for words, scale in zip(ins[1::2], ins[2::2], strict=True):
        place, w, s, to = (array.__array_interface__["data"][0] for array in (q, words, scale, out))
        given = (m, k, place, w, s, scale.size, to + 4 * start, out.strides[0])
        spread(_panels, len(words), m * k * scale.size // 4, *given, multiple=_PANELS)
        start += scale.size
