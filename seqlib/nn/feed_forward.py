"""The position-wise feed-forward block."""

from collections.abc import Callable
from typing import Any

from seqlib.core import ops
from seqlib.core.tensor import Tensor
from seqlib.nn.dropout import Dropout
from seqlib.nn.linear import Linear
from seqlib.nn.module import Module
from seqlib.util.errors import unknown

__all__ = ["ACTIVATIONS", "FeedForward"]

ACTIVATIONS: dict[str, Callable[..., Any]] = {"relu": ops.relu, "gelu": ops.gelu, "silu": ops.silu}


class FeedForward(Module):
    """y = W_out · dropout(act(W_in · x + b_in)) + b_out, D → F → D (Vaswani et al. 2017, section 3.3).

    `activation` is "relu", "gelu" (the exact, erf form) or "silu"; another name raises UsageError.
    """

    def __init__(self, features: int, hidden: int, activation: str = "relu", dropout: float = 0.0):
        if activation not in ACTIVATIONS:
            raise unknown("activation", activation, ACTIVATIONS)
        self.activation = activation
        self.in_proj = Linear(features, hidden)
        self.dropout = Dropout(dropout)
        self.out_proj = Linear(hidden, features)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] → [..., D]."""
        return self.out_proj(self.dropout(ACTIVATIONS[self.activation](self.in_proj(x))))
