"""Normalisation layers."""

from seqlib.core import ops
from seqlib.core.tensor import Parameter, Tensor
from seqlib.nn import init
from seqlib.nn.module import Module

__all__ = ["LayerNorm"]


class LayerNorm(Module):
    """y = (x - mean) / sqrt(var + eps) · weight + bias over the last axis (Ba et al. 2016); biased variance.

    `eps` is 1e-6 as in Tensor2Tensor; checkpoints of other families bring their own.
    """

    def __init__(self, features: int, eps: float = 1e-6):
        self.eps = eps
        self.weight = Parameter(init.ones((features,)))
        self.bias = Parameter(init.zeros((features,)))

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] → [..., D]."""
        return ops.layer_norm(x, self.weight, self.bias, eps=self.eps)
