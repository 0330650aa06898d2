"""Normalisation over the last axis: layer_norm (Ba, Kiros and Hinton 2016), rms_norm (Zhang and Sennrich 2019), and
what stands between the parts of a Transformer, the residual sum with dropout and layer norm. Rows are [rows, D], D the
model width.

The pass `fuse_patterns` puts add_dropout_layer_norm in the place of dropout, add and layer_norm, and of their
gradients; on a GPU add_layer_norm where there is no dropout.
"""

from typing import Any

from seqlib.core import dtypes
from seqlib.core.op import Attrs, Meta, Metas, fused, need_alike, need_float, shape_error
from seqlib.core.ops.blocks import block_scratch, float32_only, same_float
from seqlib.core.ops.elementwise import rsqrt
from seqlib.core.ops.random import _dropout
from seqlib.core.ops.reduce import mean, sum_to
from seqlib.core.ops.shape import reshape
from seqlib.core.tape import apply_all, infer_composed
from seqlib.core.tensor import Tensor

_ROWS, _ROW, _COLUMN = (Meta(shape, dtypes.float32) for shape in ((3, 5), (5,), (3,)))
_STATE = Meta((2,), dtypes.int64)


def _check(op: str, x: Meta, **weights: Meta) -> Meta:
    """x [..., D] floating with D > 0, and weights [D]. The Meta of a statistic of its rows."""
    need_float(op, "x", x)
    if not x.shape or x.shape[-1] == 0:
        raise shape_error(op, "x", "of at least 1 dimension, the last not empty", x.shape)
    for name, m in weights.items():
        need_float(op, name, m)
        if m.shape != x.shape[-1:]:
            raise shape_error(op, name, f"of shape {x.shape[-1:]}, the last axis of x {x.shape}", m.shape)
    return Meta(x.shape[:-1], dtypes.sums(x.dtype))


def _blocks(metas: Metas, attrs: Attrs) -> list[Meta]:
    """`scratch` of the NumPy kernels of gradients: two pieces of rows, and a row."""
    return [*block_scratch(metas, attrs) * 2, metas[2]]


def _several(w: int, *positions: int) -> Any:
    """`when` of numba's kernels: a row of one element has a gradient of exactly 0 without fused multiply-adds alone."""
    floats = float32_only(*positions)
    return lambda metas, attrs: floats(metas, attrs) and metas[w].size > 1


def _sums(w: int, *lines: int) -> Any:
    """`scratch` of numba's kernels of gradients: sums over rows, in 32 parts."""
    return lambda metas, attrs: [Meta((32, *lines, metas[w].size), metas[w].dtype)]


_BACKWARD: dict[str, Any] = {"needs": "numba", "overlap": ((0, 0), (0, 1))}


# -- layer_norm ----------------------------------------------------------------------------------------------


