"""What stands between the parts of a Transformer: residual sum, dropout and layer norm in one pass. Rows are [rows, D].

The pass `fuse_patterns` puts these two ops in the place of dropout, add and layer_norm, and of their gradients.
"""

from __future__ import annotations

from seqlib.core import dtypes
from seqlib.core.op import OPS, Attrs, Meta, Metas, fused, need_float, shape_error
from seqlib.core.ops.blocks import float32_only
from seqlib.core.ops.layer_norm import layer_norm_bwd
from seqlib.core.ops.random import need_state
from seqlib.core.tape import apply_all
from seqlib.core.tensor import Tensor

_ROWS, _ROW, _COLUMN = (Meta(shape, dtypes.float32) for shape in ((3, 5), (5,), (3,)))
_STATE = Meta((2,), dtypes.int64)


@fused(outs="total y mean rstd", visible=2, differentiable=False, fuse=(_ROWS, _ROWS, _STATE, _ROW, _ROW))
def add_dropout_layer_norm(
    x: Tensor, branch: Tensor, state: Tensor, w: Tensor, b: Tensor, *, p: float, draw: int, eps: float
) -> tuple[Tensor, ...]:
    """total = x + dropout(branch), and its layer norm."""
    total = x + OPS["dropout"](branch, state, p=p, draw=draw)
    return total, *apply_all(OPS["layer_norm"], (total, w, b), {"eps": eps})


@add_dropout_layer_norm.infer
def _(x: Meta, branch: Meta, state: Meta, w: Meta, b: Meta, *, p: float, draw: int, eps: float) -> list[Meta]:
    need_state("add_dropout_layer_norm", state)
    need_float("add_dropout_layer_norm", "x", x)
    if branch != x:
        raise shape_error("add_dropout_layer_norm", "branch", f"{x.dtype} {x.shape}, as x", branch)
    return [x, *OPS["layer_norm"].infer_metas([x, w, b], {"eps": eps})]


@fused(
    outs="gx gbranch gw gb", visible=4, differentiable=False, fuse=(_ROWS, _ROWS, _ROWS, _ROW, _COLUMN, _COLUMN, _STATE)
)
def add_dropout_layer_norm_bwd(
    g: Tensor,
    gtotal: Tensor,
    total: Tensor,
    w: Tensor,
    mean: Tensor,
    rstd: Tensor,
    state: Tensor,
    *,
    p: float,
    draw: int,
) -> tuple[Tensor, ...]:
    """The gradients by x, branch, w and b for the cotangents g of y and gtotal of total."""
    gx, gw, gb = layer_norm_bwd(g, total, w, mean, rstd)
    gx = gtotal + gx
    return gx, OPS["dropout"](gx, state, p=p, draw=draw), gw, gb


@add_dropout_layer_norm_bwd.infer
def _(
    g: Meta, gtotal: Meta, total: Meta, w: Meta, mean: Meta, rstd: Meta, state: Meta, *, p: float, draw: int
) -> list[Meta]:
    need_float("add_dropout_layer_norm_bwd", "g", g)
    if not g == gtotal == total:
        raise shape_error("add_dropout_layer_norm_bwd", "g, gtotal", f"{total}, as total", (g, gtotal))
    return [total, total, w, w]


def _chunks(metas: Metas, attrs: Attrs) -> list[Meta]:
    w = metas[3]
    return [Meta((32, 2, w.size), w.dtype)]


def _wide(metas: Metas, attrs: Attrs) -> bool:
    # As layer_norm_bwd: the gradient of a row of one element is exactly 0 without fused multiply-adds alone.
    w = metas[3]
    return float32_only(0, 1, 2, 3, 4, 5)(metas, attrs) and w is not None and w.size > 1


add_dropout_layer_norm.cpu(
    "add_dropout_layer_norm_cpu:forward",
    needs="numba",
    when=float32_only(0, 1, 3, 4),
    overlap=((0, 0), (0, 1), (1, 0), (1, 1)),
)
add_dropout_layer_norm_bwd.cpu(
    "add_dropout_layer_norm_cpu:backward",
    needs="numba",
    when=_wide,
    scratch=_chunks,
    overlap=((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)),
)
