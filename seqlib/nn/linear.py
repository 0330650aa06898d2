"""Linear: an affine map of the last axis, and several of them in one product."""

from collections.abc import Callable, Sequence
from typing import Any

from seqlib.core import ops
from seqlib.core.op import shape_error
from seqlib.core.tensor import Parameter, Tensor
from seqlib.nn import init
from seqlib.nn.module import Module
from seqlib.nn.weights import product


class Linear(Module):
    """y = x Wᵀ + b for x [..., in], in x's dtype; `weight` is [out, in] (Hugging Face's layout), `bias` [out] or none;
    in is `in_features`, out `out_features`.

    W is drawn by `init.xavier_uniform`, b is 0.
    """

    bias: Parameter | None
    multiplied = ("weight", "bias")

    def __init__(self, in_features: int, out_features: int, bias: bool = True):
        self.weight = Parameter(init.xavier_uniform((out_features, in_features)))
        self.bias = Parameter(init.zeros((out_features,))) if bias else None

    def forward(self, x: Tensor, activation: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """[..., in] → [..., out], then an elementwise `activation`. ShapeError when the last axis is not `in`."""
        bias = None if self.bias is None else self.bias.as_dtype(x.dtype)
        return _affine(x, [self.effective(x.dtype)], bias, activation)

    def effective(self, dtype: Any) -> Any:
        """What x is multiplied by, [out, in] in `dtype`: the weight, and what subclasses make of it."""
        return self.weight.as_dtype(dtype)


def joined(x: Tensor, *layers: Linear) -> Tensor:
    """The results of several layers on one x [..., in], side by side: [..., Σ out], in one product.

    Their weights are joined first, which is a copy of parameters, once a step; results and gradients are never copied.
    """
    weights = [layer.effective(x.dtype) for layer in layers]
    biases = [layer.bias.as_dtype(x.dtype) for layer in layers if layer.bias is not None]
    return _affine(x, weights, ops.concatenate(biases, axis=0) if biases else None)


def _affine(
    x: Tensor, weights: Sequence[Any], bias: Tensor | None, activation: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    in_features = weights[0].shape[1]
    if x.shape[-1] != in_features:
        raise shape_error("Linear", "x", f"of a last axis of {in_features}", x.shape)
    # One product over all rows: the gradient of W is then one product too, not a sum over the batch.
    y = product(ops.reshape(x, shape=(-1, in_features)), *weights, bias=bias, activation=activation)
    return ops.reshape(y, shape=(*x.shape[:-1], y.shape[1]))