@fused(outs="y mean rstd", saves="x w b mean rstd", fuse=(_ROWS, _ROW, _ROW))
def _layer_norm(x: Tensor, w: Tensor, b: Tensor, *, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    center = mean(x, axis=-1, keepdims=True)
    shifted = x - center
    rstd = rsqrt(mean(shifted * shifted, axis=-1, keepdims=True) + eps)
    y = shifted * rstd * w + b
    return y, reshape(center, x.shape[:-1]), reshape(rstd, x.shape[:-1])


@fused(outs="gx gw gb", visible=3, differentiable=False, like="x w w")
def layer_norm_bwd(g: Tensor, x: Tensor, w: Tensor, mean_: Tensor, rstd: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of layer_norm: with x̂ = (x - mean) rstd and h = g w, gx = rstd (h - mean(h) - x̂ mean(h
    x̂)), gw = Σ g x̂ and gb = Σ g over rows."""
    column = (*x.shape[:-1], 1)
    scale = reshape(rstd, column)
    unit = (x - reshape(mean_, column)) * scale
    h = g * w
    gx = scale * (h - mean(h, axis=-1, keepdims=True) - unit * mean(h * unit, axis=-1, keepdims=True))
    return gx, sum_to(g * unit, w.shape), sum_to(g, w.shape)


@_layer_norm.infer
def _(x: Meta, w: Meta, b: Meta, *, eps: float) -> list[Meta]:
    statistic = _check("layer_norm", x, w=w, b=b)
    return [x, statistic, statistic]


_layer_norm.vjp(lambda ctx, g: layer_norm_bwd(g, *ctx.inputs[:2], *ctx.outputs[1:]))
_layer_norm.cpu("layer_norm_numpy:forward", when=same_float(), overlap=((0, 0),))
_layer_norm.cpu("layer_norm_cpu:forward", needs="numba", when=float32_only(0, 1, 2), overlap=((0, 0),))
layer_norm_bwd.cpu("layer_norm_numpy:backward", when=same_float(), scratch=_blocks, overlap=((0, 0), (0, 1)))
layer_norm_bwd.cpu("layer_norm_cpu:backward", when=_several(2, 0, 1, 2, 3, 4), scratch=_sums(2, 2), **_BACKWARD)


def layer_norm(x: Tensor, w: Tensor, b: Tensor, eps: float = 1e-5) -> Tensor:
    """(x - mean) / sqrt(variance + eps) · w + b over the last axis (Ba, Kiros and Hinton 2016).

    x floating [..., D], w and b [D] → [..., D]; mean and variance (of the population) are taken over D.
    Raises ShapeError when w or b is not [D] or D is 0, DtypeError when one is not floating.
    """
    return _layer_norm(x, w, b, eps=float(eps))


# -- rms_norm ------------------------------------------------------------------------------------------------


@fused(outs="y rstd", saves="x w rstd", fuse=(_ROWS, _ROW))
def _rms_norm(x: Tensor, w: Tensor, *, eps: float) -> tuple[Tensor, Tensor]:
    rstd = rsqrt(mean(x * x, axis=-1, keepdims=True) + eps)
    return x * rstd * w, reshape(rstd, x.shape[:-1])


@fused(outs="gx gw", visible=2, differentiable=False, like="x w")
def rms_norm_bwd(g: Tensor, x: Tensor, w: Tensor, rstd: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of rms_norm: with x̂ = x rstd and h = g w, gx = rstd (h - x̂ mean(h x̂)), gw = Σ g x̂ over rows."""
    scale = reshape(rstd, (*x.shape[:-1], 1))
    unit = x * scale
    h = g * w
    return scale * (h - unit * mean(h * unit, axis=-1, keepdims=True)), sum_to(g * unit, w.shape)


@_rms_norm.infer
def _(x: Meta, w: Meta, *, eps: float) -> list[Meta]:
    if w.dtype != dtypes.sums(x.dtype):  # float32 weights are right beside 16 bits
        need_alike("rms_norm", x=x, w=w)
    return [x, _check("rms_norm", x, w=w)]


_rms_norm.vjp(lambda ctx, g: rms_norm_bwd(g, *ctx.inputs, ctx.outputs[1]))
_rms_norm.cpu("rms_norm_numpy:forward", when=same_float(), overlap=((0, 0),))
_rms_norm.cpu("rms_norm_cpu:forward", needs="numba", when=float32_only(0, 1), overlap=((0, 0),))
rms_norm_bwd.cpu("rms_norm_numpy:backward", when=same_float(), scratch=_blocks, overlap=((0, 0), (0, 1)))
rms_norm_bwd.cpu("rms_norm_cpu:backward", when=float32_only(0, 1, 2, 3), scratch=_sums(2), **_BACKWARD)


def rms_norm(x: Tensor, w: Tensor, eps: float = 1e-6) -> Tensor:
    """x / sqrt(mean(x²) + eps) · w over the last axis (Zhang and Sennrich 2019): x floating [..., D], w [D] → [..., D].

    Raises ShapeError when w is not [D] or D is 0, DtypeError when x is not floating or w not of its dtype.
    """
    return _rms_norm(x, w, eps=float(eps))


# -- add_dropout_layer_norm ----------------------------------------------------------------------------------


@fused(outs="total y mean rstd", visible=2, differentiable=False, fuse=(_ROWS, _ROWS, _STATE, _ROW, _ROW))
def add_dropout_layer_norm(
    x: Tensor, branch: Tensor, state: Tensor, w: Tensor, b: Tensor, *, p: float, draw: int, eps: float
) -> tuple[Tensor, ...]:
    """total = x + dropout(branch), and its layer norm."""
    total = x + _dropout(branch, state, p=p, draw=draw)
    return total, *apply_all(_layer_norm, (total, w, b), {"eps": eps})


@fused(
    outs="gx gbranch gw gb", visible=4, differentiable=False, fuse=(_ROWS, _ROWS, _ROWS, _ROW, _COLUMN, _COLUMN, _STATE)
)
def add_dropout_layer_norm_bwd(
    g: Tensor, gt: Tensor, total: Tensor, w: Tensor, mean: Tensor, rstd: Tensor, state: Tensor, *, p: float, draw: int
) -> tuple[Tensor, ...]:
    """The gradients by x, branch, w and b for the cotangents g of y and gt of total."""
    gx, gw, gb = layer_norm_bwd(g, total, w, mean, rstd)
    gx = gt + gx
    return gx, _dropout(gx, state, p=p, draw=draw), gw, gb


@fused(outs="total y mean rstd", visible=2, differentiable=False, fuse=(_ROWS, _ROWS, _ROW, _ROW))
def add_layer_norm(x: Tensor, branch: Tensor, w: Tensor, b: Tensor, *, eps: float) -> tuple[Tensor, ...]:
    """total = x + branch, and its layer norm."""
    total = x + branch
    return total, *apply_all(_layer_norm, (total, w, b), {"eps": eps})


@fused(outs="gx gw gb", visible=3, differentiable=False, fuse=(_ROWS, _ROWS, _ROWS, _ROW, _COLUMN, _COLUMN))
def add_layer_norm_bwd(
    g: Tensor, gt: Tensor, total: Tensor, w: Tensor, mean: Tensor, rstd: Tensor
) -> tuple[Tensor, ...]:
    """The gradients by x (and branch), w and b for the cotangents g of y and gt of total."""
    gx, gw, gb = layer_norm_bwd(g, total, w, mean, rstd)
    return gt + gx, gw, gb


for _op in (add_dropout_layer_norm, add_dropout_layer_norm_bwd, add_layer_norm, add_layer_norm_bwd):
    infer_composed(_op)
add_dropout_layer_norm.cpu(
    "add_dropout_layer_norm_cpu:forward",
    needs="numba",
    when=float32_only(0, 1, 3, 4),
    overlap=((0, 0), (0, 1), (1, 0), (1, 1)),
)
add_dropout_layer_norm_bwd.cpu(
    "add_dropout_layer_norm_cpu:backward",
    needs="numba",
    when=_several(3, 0, 1, 2, 3, 4, 5),
    scratch=_sums(3, 2),
    overlap=((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)),
)
