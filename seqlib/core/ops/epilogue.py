"""Products that take along what follows them, or a sum beside them: compiled functions have them where a kernel does
all in one pass. M rows, N and K columns.
"""

from seqlib.core import dtypes
from seqlib.core.op import OPS, Attrs, Meta, Metas, fused
from seqlib.core.ops.elementwise import gelu_erf, gelu_tanh, gelu_tanh_bwd, relu
from seqlib.core.ops.reduce import _sum
from seqlib.core.tape import infer_composed
from seqlib.core.tensor import Tensor

_LEFT, _RIGHT, _BIAS, _LAST = (Meta(shape, dtypes.float32) for shape in ((5, 3), (4, 3), (4,), (5, 4)))


def _affine(a: Tensor, b: Tensor, bias: Tensor, independent: bool) -> Tensor:
    return OPS["matmul"](a, b, transpose_a=False, transpose_b=True, independent=independent) + bias


@fused(differentiable=False, fuse=(_LEFT, _RIGHT, _BIAS))
def matmul_bias(a: Tensor, b: Tensor, bias: Tensor, *, independent: bool = False) -> Tensor:
    """a bᵀ + bias for a [M, K], b [N, K] and bias [N]; `independent` is that of matmul, here and below."""
    return _affine(a, b, bias, independent)


@fused(differentiable=False, fuse=(_LEFT, _RIGHT, _BIAS))
def matmul_bias_relu(a: Tensor, b: Tensor, bias: Tensor, *, independent: bool = False) -> Tensor:
    """The relu of matmul_bias."""
    return relu(_affine(a, b, bias, independent))


@fused(outs="y x", visible=2, differentiable=False, fuse=(_LEFT, _RIGHT, _BIAS))
def matmul_bias_gelu(a: Tensor, b: Tensor, bias: Tensor, *, independent: bool = False) -> tuple[Tensor, Tensor]:
    """(gelu_tanh(x), x) for x = matmul_bias: the gradient reads x."""
    return gelu_tanh(x := _affine(a, b, bias, independent)), x


@fused(outs="y x", visible=2, differentiable=False, fuse=(_LEFT, _RIGHT, _BIAS))
def matmul_bias_gelu_erf(a: Tensor, b: Tensor, bias: Tensor, *, independent: bool = False) -> tuple[Tensor, Tensor]:
    """(gelu_erf(x), x) for x = matmul_bias."""
    return gelu_erf(x := _affine(a, b, bias, independent)), x


@fused(differentiable=False, fuse=(_LAST, _RIGHT, _LEFT))
def matmul_gelu_bwd(g: Tensor, w: Tensor, x: Tensor) -> Tensor:
    """gelu_tanh_bwd(g w, x) for g [M, N], w [N, K] and x [M, K]: the gradient through a layer to its activation."""
    return gelu_tanh_bwd(OPS["matmul"](g, w, transpose_a=False, transpose_b=False), x)


@fused(outs="product sums", visible=2, differentiable=False, fuse=(_LAST, _LEFT))
def matmul_sums(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """(aᵀ b, the sums of a over its rows) for a [M, N] and b [M, K], in float32 for 16 bits: a layer's gradients."""
    sums = _sum(a, axis=(0,), keepdims=False, wide=True)
    return OPS["matmul"](a, b, transpose_a=True, transpose_b=False, wide=True), sums


def _by_onednn(metas: Metas, attrs: Attrs) -> bool:
    from seqlib.core.ops.epilogue_numpy import by_onednn  # with its library, when it is asked for

    return by_onednn(metas, attrs)


for _op in (matmul_bias, matmul_bias_relu, matmul_bias_gelu, matmul_bias_gelu_erf, matmul_gelu_bwd, matmul_sums):
    infer_composed(_op)
    _axis = int(_op in (matmul_gelu_bwd, matmul_sums))
    _op.flops(lambda a, b, *rest, axis=_axis, **attrs: 2 * a.size * b.shape[axis])
    if not _axis:
        _op.cpu(f"epilogue_numpy:{_op.name}", when=_by_onednn, strided=lambda index, layout: index < 2)
