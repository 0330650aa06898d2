"""The CPU kernels of products that take along a bias and an activation (epilogue.py), by oneDNN: what follows is done
while a tile of the product is in the registers."""

from typing import Any

from seqlib.core import dtypes
from seqlib.core.backends import onednn_cpu as onednn
from seqlib.core.modes import half_products
from seqlib.core.op import OPS, Attrs, Meta, Metas


def by_onednn(metas: Metas, attrs: Attrs) -> bool:
    """Large products that oneDNN computes. Of few rows little is gained: the sum is one loop with what follows."""
    a, b, bias = metas
    assert a is not None and b is not None and bias is not None
    alike = {m.dtype for m in (a, b, bias)} == {dtypes.float32} and bias.shape == b.shape[:1]
    large = alike and a.shape[0] >= 64 and a.size * b.shape[0] >= 1 << 20
    return large and onednn.worthwhile() and (half_products() or not attrs["independent"])


def _product(ins: Any, out: Any, activation: str = "") -> None:
    a, b, bias = ins
    onednn.product(a, b.T, out, half_products(), bias=bias, activation=activation)


def matmul_bias(outs: Any, ins: Any, scratch: Any, *, independent: bool) -> None:
    """The kernel of matmul_bias."""
    _product(ins, outs[0])


def matmul_bias_relu(outs: Any, ins: Any, scratch: Any, *, independent: bool) -> None:
    """The kernel of matmul_bias_relu."""
    _product(ins, outs[0], "relu")


def _with(activation: str, outs: Any, ins: Any) -> None:
    y, x = outs
    if x is None:
        _product(ins, y, activation)
        return
    _product(ins, x)
    if y is not None:
        kernel = OPS[activation].kernel("cpu", [Meta(x.shape, dtypes.float32)], {})
        assert kernel is not None
        kernel.load()([y], [x], ())


def matmul_bias_gelu(outs: Any, ins: Any, scratch: Any, *, independent: bool) -> None:
    """The kernel of matmul_bias_gelu."""
    _with("gelu_tanh", outs, ins)


def matmul_bias_gelu_erf(outs: Any, ins: Any, scratch: Any, *, independent: bool) -> None:
    """The kernel of matmul_bias_gelu_erf."""
    _with("gelu_erf", outs, ins)
