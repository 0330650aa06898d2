"""embedding: rows of a table by token id, and its gradient. V vocabulary, D width, N ids.

Both directions are linear in their floating argument, and each is the other's gradient, so they are
primitives: the tape keeps the ids alone.
"""

from typing import Any

import numpy as np

from seqlib.core import dtypes
from seqlib.core.op import Meta, need_float, need_int, primitive, shape_error
from seqlib.core.ops.blocks import float32_only
from seqlib.core.ops.bounds import check_bounds
from seqlib.core.tensor import Tensor


@primitive(saves="ids")
def _embedding(xp: Any, ids: Any, table: Any) -> Any:
    if xp is np:  # elsewhere a look at the content would wait for the device
        check_bounds("embedding", "ids", ids, table.shape[0], negative=False)
    return table[ids]


@_embedding.infer
def _(ids: Meta, table: Meta) -> list[Meta]:
    need_int("embedding", "ids", ids)
    need_float("embedding", "table", table)
    if len(table.shape) != 2:
        raise shape_error("embedding", "table", "[V, D]", table.shape)
    return [Meta((*ids.shape, table.shape[1]), table.dtype)]


_embedding.cpu("embedding_numpy:forward")


@primitive(saves="ids")
def embedding_grad(xp: Any, g: Any, ids: Any, *, size: int) -> Any:
    """[size, D] with row r the sum of g's rows whose id is r, added in their order, in float32 for 16-bit rows.

    g [..., D], ids [...]."""
    out = xp.zeros((size, g.shape[-1]), g.dtype)
    xp.add.at(out, ids.reshape(-1), g.reshape(ids.size, g.shape[-1]))
    return out


@embedding_grad.infer
def _(g: Meta, ids: Meta, *, size: int) -> list[Meta]:
    need_float("embedding_grad", "g", g)
    need_int("embedding_grad", "ids", ids)
    if g.shape[:-1] != ids.shape or not g.shape:
        raise shape_error("embedding_grad", "g", f"of shape {ids.shape} + (D,)", g.shape)
    return [Meta((size, g.shape[-1]), dtypes.sums(g.dtype))]


embedding_grad.cpu("embedding_numpy:gradient")


embedding_grad.cpu("embedding_cpu:gradient", needs="numba", when=float32_only(0))


_embedding.vjp(lambda ctx, g: (None, embedding_grad(g, ctx.inputs[0], size=ctx.inputs[1].shape[0])))


embedding_grad.vjp(lambda ctx, g: (_embedding(ctx.inputs[1], g), None))


def embedding(ids: Tensor, table: Tensor) -> Tensor:
    """The rows of `table` by id: ids int [...], table floating [V, D] → [..., D].

    The gradient adds rows of equal ids in their order, so it is the same to the bit in every run. Raises
    IndexRangeError for an id outside [0, V) (in a compiled function when it runs), ShapeError and DtypeError.
    """
    return _embedding(ids, table)
