"""Dropout."""

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
