"""Positions that are added to embedded tokens: sinusoids, or learnt vectors."""

from typing import Any

import numpy as np

from seqlib.core import ops
from seqlib.core.op import shape_error
from seqlib.core.tensor import Parameter, Tensor, Variable
from seqlib.nn import init
from seqlib.nn.module import Module
from seqlib.util.errors import UsageError


class Positions(Module):
    """Adds row t of a table [max_length, D] to the token at position t."""

    max_length: int

    def rows(self, dtype: Any) -> Tensor:
        """The table in `dtype`; defined by each subclass."""
        raise NotImplementedError(f"{type(self).__name__} has no rows")

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] → [B, T, D]. Raises ShapeError for T > max_length."""
        if x.shape[1] > self.max_length:
            expected = f"at most {self.max_length} tokens long (the model's max_length)"
            raise shape_error("positions", "x", expected, x.shape)
        return x + self.rows(x.dtype)[: x.shape[1]]

    def each(self, x: Tensor, positions: Tensor) -> Tensor:
        """[N, D] tokens at `positions` (int32 [N]) → [N, D]. Raises IndexRangeError for one past the table."""
        return x + ops.take(self.rows(x.dtype), positions, axis=0)

    def at(self, x: Tensor, position: Tensor) -> Tensor:
        """[R, D] tokens that all stand at one `position` (int32, 0-d) → [R, D]."""
        return x + ops.take(self.rows(x.dtype), ops.reshape(position, shape=(1,)), axis=0)


class SinusoidalPositions(Positions):
    """`sinusoid_table` (Vaswani et al. 2017; `paper`: with the wavelengths of their text) of `max_length` rows and D =
    `features`: a constant, neither trained nor saved."""

    derived = ("table",)

    def __init__(self, max_length: int, features: int, paper: bool = False):
        self.max_length = max_length
        self.table = Variable(sinusoid_table(max_length, features, paper), name="positions")

    def rows(self, dtype: Any) -> Tensor:
        """[max_length, D]."""
        return self.table.astype(dtype)


class LearnedPositions(Positions):
    """A trained vector for each position (Gehring et al. 2017), D = `features`, drawn from N(0, 1/D). `weight` is
    [offset + max_length, D]; its first `offset` rows belong to no position (RoBERTa and BART have such)."""

    multiplied = ("weight",)

    def __init__(self, max_length: int, features: int, offset: int = 0):
        self.max_length, self.offset = max_length, offset
        self.weight = Parameter(init.normal((offset + max_length, features), std=features**-0.5))

    def rows(self, dtype: Any) -> Tensor:
        """[max_length, D]."""
        rows = self.weight.as_dtype(dtype)
        return rows[self.offset :] if self.offset else rows


def added_positions(
    kind: str, max_length: int, features: int, offset: int = 0
) -> tuple[Positions | None, Positions | None]:
    """What an encoder–decoder of this `kind` of positions adds to source and target embeddings: one table of
    "sinusoidal" or "sinusoidal_paper", two of "learned" positions, nothing for others."""
    if kind.startswith("sinusoidal"):
        table = SinusoidalPositions(max_length, features, paper=kind == "sinusoidal_paper")
        return table, table
    if kind == "learned":
        first, second = (LearnedPositions(max_length, features, offset) for _ in range(2))
        return first, second
    return None, None


def sinusoid_table(length: int, features: int, paper: bool = False) -> np.ndarray:
    """float32 [length, D], D = `features`: sin(t·w_i) in the first D/2 columns, cos(t·w_i) in the rest.

    w_i = 10000^(-i / (D/2 - 1)), i = 0 … D/2 - 1, t = 0 …: wavelengths from 2π to 10000·2π, as Tensor2Tensor lays them
    out. With `paper`, w_i = 10000^(-2i / D), as Vaswani et al. 2017 have it in their text (interleaving the columns,
    which is the same model up to a permutation). Raises UsageError for odd D.
    """
    if features < 2 or features % 2:
        raise UsageError(f"sinusoidal positions need an even width of at least 2, got {features}")
    half = features // 2
    rates = 10000.0 ** (-np.arange(half) / (half if paper else max(half - 1, 1)))
    angles = np.arange(length)[:, None] * rates[None, :]
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)
