"""The CUDA kernels of matmul, matmul_bias and matmul_bias_relu: planned products (product_cuda.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seqlib.core import dtypes
from seqlib.core.op import Attrs, Layout, Meta
from seqlib.core.ops.epilogue import matmul_bias, matmul_bias_relu
from seqlib.core.ops.matmul import _matmul
from seqlib.core.ops.product_cuda import product


def forward(
    outs: Any, ins: Any, scratch: Any, *, transpose_a: bool, transpose_b: bool, independent: bool, wide: bool
) -> None:
    """The kernel of matmul. That rows are `independent` of their neighbours to the bit is promised on the CPU alone."""
    product(ins[0], ins[1], outs[0], transpose_a, transpose_b)


def with_bias(outs: Any, ins: Any, scratch: Any) -> None:
    """The kernel of matmul_bias."""
    product(ins[0], ins[1], outs[0], transpose_b=True, bias=ins[2])


def with_bias_and_relu(outs: Any, ins: Any, scratch: Any) -> None:
    """The kernel of matmul_bias_relu."""
    product(ins[0], ins[1], outs[0], transpose_b=True, bias=ins[2], relu=True)


def _with_bias(metas: Sequence[Meta | None], attrs: Attrs) -> bool:
    a, b, _ = metas
    assert a is not None and b is not None
    return a.dtype == b.dtype != dtypes.float64 and a.size > 0 and b.size > 0


def _same_dtype(metas: Sequence[Meta | None], attrs: Attrs) -> bool:
    a, b = metas
    assert a is not None and b is not None
    return a.dtype == b.dtype


def _takes(index: int, layout: Layout) -> bool:
    """Matrices whose rows or columns are contiguous, batches of them on one axis."""
    height, width = layout.strides[-2:]
    return len(layout.shape) <= 3 and (width == 1 or height == 1) and min(height, width) > 0


_matmul.cuda(forward, when=_same_dtype, strided=_takes)
for _op, _fn in ((matmul_bias, with_bias), (matmul_bias_relu, with_bias_and_relu)):
    _op.cuda(_fn, when=_with_bias, strided=lambda index, layout: index < 2 and _takes(index, layout))
