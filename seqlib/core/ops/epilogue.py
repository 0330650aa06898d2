"""A product and what follows it in one pass over its result; the pass `epilogues` puts it where a kernel serves it."""

from __future__ import annotations

from seqlib.core.op import OPS, Meta, fused, need_alike, shape_error
from seqlib.core.ops.elementwise import relu as maximum_with_0
from seqlib.core.tensor import Tensor


@fused(differentiable=False)
def matmul_bias(a: Tensor, b: Tensor, bias: Tensor, *, transpose_a: bool, transpose_b: bool, relu: bool) -> Tensor:
    """a b + bias for matrices, its negative elements 0 with `relu`."""
    y = OPS["matmul"](a, b, transpose_a=transpose_a, transpose_b=transpose_b) + bias
    return maximum_with_0(y) if relu else y


@matmul_bias.infer
def _(a: Meta, b: Meta, bias: Meta, *, relu: bool, **attrs: bool) -> list[Meta]:
    (y,) = OPS["matmul"].infer_metas([a, b], {**attrs, "independent": False, "wide": False})
    need_alike("matmul_bias", a=a, b=b, bias=bias)
    if len(y.shape) != 2 or bias.shape != y.shape[1:]:
        raise shape_error("matmul_bias", "bias", f"[N] beside a product [M, N], {y.shape}", bias.shape)
    return [y]
