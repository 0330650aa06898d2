"""An LSTM that reads a text in both directions, and labels it by the largest value of each output over time (Conneau
et al. 2017's BiLSTM with max pooling).

B batch, S time, D width of embeddings, H state width.
"""

from typing import Any

import msgspec

from seqlib.core import ops
from seqlib.core.rng import Generator, use_generator
from seqlib.core.tensor import Tensor
from seqlib.models.preset import presets
from seqlib.nn.classifier import TextClassifier, valid
from seqlib.nn.dropout import Dropout, check_config
from seqlib.nn.embedding import Embedding
from seqlib.nn.recurrent import LSTM, over_time

__all__ = ["LSTMClassifier", "LSTMClassifierConfig", "base", "build", "wide"]

TASK = "text_classification"


class LSTMClassifierConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Sizes and choices; raises UsageError for values out of their range."""

    layers: int = 1
    d_model: int = 128
    """Width of embeddings, D."""
    hidden: int = 128
    """Width of the state in each direction, H."""
    bidirectional: bool = True
    """Read backwards, too."""
    token_dropout: float = 0.0
    """Share of tokens that are read as nothing (Iyyer et al. 2015)."""
    embedding_dropout: float = 0.3
    """Of embeddings, and between layers."""
    dropout: float = 0.4
    """Of the largest values."""
    max_length: int = 256
    """Tokens that are read of a text, special ones included."""

    def __post_init__(self) -> None:
        check_config(
            self, "lstm_classifier", "layers d_model hidden max_length", "token_dropout embedding_dropout dropout"
        )


class LSTMClassifier(TextClassifier):
    """The model of a `config` for a problem's `spec`. A pair is one text with eos between."""

    def __init__(self, config: LSTMClassifierConfig, spec: Any):
        super().__init__(spec, config.hidden * (1 + config.bidirectional), config.dropout)
        self.config = config
        self.embedding = Embedding(spec.source_vocab, config.d_model)
        self.token_dropout = Dropout(config.token_dropout)
        self.embedding_dropout = Dropout(config.embedding_dropout)
        rate, both = config.embedding_dropout, config.bidirectional
        self.lstm = LSTM(config.d_model, config.hidden, config.layers, both, rate)
        self.name_parameters()

    def features(self, ids: Tensor, lengths: Tensor, types: Tensor | None) -> Tensor:
        mask = ops.expand_dims(valid(lengths, ids.shape[1]), 2)
        x = self.embedding(ids) * self.token_dropout(mask)
        x, _ = self.lstm(over_time(self.embedding_dropout, x), lengths)
        return ops.max(ops.where(ops.greater(mask, 0.0), x, -float("inf")), axis=1)


def build(config: LSTMClassifierConfig, spec: Any, generator: Generator) -> LSTMClassifier:
    """A model with weights drawn from the generator."""
    with use_generator(generator):
        return LSTMClassifier(config, spec)


base, wide = presets(__name__, LSTMClassifierConfig, "base", "wide")
