"""Batches of products by oneDNN beside the products of onednn_cpu.py, of operands rounded to bfloat16 and on the
calling thread. M rows, K inner size, N columns.
"""

from functools import lru_cache
from typing import Any

import numpy as np

from seqlib.core.backends.onednn_cpu import dense
from seqlib.core.backends.onednn_library_cpu import (
    BF16,
    DST,
    F32,
    KEPT,
    SRC,
    WEIGHTS,
    Dims,
    Primitive,
    Table,
    finished,
    one_thread,
    rounding,
    run,
    the_library,
)


@lru_cache(maxsize=KEPT)
def _batch(shapes: tuple[Dims, ...], strides: tuple[Dims, ...]) -> tuple[Primitive, ...]:
    library = the_library()
    (a, b, out), (left, right) = shapes, (dense(*each) for each in zip(shapes[:2], strides[:2], strict=True))
    descs = library.desc(a, left, BF16), library.desc(b, right, BF16), library.desc(out, strides[2], F32)
    with one_thread():
        made = library.make(
            "matmul_primitive_desc_create", library.engine, *descs[:2], None, descs[2], library.attributes()
        )
        product = finished(library, made, zip((SRC, WEIGHTS, DST), descs, strict=True))
        return rounding(a, strides[0], left), rounding(b, strides[1], right), product


def batched(a: Any, b: Any, out: Any) -> None:
    """out [...,M,N] = a [...,M,K] @ b [...,K,N] with the same number of axes, both rounded to bfloat16, on the calling
    thread; a and b have contiguous rows or columns, out contiguous rows."""
    library = the_library()
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
        table = thread.keep(key, Table(np.array(rows, np.int64), primitives))
    run(table.rows, np.array([*(x.__array_interface__["data"][0] for x in arrays), 0], np.int64))
