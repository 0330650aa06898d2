"""Token embeddings and sinusoidal positions."""

import numpy as np

from seqlib.core import ops
from seqlib.core.op import shape_error
from seqlib.core.tensor import Parameter, Tensor, Variable
from seqlib.nn import init
from seqlib.nn.module import Module
from seqlib.util.errors import UsageError

__all__ = ["Embedding", "SinusoidalPositions", "sinusoid_table"]


class Embedding(Module):
    """Rows of `weight` [V, D] by token id, times `scale`; drawn from N(0, 1/D).

    With ``scale = sqrt(D)`` the embedded tokens have unit variance while the same table serves as output weights
    (Vaswani et al. 2017, section 3.4).
    """

    def __init__(self, vocabulary: int, features: int, scale: float = 1.0):
        self.scale = scale
        self.weight = Parameter(init.normal((vocabulary, features), std=features**-0.5))

    def forward(self, ids: Tensor) -> Tensor:
        """int32 [...] → [..., D]."""
        embedded = ops.embedding(ids, self.weight)
        return embedded if self.scale == 1.0 else embedded * self.scale


class SinusoidalPositions(Module):
    """Adds `sinusoid_table` to embedded tokens; the table is a constant, neither trained nor saved."""

    derived = ("table",)

    def __init__(self, max_length: int, features: int):
        self.max_length = max_length
        self.table = Variable(sinusoid_table(max_length, features), name="positions")

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] → [B, T, D]. Raises ShapeError for T > max_length."""
        if x.shape[1] > self.max_length:
            expected = f"at most {self.max_length} tokens long (the model's max_length)"
            raise shape_error("positions", "x", expected, x.shape)
        return x + self.table[: x.shape[1]]

    def each(self, x: Tensor, positions: Tensor) -> Tensor:
        """[N, D] tokens at `positions` (int32 [N]) → [N, D]. Raises IndexRangeError for one past the table."""
        return x + ops.take(self.table, positions, axis=0)

    def at(self, x: Tensor, position: Tensor) -> Tensor:
        """[R, D] tokens that all stand at one `position` (int32, 0-d) → [R, D]."""
        return x + ops.take(self.table, ops.reshape(position, shape=(1,)), axis=0)


def sinusoid_table(length: int, features: int) -> np.ndarray:
    """float32 [length, D]: sin(t·w_i) in the first D/2 columns, cos(t·w_i) in the rest.

    w_i = 10000^(-i / (D/2 - 1)), i = 0 … D/2 - 1, t = 0 …: wavelengths from 2π to 10000·2π, as Tensor2Tensor lays them
    out (Vaswani et al. 2017 interleave the columns: the same model up to a permutation). Raises UsageError for odd D.
    """
    if features < 2 or features % 2:
        raise UsageError(f"sinusoidal positions need an even width of at least 2, got {features}")
    half = features // 2
    rates = 10000.0 ** (-np.arange(half) / max(half - 1, 1))
    angles = np.arange(length)[:, None] * rates[None, :]
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)
