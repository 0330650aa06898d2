"""Normalisation layers."""

from collections.abc import Callable

from seqlib.core import ops
from seqlib.core.tensor import Parameter, Tensor
from seqlib.nn import init
from seqlib.nn.module import Module


class LayerNorm(Module):
    """y = (x - mean) / sqrt(var + eps) · weight + bias over the last axis, of size `features` (Ba et al.
    2016); biased variance.

    `eps` is 1e-6 as in Tensor2Tensor; checkpoints of other families bring their own.
    """

    def __init__(self, features: int, eps: float = 1e-6):
        self.eps = eps
        self.weight = Parameter(init.ones((features,)))
        self.bias = Parameter(init.zeros((features,)))

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] → [..., D]."""
        return ops.layer_norm(x, self.weight, self.bias, eps=self.eps)


class RMSNorm(Module):
    """y = x / sqrt(mean(x²) + eps) · weight over the last axis, of size `features` (Zhang and Sennrich 2019)."""

    def __init__(self, features: int, eps: float = 1e-6):
        self.eps = eps
        self.weight = Parameter(init.ones((features,)))

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] → [..., D]."""
        return ops.rms_norm(x, self.weight, eps=self.eps)


NORMS: dict[str, Callable[[int, float], Module]] = {"layer": LayerNorm, "rms": RMSNorm}
"""Norms by the names that configurations use."""
