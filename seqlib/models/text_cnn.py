"""A convolutional network over tokens (Kim 2014, "Convolutional neural networks for sentence classification").

B batch, S time, D width, F feature maps of a filter width.
"""

from typing import Any

import msgspec

from seqlib.core import ops
from seqlib.core.rng import Generator, use_generator
from seqlib.core.tensor import Parameter, Tensor
from seqlib.models.preset import presets
from seqlib.nn import init
from seqlib.nn.classifier import TextClassifier, valid
from seqlib.nn.dropout import Dropout, check_config
from seqlib.nn.embedding import Embedding
from seqlib.nn.linear import Linear
from seqlib.util.errors import UsageError

__all__ = ["TextCNN", "TextCNNConfig", "base", "build"]

TASK = "text_classification"


class TextCNNConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Sizes and choices; raises UsageError for values out of their range."""

    d_model: int = 128
    """Width of embeddings, D."""
    widths: str = "3 4 5"
    """Tokens that a filter sees, of each kind of filter."""
    maps: int = 100
    """Filters of each width, F."""
    token_dropout: float = 0.0
    """Share of tokens that are read as nothing (Iyyer et al. 2015)."""
    embedding_dropout: float = 0.2
    """Of embeddings."""
    dropout: float = 0.5
    """Of the largest value of each filter."""
    max_length: int = 256
    """Tokens that are read of a text, special ones included."""

    def __post_init__(self) -> None:
        check_config(self, "text_cnn", "d_model maps max_length", "token_dropout embedding_dropout dropout")
        if not self.widths.split() or not all(width.isdigit() and int(width) for width in self.widths.split()):
            raise UsageError(f"text_cnn: widths: expected numbers of at least 1, such as '3 4 5', got {self.widths!r}")


class TextCNN(TextClassifier):
    """The model of a `config` for a problem's `spec`: filters of several widths, the largest value of each over time.

    A filter may reach over the end, where it reads zeros. A pair is one text with eos between.
    """

    def __init__(self, config: TextCNNConfig, spec: Any):
        self.config, self.widths = config, [int(width) for width in config.widths.split()]
        super().__init__(spec, config.maps * len(self.widths), config.dropout)
        self.embedding = Embedding(spec.source_vocab, config.d_model)
        self.token_dropout = Dropout(config.token_dropout)
        self.embedding_dropout = Dropout(config.embedding_dropout)
        # One product for all filters: each token of a filter's width is a block of columns.
        self.filters = Linear(config.d_model, config.maps * sum(self.widths), bias=False)
        bound = 1 / (config.d_model * max(self.widths)) ** 0.5
        self.filters.weight = Parameter(init.uniform(self.filters.weight.shape, -bound, bound))
        self.bias = Parameter(init.zeros((config.maps * len(self.widths),)))
        self.name_parameters()

    def features(self, ids: Tensor, lengths: Tensor, types: Tensor | None) -> Tensor:
        maps, time = self.config.maps, ids.shape[1]
        mask = ops.expand_dims(valid(lengths, time), 2)
        x = self.filters(self.embedding_dropout(self.embedding(ids)) * self.token_dropout(mask))
        x = ops.pad(x, ((0, 0), (0, max(self.widths) - 1), (0, 0)))
        found, column = [], 0
        for width in self.widths:
            total = x[:, :time, column : column + maps]
            for place in range(1, width):
                column += maps
                total = total + x[:, place : place + time, column : column + maps]
            column += maps
            found.append(ops.max(ops.where(ops.greater(mask, 0.0), total, -float("inf")), axis=1))
        return ops.relu(ops.concatenate(found, axis=-1) + self.bias.as_dtype(x.dtype))


def build(config: TextCNNConfig, spec: Any, generator: Generator) -> TextCNN:
    """A model with weights drawn from the generator."""
    with use_generator(generator):
        return TextCNN(config, spec)


(base,) = presets(__name__, TextCNNConfig, "base")
