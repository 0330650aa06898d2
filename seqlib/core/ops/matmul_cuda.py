"""The CUDA kernels of matmul and of what is joined to it (epilogue.py): planned products (product_cuda.py)."""

from collections.abc import Sequence
from typing import Any

from seqlib.core import dtypes
from seqlib.core.op import Attrs, Layout, Meta, Op
from seqlib.core.ops.elementwise import gelu_tanh, gelu_tanh_bwd
from seqlib.core.ops.epilogue import matmul_bias, matmul_bias_gelu, matmul_bias_relu, matmul_gelu_bwd, matmul_sums
from seqlib.core.ops.matmul import _matmul
from seqlib.core.ops.product_cuda import LARGE, product
from seqlib.core.ops.reduce import _sum


def forward(
    outs: Any, ins: Any, scratch: Any, *, transpose_a: bool, transpose_b: bool, independent: bool, wide: bool
) -> None:
    """The kernel of matmul. That rows are `independent` of their neighbours to the bit is promised on the CPU alone."""
    product(ins[0], ins[1], outs[0], transpose_a, transpose_b)


def with_bias(outs: Any, ins: Any, scratch: Any, *, independent: bool) -> None:
    """The kernel of matmul_bias."""
    product(ins[0], ins[1], outs[0], transpose_b=True, epilogue="BIAS", vector=ins[2])


def with_bias_and_relu(outs: Any, ins: Any, scratch: Any, *, independent: bool) -> None:
    """The kernel of matmul_bias_relu."""
    product(ins[0], ins[1], outs[0], transpose_b=True, epilogue="RELU_BIAS", vector=ins[2])


def with_bias_and_gelu(outs: Any, ins: Any, scratch: Any, *, independent: bool) -> None:
    """The kernel of matmul_bias_gelu."""
    y, x = outs
    given = {"transpose_b": True, "vector": ins[2]}

    def apart() -> None:
        to = y if x is None else x
        product(ins[0], ins[1], to, epilogue="BIAS", **given)
        if y is not None:
            run(gelu_tanh, [y], [to])

    if y is None:
        apart()
    else:
        product(ins[0], ins[1], y, epilogue=f"GELU{'' if x is None else '_AUX'}_BIAS", aux=x, apart=apart, **given)


def with_gelu_gradient(outs: Any, ins: Any, scratch: Any) -> None:
    """The kernel of matmul_gelu_bwd."""
    (y,), (g, w, x) = outs, ins

    def apart() -> None:
        product(g, w, y)
        run(gelu_tanh_bwd, [y], [y, x])

    product(g, w, y, epilogue="DGELU", aux=x, apart=apart)


def with_sums(outs: Any, ins: Any, scratch: Any) -> None:
    """The kernel of matmul_sums. Where the epilogue is not measured, in small products, there are two launches."""
    (y, sums), (a, b) = outs, ins
    whole = len(a) % 8 == 0 and a.size * b.shape[1] >= LARGE

    def apart() -> None:
        if y is not None:
            product(a, b, y, transpose_a=True)
        if sums is not None:
            run(_sum, [sums], [a], scratch, **_SUMS)

    if y is None or sums is None or not whole:
        apart()
    else:
        product(a, b, y, transpose_a=True, epilogue="BGRADB", vector=sums, apart=apart)


_SUMS: Attrs = {"axis": (0,), "keepdims": False, "wide": True}


def run(op: Op, outs: Any, ins: Any, scratch: Any = (), **attrs: Any) -> None:
    """Launch the kernel of another op."""
    op.cuda_kernels[0].load()(outs, ins, scratch, **attrs)


def _sums_scratch(metas: Sequence[Meta | None], attrs: Attrs) -> list[Meta]:
    kernel = _sum.cuda_kernels[0]
    assert kernel.scratch is not None
    return kernel.scratch(metas[:1], _SUMS)


def _alike(metas: Sequence[Meta | None], attrs: Attrs) -> bool:
    a, b, *_ = metas
    assert a is not None and b is not None
    return a.dtype == b.dtype != dtypes.float64 and a.size > 0 and b.size > 0


def _half(metas: Sequence[Meta | None], attrs: Attrs) -> bool:
    """Of 16 bits; cuBLASLt wants rows beside the result to begin at multiples of 16 bytes."""
    return _alike(metas, attrs) and all(dtypes.is_half(m.dtype) and m.shape[-1] % 8 == 0 for m in metas if m)


def _with_bias(metas: Sequence[Meta | None], attrs: Attrs) -> bool:
    """The bias is a vector: another sum with a product is none of this."""
    _, b, bias = metas
    assert b is not None and bias is not None
    return bias == Meta(b.shape[:1], b.dtype) and _alike(metas, attrs)


def _half_with_bias(metas: Sequence[Meta | None], attrs: Attrs) -> bool:
    return _with_bias(metas, attrs) and _half(metas, attrs)


def _same_dtype(metas: Sequence[Meta | None], attrs: Attrs) -> bool:
    a, b = metas
    assert a is not None and b is not None
    return a.dtype == b.dtype


def _takes(index: int, layout: Layout) -> bool:
    """Matrices whose rows or columns are contiguous, batches of them on one axis."""
    height, width = layout.strides[-2:]
    return len(layout.shape) <= 3 and (width == 1 or height == 1) and min(height, width) > 0


_matmul.cuda(forward, when=_same_dtype, strided=_takes)
for _op, _fn, _when in (
    (matmul_bias, with_bias, _with_bias),
    (matmul_bias_relu, with_bias_and_relu, _with_bias),
    (matmul_bias_gelu, with_bias_and_gelu, _half_with_bias),
    (matmul_gelu_bwd, with_gelu_gradient, _half),
    (matmul_sums, with_sums, _half),
):
    _op.cuda(
        _fn,
        when=_when,
        scratch=_sums_scratch if _op is matmul_sums else None,
        strided=lambda index, layout: index < 2 and _takes(index, layout),
    )
