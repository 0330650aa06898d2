"""Dropout."""

from typing import Any

from seqlib.core import ops
from seqlib.core.tensor import Tensor
from seqlib.nn.module import Module
from seqlib.util.errors import UsageError


class Dropout(Module):
    """In training, zeroes each element with probability p and scales the rest by 1/(1-p); otherwise the identity.

    The mask is drawn from the ambient generator and regenerated in the backward pass, never stored.
    """

    def __init__(self, p: float):
        self.p = check_rate(p)

    def forward(self, x: Tensor) -> Tensor:
        """Any shape → the same shape."""
        return ops.dropout(x, p=self.p) if self.training and self.p > 0.0 else x


def check_rate(p: float, name: str = "dropout") -> float:
    """`p` itself; raises UsageError unless 0 ≤ p < 1."""
    if not 0.0 <= p < 1.0:
        raise UsageError(f"{name}: expected a rate with 0 <= p < 1, got {p}")
    return p


def check_config(config: Any, model: str, sizes: str, rates: str) -> None:
    """Raises UsageError for one of the fields `sizes` below 1, of `rates` outside [0, 1)."""
    for name in sizes.split():
        if getattr(config, name) < 1:
            raise UsageError(f"{model}: {name}: expected at least 1, got {getattr(config, name)}")
    for name in rates.split():
        check_rate(getattr(config, name), f"{model}: {name}")
