"""Root-mean-square normalisation over the last axis (Zhang and Sennrich 2019). Rows are [rows, D]."""

from __future__ import annotations

from typing import Any

from seqlib.core import dtypes
from seqlib.core.op import Meta, Metas, fused, need_alike, need_float, shape_error
from seqlib.core.ops.blocks import block_scratch, float32_only, same_float
from seqlib.core.ops.elementwise import rsqrt
from seqlib.core.ops.reduce import mean, sum_to
from seqlib.core.ops.shape import reshape
from seqlib.core.tensor import Tensor


@fused(outs="y rstd", saves="x w rstd", fuse=(Meta((3, 5), dtypes.float32), Meta((5,), dtypes.float32)))
def _rms_norm(x: Tensor, w: Tensor, *, eps: float) -> tuple[Tensor, Tensor]:
    rstd = rsqrt(mean(x * x, axis=-1, keepdims=True) + eps)
    return x * rstd * w, reshape(rstd, x.shape[:-1])


@_rms_norm.infer
def _(x: Meta, w: Meta, *, eps: float) -> list[Meta]:
    if w.dtype != dtypes.sums(x.dtype):  # float32 weights are right beside 16 bits
        need_alike("rms_norm", x=x, w=w)
    need_float("rms_norm", "x", x)
    if not x.shape or x.shape[-1] == 0:
        raise shape_error("rms_norm", "x", "of at least 1 dimension, the last not empty", x.shape)
    if w.shape != x.shape[-1:]:
        raise shape_error("rms_norm", "w", f"of shape {x.shape[-1:]}, the last axis of x {x.shape}", w.shape)
    return [x, Meta(x.shape[:-1], dtypes.sums(x.dtype))]


@fused(outs="gx gw", visible=2, differentiable=False, like="x w")
def rms_norm_bwd(g: Tensor, x: Tensor, w: Tensor, rstd: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of rms_norm: with x̂ = x rstd and h = g w, gx = rstd (h - x̂ mean(h x̂)), gw = Σ g x̂ over rows."""
    scale = reshape(rstd, (*x.shape[:-1], 1))
    unit = x * scale
    h = g * w
    return scale * (h - unit * mean(h * unit, axis=-1, keepdims=True)), sum_to(g * unit, w.shape)


_rms_norm.vjp(lambda ctx, g: rms_norm_bwd(g, *ctx.inputs, ctx.outputs[1]))


def _scratch(metas: Metas, attrs: Any) -> list[Meta]:
    w = metas[2]
    return block_scratch(metas, attrs) * 2 + [w]


_rms_norm.cpu("rms_norm_numpy:forward", when=same_float(), overlap=((0, 0),))
rms_norm_bwd.cpu("rms_norm_numpy:backward", when=same_float(), scratch=_scratch, overlap=((0, 0), (0, 1)))
_rms_norm.cpu("rms_norm_cpu:forward", needs="numba", when=float32_only(0, 1), overlap=((0, 0),))
rms_norm_bwd.cpu(
    "rms_norm_cpu:backward",
    needs="numba",
    when=float32_only(0, 1, 2, 3),
    scratch=lambda metas, attrs: [Meta((32, metas[2].size), metas[2].dtype)],
    overlap=((0, 0), (0, 1)),
)


def rms_norm(x: Tensor, w: Tensor, eps: float = 1e-6) -> Tensor:
    """x / sqrt(mean(x²) + eps) · w over the last axis (Zhang and Sennrich 2019): x floating [..., D], w [D] → [..., D].

    Raises ShapeError when w is not [D] or D is 0, DtypeError when x is not floating or w not of its dtype.
    """
    return _rms_norm(x, w, eps=float(eps))
