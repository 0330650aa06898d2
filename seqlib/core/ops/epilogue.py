"""Products that take along what follows them: compiled functions have them where a kernel does all in one pass."""

from __future__ import annotations

from typing import Any

from seqlib.core import dtypes
from seqlib.core.op import OPS, Meta, fused, need_alike, shape_error
from seqlib.core.ops.elementwise import relu
from seqlib.core.tensor import Tensor

_EXAMPLE = tuple(Meta(shape, dtypes.float32) for shape in ((5, 3), (4, 3), (4,)))


@fused(differentiable=False, fuse=_EXAMPLE)
def matmul_bias(a: Tensor, b: Tensor, bias: Tensor) -> Tensor:
    """a bᵀ + bias for a [M, K], b [N, K] and bias [N]."""
    return OPS["matmul"](a, b, transpose_a=False, transpose_b=True) + bias


@fused(differentiable=False, fuse=_EXAMPLE)
def matmul_bias_relu(a: Tensor, b: Tensor, bias: Tensor) -> Tensor:
    """The relu of matmul_bias."""
    return relu(OPS["matmul"](a, b, transpose_a=False, transpose_b=True) + bias)


@matmul_bias.infer
@matmul_bias_relu.infer
def _(a: Meta, b: Meta, bias: Meta, **_: Any) -> list[Meta]:
    y = OPS["matmul"].infer_metas([a, b], {**OPS["matmul"].defaults, "transpose_a": False, "transpose_b": True})
    need_alike("matmul_bias", a=a, b=b, bias=bias)
    if len(y[0].shape) != 2 or bias.shape != y[0].shape[1:]:
        raise shape_error("matmul_bias", "bias", f"[N] beside a product [M, N], {y[0].shape}", bias.shape)
    return y
