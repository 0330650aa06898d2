"""A base for models whose last layer scores tokens: the output weights, the loss, and what tells its parameters apart.

D model width, V vocabulary, N rows.
"""

from typing import Any

from seqlib.core import ops
from seqlib.core.tensor import Parameter, Tensor, as_tensor
from seqlib.nn import init
from seqlib.nn.embedding import Embedding
from seqlib.nn.module import Module
from seqlib.nn.weights import FixedWeight, product
from seqlib.util.errors import ShapeError


class TokenModel(Module):
    """Scores tokens by `output_weight` [V,D], which may be an embedding's."""

    half = True
    multiplied = ("output_weight",)
    config: Any
    output_weight: Parameter

    def output_from(self, embedding: Embedding, tied: bool, width: int = 0) -> None:
        """Set `output_weight`: the weights of `embedding`, or ones of their own (of another `width`)."""
        size, own = embedding.weight.shape
        self.output_weight = embedding.weight if tied else Parameter(init.xavier_uniform((size, width or own)))

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden [..., D] → scores [..., V], at least float32."""
        flat = ops.reshape(hidden, (-1, hidden.shape[-1]))
        scores = product(flat, self.output_weight.as_dtype(hidden.dtype), wide=True)
        return ops.reshape(scores, (*hidden.shape[:-1], scores.shape[1]))

    def tokens_loss(self, hidden: Tensor, targets: Tensor, smoothing: float, weights: Any = None) -> Any:
        """(sum of the cross entropies in nats, number of targets), both float32 scalars, for hidden [...,D] and int32
        targets [...], -1 where there is nothing to learn; with `weights` [N] both are weighted."""
        flat, targets = ops.reshape(hidden, (-1, hidden.shape[-1])), ops.reshape(targets, (-1,))
        if isinstance(self.output_weight, FixedWeight):
            return ops.cross_entropy(self.logits(flat), targets, smoothing=smoothing, weights=weights)
        return ops.linear_cross_entropy(
            flat,
            self.output_weight.as_dtype(hidden.dtype),
            targets,
            smoothing=smoothing,
            ignore_index=-1,
            weights=weights,
        )

    def rows(self, batch: Any) -> tuple[Tensor, Tensor, Tensor | None]:
        """What the loss of a batch is of: hidden [..., D], int32 targets [...] (-1: nothing to learn), weights of the
        targets, float32 [N] (None: 1)."""
        raise NotImplementedError(f"{type(self).__name__} must define rows(batch)")

    def loss(self, batch: Any, smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
        """(sum of the cross entropies in nats, number of targets that count), both float32 scalars, of a batch of the
        model's task; for `train.step.training_step`. With weights in the batch both are weighted."""
        hidden, targets, weights = self.rows(batch)
        return self.tokens_loss(hidden, targets, smoothing, weights)

    def scores(self, batch: Any) -> tuple[Tensor, Tensor, Tensor | None]:
        """logits float [N,V], int32 targets [N] and their weights: see `rows`."""
        hidden, targets, weights = self.rows(batch)
        flat = ops.reshape(self.logits(hidden), (-1, self.output_weight.shape[0]))
        return flat, ops.reshape(targets, (-1,)), weights

    def check_length(self, max_length: int) -> None:
        """ShapeError for a cache of more tokens than the model takes."""
        if max_length > self.config.max_length:
            expected = f"expected at most {self.config.max_length} (the model's)"
            raise ShapeError(f"cache: max_length: {expected}, got {max_length}")


class CausalModel(TokenModel):
    """A language model of a `config` with `hidden`, [B,T] tokens to [B,T,D]."""

    def hidden(self, tokens: Any) -> Tensor:
        """tokens int32 [B,T] → [B,T,D], for `logits`."""
        raise NotImplementedError(f"{type(self).__name__} must define hidden(tokens)")

    def forward(self, tokens: Any) -> Tensor:
        """tokens int32 [B,T] → logits [B,T,V]. Raises ShapeError for T > max_length."""
        return self.logits(self.hidden(tokens))

    def rows(self, batch: Any) -> tuple[Tensor, Tensor, Tensor | None]:
        """Of a `TextBatch`."""
        return self.hidden(batch.inputs), as_tensor(batch.targets), None
