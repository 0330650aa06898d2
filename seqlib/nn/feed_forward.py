"""The position-wise feed-forward block."""

from collections.abc import Callable
from typing import Any

from seqlib.core import ops
from seqlib.core.tensor import Tensor
from seqlib.nn.dropout import Dropout
from seqlib.nn.linear import Linear, joined
from seqlib.nn.module import Module
from seqlib.util.errors import unknown

ACTIVATIONS: dict[str, Callable[..., Any]] = {
    "relu": ops.relu,
    "gelu": ops.gelu_erf,
    "gelu_tanh": ops.gelu_tanh,
    "silu": ops.silu,
}
GATED = {"glu": "sigmoid", "reglu": "relu", "geglu": "gelu", "geglu_tanh": "gelu_tanh", "swiglu": "silu"}
"""Gated activations, by the activation of their gate (`ops.glu`)."""


class FeedForward(Module):
    """y = W_out · dropout(act(W_in · x + b_in)) + b_out, D `features` → F `hidden` → D (Vaswani et al. 2017, section
    3.3).

    `activation` is "relu", "gelu" (the exact, erf form), "gelu_tanh" or "silu"; or, with a third matrix W_gate [F, D],
    "glu", "reglu", "geglu", "geglu_tanh" or "swiglu" (Shazeer 2020): (W_in · x + b_in) · act(W_gate · x + b_gate) in
    the place of act(W_in · x + b_in). Both come of one product. Without `bias` the b are absent. Another name raises
    UsageError.
    """

    def __init__(self, features: int, hidden: int, activation: str = "relu", dropout: float = 0.0, bias: bool = True):
        if activation not in ACTIVATIONS and activation not in GATED:
            raise unknown("activation", activation, [*ACTIVATIONS, *GATED])
        self.activation = activation
        self.in_proj = Linear(features, hidden, bias)
        self.gate_proj = Linear(features, hidden, bias) if activation in GATED else None
        self.dropout = Dropout(dropout)
        self.out_proj = Linear(hidden, features, bias)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] → [..., D]."""
        if self.gate_proj is None:
            hidden = self.in_proj(x, ACTIVATIONS[self.activation])
        else:
            hidden = ops.glu(joined(x, self.in_proj, self.gate_proj), GATED[self.activation])
        return self.out_proj(self.dropout(hidden))
