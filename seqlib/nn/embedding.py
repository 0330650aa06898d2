"""Token embeddings."""

from typing import Any

from seqlib.core import ops
from seqlib.core.tensor import Parameter, Tensor
from seqlib.nn import init
from seqlib.nn.module import Module
from seqlib.nn.weights import FixedWeight


class Embedding(Module):
    """Rows of `weight` [V, D] (V `vocabulary`, D `features`) by token id, times `scale`, in the `compute` dtype;
    drawn from N(0, 1/D).

    With ``scale = sqrt(D)`` the embedded tokens have unit variance while the same table serves as output weights
    (Vaswani et al. 2017, section 3.4).
    """

    multiplied = ("weight",)

    def __init__(self, vocabulary: int, features: int, scale: float = 1.0):
        self.scale = scale
        self.weight = Parameter(init.normal((vocabulary, features), std=features**-0.5))

    def forward(self, ids: Tensor) -> Tensor:
        """int32 [...] → [..., D]."""
        table: Any = self.weight.as_dtype(self.compute or self.weight.dtype)
        embedded = table.rows(ids) if isinstance(table, FixedWeight) else ops.embedding(ids, table)
        return embedded if self.scale == 1.0 else embedded * self.scale
