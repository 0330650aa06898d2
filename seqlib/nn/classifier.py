"""A base for models that label texts: give `features`, and the output layer, the loss and probabilities follow.

B batch, S time, D width of the features, L outputs.
"""

from typing import Any

from seqlib.core import ops
from seqlib.core.tensor import Tensor, as_tensor
from seqlib.nn.dropout import Dropout
from seqlib.nn.linear import Linear
from seqlib.nn.module import Module
from seqlib.util.errors import UsageError


class TextClassifier(Module):
    """Loss and logits of any model with `features`, over `width` numbers a text that are dropped at the rate `dropout`.

    `spec.labels` says what is told apart. Raises UsageError for a spec without.
    """

    config: Any

    def __init__(self, spec: Any, width: int, dropout: float):
        if spec.labels is None:
            raise UsageError(f"{type(self).__name__}: the problem has no labels; this model is for text classification")
        self.labels: Any = spec.labels
        self.dropout = Dropout(dropout)
        self.output = Linear(width, self.labels.outputs)

    def features(self, ids: Tensor, lengths: Tensor, types: Tensor | None) -> Tensor:
        """ids int32 [B,S], lengths int32 [B], types int32 [B,S] (None: single texts) → [B,D]; see `LabelledBatch`."""
        raise NotImplementedError(f"{type(self).__name__} must define features(ids, lengths, types)")

    def forward(self, ids: Any, lengths: Any, types: Any = None) -> Tensor:
        """As `features` → logits [B,L]."""
        given = None if types is None else as_tensor(types)
        return self.output(self.dropout(self.features(as_tensor(ids), as_tensor(lengths), given)))

    def loss(self, batch: Any, smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
        """(sum of weight times loss, sum of the weights) over a `LabelledBatch`, both float32 scalars.

        A class costs its cross entropy in nats; several labels the mean of their binary cross entropies, targets
        smoothed towards 1/2; a number, scaled such that `low` to `high` is -1 to 1, the squared error.
        """
        logits, targets, weights = self._outputs(batch)
        if self.labels.kind == "multi_class":
            return ops.cross_entropy(logits, targets, smoothing=smoothing, weights=weights)
        if self.labels.kind == "regression":
            low, high = self.labels.low, self.labels.high
            targets = (targets - (low + high) / 2) * (2 / (high - low))
            each = (ops.reshape(logits, (-1,)) - targets) ** 2
        else:
            targets = targets * (1 - smoothing) + smoothing / 2
            # log(1 + e^x) - t x, where e^|x| can't overflow
            softplus = ops.maximum(logits, 0.0) + ops.log(1.0 + ops.exp(-ops.abs(logits)))
            each = ops.mean(softplus - targets * logits, axis=-1)
        return ops.sum(each * weights), ops.sum(weights)

    def scores(self, batch: Any) -> tuple[Tensor, Tensor, Tensor]:
        """logits float32 [B,L], classes int32 [B] and weights. Raises UsageError for several labels and numbers."""
        if self.labels.kind != "multi_class":
            raise UsageError(f"{type(self).__name__}: consistency is for one class a text, not for {self.labels.kind}")
        return self._outputs(batch)

    def _outputs(self, batch: Any) -> tuple[Tensor, Tensor, Tensor]:
        logits = ops.cast(self.forward(batch.ids, batch.lengths, batch.types), "float32")
        return logits, as_tensor(batch.targets), as_tensor(batch.weights)


def valid(lengths: Tensor, time: int) -> Tensor:
    """float32 [B, time]: 1 before the length [B], 0 from there on."""
    return ops.cast(ops.less(ops.arange(time), ops.reshape(lengths, (-1, 1))), "float32")
