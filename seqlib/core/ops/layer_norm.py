"""Layer normalisation over the last axis (Ba, Kiros and Hinton 2016). Rows are [rows, D] below, D the model
width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seqlib.core import dtypes
from seqlib.core.op import Meta, Metas, VjpContext, fused, need_float, shape_error
from seqlib.core.ops.blocks import block_scratch, float32_only, same_float
from seqlib.core.ops.elementwise import rsqrt
from seqlib.core.ops.reduce import mean, sum_to
from seqlib.core.ops.shape import reshape
from seqlib.core.tensor import Tensor

_ROWS, _WIDTH = Meta((3, 5), dtypes.float32), Meta((5,), dtypes.float32)


@fused(outs="y mean rstd", saves="x w b mean rstd", fuse=(_ROWS, _WIDTH, _WIDTH))
def _layer_norm(x: Tensor, w: Tensor, b: Tensor, *, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    center = mean(x, axis=-1, keepdims=True)
    shifted = x - center
    rstd = rsqrt(mean(shifted * shifted, axis=-1, keepdims=True) + eps)
    y = shifted * rstd * w + b
    return y, reshape(center, x.shape[:-1]), reshape(rstd, x.shape[:-1])


@_layer_norm.infer
def _(x: Meta, w: Meta, b: Meta, *, eps: float) -> list[Meta]:
    for name, m in (("x", x), ("w", w), ("b", b)):
        need_float("layer_norm", name, m)
    if not x.shape or x.shape[-1] == 0:
        raise shape_error("layer_norm", "x", "of at least 1 dimension, the last not empty", x.shape)
    for name, m in (("w", w), ("b", b)):
        if m.shape != x.shape[-1:]:
            raise shape_error("layer_norm", name, f"of shape {x.shape[-1:]}, the last axis of x {x.shape}", m.shape)
    statistic = Meta(x.shape[:-1], dtypes.sums(x.dtype))
    return [x, statistic, statistic]


_layer_norm.cpu("layer_norm_numpy:forward", when=same_float(), overlap=((0, 0),))


_layer_norm.cpu("layer_norm_cpu:forward", needs="numba", when=float32_only(0, 1, 2), overlap=((0, 0),))


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


def _two_blocks(metas: Metas, attrs: Any) -> list[Meta]:
    w = metas[2]
    return block_scratch(metas, attrs) * 2 + [Meta((w.size,), w.dtype)]


layer_norm_bwd.cpu("layer_norm_numpy:backward", when=same_float(), scratch=_two_blocks, overlap=((0, 0), (0, 1)))


def _wide_float32(metas: Metas, attrs: Any) -> bool:
    # The gradient of a row of one element is exactly 0 without fused multiply-adds alone.
    w = metas[2]
    return float32_only(0, 1, 2, 3, 4)(metas, attrs) and w is not None and w.size > 1


layer_norm_bwd.cpu(
    "layer_norm_cpu:backward",
    needs="numba",
    when=_wide_float32,
    scratch=lambda metas, attrs: [Meta((32, 2, metas[2].size), metas[2].dtype)],
    overlap=((0, 0), (0, 1)),
)


@_layer_norm.vjp
def _(ctx: VjpContext, g: Tensor) -> Sequence[Any]:
    x, w, _ = ctx.inputs
    return layer_norm_bwd(g, x, w, ctx.outputs[1], ctx.outputs[2])


def layer_norm(x: Tensor, w: Tensor, b: Tensor, eps: float = 1e-5) -> Tensor:
    """(x - mean) / sqrt(variance + eps) · w + b over the last axis (Ba, Kiros and Hinton 2016).

    x floating [..., D], w and b [D] → [..., D]; mean and variance (of the population) are taken over D.
    Raises ShapeError when w or b is not [D] or D is 0, DtypeError when one is not floating.
    """
    return _layer_norm(x, w, b, eps=float(eps))
