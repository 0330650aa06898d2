"""Gated linear units: a · act(b) of the two halves of the last axis (Dauphin et al. 2017; Shazeer 2020).

Both halves come of one product and their gradients go into one buffer, so neither is ever copied. F is half the axis.
"""

from typing import Any

from seqlib.core.op import Meta, Metas, Op, VjpContext, fused, need_float, shape_error
from seqlib.core.ops.blocks import float32_only, same_float
from seqlib.core.ops.elementwise import gelu_erf, gelu_tanh, relu, sigmoid, silu
from seqlib.core.ops.join import concatenate, split
from seqlib.core.tensor import Tensor
from seqlib.util.errors import unknown

ACTIVATIONS: dict[str, Op] = {"sigmoid": sigmoid, "relu": relu, "gelu": gelu_erf, "gelu_tanh": gelu_tanh, "silu": silu}


@fused(saves="x")
def _glu(x: Tensor, *, activation: str) -> Tensor:
    a, b = split(x, 2, axis=-1)
    return a * ACTIVATIONS[activation](b)


@_glu.infer
def _(x: Meta, *, activation: str) -> list[Meta]:
    need_float("glu", "x", x)
    if not x.shape or x.shape[-1] % 2:
        raise shape_error("glu", "x", "[..., 2 F], two halves along the last axis", x.shape)
    return [Meta((*x.shape[:-1], x.shape[-1] // 2), x.dtype)]


@fused(differentiable=False, like="x")
def glu_bwd(g: Tensor, x: Tensor, *, activation: str) -> Tensor:
    """The gradient of glu: (g · act(b), g · a · act'(b)) side by side."""
    a, b = split(x, 2, axis=-1)
    act = ACTIVATIONS[activation]
    y = act(b)
    assert act.vjp_rule is not None
    (slope,) = act.vjp_rule(VjpContext((b,), (y,), {}, (True,)), g * a)
    return concatenate([g * y, slope], axis=-1)


_glu.vjp(lambda ctx, g: (glu_bwd(g, ctx.inputs[0], **ctx.attrs),))


def _fast(metas: Metas, attrs: dict[str, Any]) -> bool:
    return attrs["activation"] in ("gelu", "silu") and float32_only(0)(metas, attrs)


_glu.cpu("glu_numpy:forward", when=same_float())
glu_bwd.cpu("glu_numpy:backward", when=same_float(), overlap=((0, 1),))
_glu.cpu("glu_cpu:forward", needs="numba", when=_fast)
glu_bwd.cpu("glu_cpu:backward", needs="numba", when=_fast)


def glu(x: Tensor, activation: str = "sigmoid") -> Tensor:
    """a · act(b) of the halves x = [a, b] of the last axis: x floating [..., 2 F] → [..., F].

    `activation` is "sigmoid" (GLU, Dauphin et al. 2017), "relu", "gelu", "gelu_tanh" or "silu" (ReGLU, GEGLU and
    SwiGLU, Shazeer 2020). Raises UsageError for another, ShapeError for an odd axis, DtypeError.
    """
    if activation not in ACTIVATIONS:
        raise unknown("activation of glu", activation, ACTIVATIONS)
    return _glu(x, activation=activation)
