"""Products by oneDNN beside those of onednn_cpu.py, of operands rounded to bfloat16 and on the calling thread: many
with one matrix, which is packed for them once, and batches. M rows, K inner size, N columns.
"""

from ctypes import c_int, c_void_p
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from seqlib.core.backends.onednn_cpu import (
    _BF16,
    _DST,
    _F32,
    _SRC,
    _WEIGHTS,
    Dims,
    Strides,
    _dense,
    _finished,
    _library,
    _one_thread,
    _Primitive,
    _rounding,
    _run,
    _Table,
)

_WEIGHTS_MD = 131


# -- many products with one matrix -------------------------------------------------------------------------------


class Packed(NamedTuple):
    """A [K,N] matrix in bfloat16 as oneDNN likes it for products with few rows."""

    memory: Any
    layout: c_void_p
    shape: Strides

    @property
    def address(self) -> int:
        """Of its first byte."""
        return -(-self.memory.ctypes.data // 64) * 64


@lru_cache(maxsize=256)
def _packing(rows: int, k: int, n: int, b: Strides) -> tuple[_Primitive, c_void_p, int]:
    """What packs a [K,N] matrix for products of `rows` rows, its layout then, and its bytes."""
    library = _library()
    assert library is not None
    descs = (
        library.desc((rows, k), (k, 1), _BF16),
        library.any_desc((k, n), _BF16),
        library.desc((rows, n), (n, 1), _F32),
    )
    with _one_thread():
        made = library.make(
            "matmul_primitive_desc_create", library.engine, *descs[:2], None, descs[2], library.attributes()
        )
        layout = c_void_p(library.calls.dnnl_primitive_desc_query_md(made, c_int(_WEIGHTS_MD), c_int(0)))
        given = library.desc((k, n), b, _F32)
        reorder = library.make(
            "reorder_primitive_desc_create", given, library.engine, layout, library.engine, library.attributes()
        )
        packing = _finished(library, reorder, zip((_SRC, _DST), (given, layout), strict=True))
    return packing, layout, library.calls.dnnl_memory_desc_get_size(layout)


def pack(b: Any, rows: int) -> Packed:
    """A float32 matrix with contiguous rows or columns, for products of about `rows` rows."""
    library = _library()
    assert library is not None
    (k, n), strides = b.shape, (b.strides[0] // 4, b.strides[1] // 4)
    packing, layout, size = _packing(rows, k, n, strides)
    packed = Packed(np.empty(size + 64, np.uint8), layout, (k, n))
    bases = np.array((b.__array_interface__["data"][0], packed.address, 0, 0), np.int64)
    _run(library, np.array([library.thread.call(packing, (0, 0), (1, 0))], np.int64), bases)
    return packed


@lru_cache(maxsize=1024)
def _packed_product(m: int, packed: Strides, layout: int, a: int, out: int) -> tuple[_Primitive, _Primitive]:
    """What rounds m rows that begin `a` elements apart, and what multiplies them with a packed matrix."""
    library = _library()
    assert library is not None
    k, n = packed
    descs = library.desc((m, k), (k, 1), _BF16), c_void_p(layout), library.desc((m, n), (out, 1), _F32)
    with _one_thread():
        made = library.make(
            "matmul_primitive_desc_create", library.engine, *descs[:2], None, descs[2], library.attributes()
        )
        product = _finished(library, made, zip((_SRC, _WEIGHTS, _DST), descs, strict=True))
        return _rounding((m, k), (a, 1), (k, 1)), product


def packed_product(a: Any, b: Packed, out: Any) -> None:
    """out [M,N] = a [M,K] @ b, both rounded to bfloat16, on the calling thread; a and out have contiguous rows."""
    library = _library()
    assert library is not None and b.layout.value is not None
    thread, (m, k) = library.thread, a.shape
    primitives = _packed_product(m, b.shape, b.layout.value, a.strides[0] // 4, out.strides[0] // 4)
    key = id(primitives), 0, 0
    if (table := thread.tables.get(key)) is None:
        rounding, product = primitives
        thread.room("scratch", max(p.scratch for p in primitives))
        room = thread.room("a", 2 * m * k)
        rows = [thread.call(rounding, (0, 0), (3, room)), thread.call(product, (3, room), (1, 0), (2, 0))]
        table = thread.tables[key] = _Table(np.array(rows, np.int64), primitives)
    first, last = (x.__array_interface__["data"][0] for x in (a, out))
    _run(library, table.rows, np.array((first, b.address, last, 0), np.int64))


# -- batches -----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _batch(shapes: tuple[Dims, ...], strides: tuple[Dims, ...]) -> tuple[_Primitive, ...]:
    library = _library()
    assert library is not None
    (a, b, out), (left, right) = shapes, (_dense(*each) for each in zip(shapes[:2], strides[:2], strict=True))
    descs = library.desc(a, left, _BF16), library.desc(b, right, _BF16), library.desc(out, strides[2], _F32)
    with _one_thread():
        made = library.make(
            "matmul_primitive_desc_create", library.engine, *descs[:2], None, descs[2], library.attributes()
        )
        product = _finished(library, made, zip((_SRC, _WEIGHTS, _DST), descs, strict=True))
        return _rounding(a, strides[0], left), _rounding(b, strides[1], right), product


def batched(a: Any, b: Any, out: Any) -> None:
    """out [...,M,N] = a [...,M,K] @ b [...,K,N] with the same number of axes, both rounded to bfloat16, on the calling
    thread; a and b have contiguous rows or columns, out contiguous rows."""
    library = _library()
    assert library is not None
    arrays = a, b, out
    primitives = _batch(
        tuple(x.shape for x in arrays),
        tuple(tuple(s // 4 if n > 1 else 1 for s, n in zip(x.strides, x.shape, strict=True)) for x in arrays),
    )
    thread, key = library.thread, (id(primitives), 0, 0)
    if (table := thread.tables.get(key)) is None:
        thread.room("scratch", max(p.scratch for p in primitives))
        rooms = [thread.room(name, 2 * x.size) for name, x in zip("ab", arrays, strict=False)]
        rows = [thread.call(p, (i, 0), (3, room)) for i, (p, room) in enumerate(zip(primitives, rooms, strict=False))]
        rows.append(thread.call(primitives[2], *((3, room) for room in rooms), (2, 0)))
        table = thread.tables[key] = _Table(np.array(rows, np.int64), primitives)
    _run(library, table.rows, np.array([*(x.__array_interface__["data"][0] for x in arrays), 0], np.int64))
