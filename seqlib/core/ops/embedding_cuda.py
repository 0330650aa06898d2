"""The CUDA kernels of embedding and its gradient: launches of embedding.cu."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from seqlib.core import dtypes
from seqlib.core.backends.cuda import Source, aligned, cuda, grid, name_of
from seqlib.core.op import Attrs, Meta
from seqlib.core.ops.embedding import _embedding, embedding_grad

_CHUNK, _TILE = 64, 1024  # as in embedding.cu
_FLOATS = {"float": 4, "bf16": 8, "f16": 8, "double": 2}
_SUMS = {"bf16": "float", "f16": "float"}
_IDS = ("int", "i64")


def _names() -> list[str]:
    names = ["embedding_starts"]
    for i in _IDS:
        names += [f"embedding_rank<{i}>", f"embedding_order<{i}>"]
        for t, lanes in _FLOATS.items():
            names += [f"embedding<{t}, {i}, {n}>" for n in (1, lanes)]
            names += [f"embedding_sum<{t}, {_SUMS.get(t, t)}, {i}, {n}>" for n in (1, lanes)]
        names += [f"embedding_parts<{t}, {i}>" for t in ("float", "double")]
    return names


_SOURCE = Source("embedding.cu", _names())


def _lanes(width: int, *arrays: Any) -> int:
    lanes = _FLOATS[name_of(arrays[0])]
    return lanes if width % lanes == 0 and aligned(*arrays) else 1


def forward(outs: Any, ins: Any, scratch: Any) -> None:
    """The kernel of embedding."""
    ids, table = ins
    size, width = table.shape
    if not outs[0].size:
        return
    lanes = _lanes(width, table, outs[0])
    kernel = _SOURCE.kernel(f"embedding<{name_of(table)}, {name_of(ids)}, {lanes}>")
    args = (outs[0], ids, table, cuda().flag, np.int64(ids.size), np.int32(size), np.int32(width))
    kernel(grid(ids.size * width // lanes, 256), (256,), args)


def _tiles(size: int) -> int:
    return -(-size // _TILE)


def gradient_scratch(metas: Sequence[Meta | None], attrs: Attrs) -> list[Meta]:
    """What the order of rows by id takes (see embedding.cu), and the parts of frequent ids."""
    g, ids = metas[:2]
    assert g is not None and ids is not None
    size, rows, width = attrs["size"], ids.size, g.shape[-1]
    sizes = (_tiles(rows) * size, rows, size, size, _tiles(size), rows, size)
    return [*(Meta((n,), dtypes.int32) for n in sizes), Meta((2 * (rows // _CHUNK + 1), width), dtypes.sums(g.dtype))]


def serves_gradient(metas: Sequence[Meta | None], attrs: Attrs) -> bool:
    """The gradient kernel's `when`: counts by tile and id that fit in 256 MiB."""
    ids, size = metas[1], attrs["size"]
    assert ids is not None
    return _tiles(ids.size) * size <= 1 << 26 and _tiles(size) <= _TILE


def gradient(outs: Any, ins: Any, scratch: Any, *, size: int) -> None:
    """The kernel of embedding_grad."""
    g, ids = ins
    out, rows, width = outs[0], ids.size, outs[0].shape[1]
    counts, ranks, starts, totals, sums, order, first, parts = scratch
    out.fill(0)
    if not rows or not width:
        return
    counts.fill(0)
    order.fill(-1)
    i, t, total, n, m = name_of(ids), name_of(g), name_of(out), np.int32(rows), np.int32(size)
    block, tiles = (_TILE,), _tiles(rows)
    _SOURCE.kernel(f"embedding_rank<{i}>")((tiles,), block, (ranks, counts, ids, cuda().flag, n, m))
    _SOURCE.kernel("embedding_starts")((_tiles(size),), block, (starts, totals, sums, counts, np.int32(tiles), m))
    args = (order, first, ranks, starts, sums, counts, ids, n, m)
    _SOURCE.kernel(f"embedding_order<{i}>")((_tiles(max(rows, size)),), block, args)
    lanes = _lanes(width, g, out, parts)
    args = (out, parts, g, first, totals, order, ids, n, m, np.int32(width))
    _SOURCE.kernel(f"embedding_sum<{t}, {total}, {i}, {lanes}>")(grid(rows, 4), (128,), args)
    args = (out, parts, first, totals, order, ids, n, np.int32(width))
    _SOURCE.kernel(f"embedding_parts<{total}, {i}>")(grid(rows, 4), (128,), args)


_embedding.cuda(forward)
embedding_grad.cuda(gradient, when=serves_gradient, scratch=gradient_scratch)
