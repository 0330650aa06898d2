"""A Transformer's encoder (Vaswani et al. 2017) that labels texts by the mean of its outputs.

B batch, S time, D width.
"""

import math
from typing import Any, Literal

from seqlib.core import ops
from seqlib.core.rng import Generator, use_generator
from seqlib.core.tensor import Tensor
from seqlib.models.preset import presets
from seqlib.nn.classifier import TextClassifier, valid
from seqlib.nn.dropout import check_config
from seqlib.nn.embedding import Embedding
from seqlib.nn.norm import NORMS
from seqlib.nn.positions import added_positions
from seqlib.nn.transformer_layers import EncoderLayer, LayerConfig

__all__ = ["TransformerEncoder", "TransformerEncoderConfig", "base", "build"]

TASK = "text_classification"


class TransformerEncoderConfig(LayerConfig, frozen=True, kw_only=True):
    """Sizes and choices; raises UsageError for values that don't fit together."""

    layers: int = 2
    d_model: int = 128
    """Width of embeddings and layers, D."""
    d_ff: int = 512
    """Width of the feed-forward blocks' inside."""
    heads: int = 4
    """Of attention; a divisor of d_model."""
    activation: str = "gelu"
    positions: Literal["sinusoidal", "rotary", "learned"] = "sinusoidal"
    """Added to the embeddings, or turning queries and keys."""
    dropout: float = 0.2
    """Of embeddings, of each block's output before the residual sum, and of the mean."""
    max_length: int = 256
    """Tokens that are read of a text, special ones included."""

    def __post_init__(self) -> None:
        check_config(
            self, "transformer_encoder", "layers d_model d_ff heads max_length", "dropout attention_dropout ff_dropout"
        )


class TransformerEncoder(TextClassifier):
    """The model of a `config` for a problem's `spec`. Of a pair, tokens also have a vector for which text they are of
    (Devlin et al. 2019)."""

    def __init__(self, config: TransformerEncoderConfig, spec: Any):
        super().__init__(spec, config.d_model, config.dropout)
        self.config = config
        self.embedding = Embedding(spec.source_vocab, config.d_model, math.sqrt(config.d_model))
        self.types = Embedding(2, config.d_model) if self.labels.pairs else None
        self.positions = added_positions(config.positions, config.max_length, config.d_model)[0]
        self.layers = [EncoderLayer(config) for _ in range(config.layers)]
        self.norm = NORMS[config.norm_kind](config.d_model, config.norm_eps) if config.norm == "pre" else None
        self.name_parameters()

    def features(self, ids: Tensor, lengths: Tensor, types: Tensor | None) -> Tensor:
        x = self.embedding(ids)
        if self.types is not None and types is not None:
            x = x + self.types(types)
        x = self.dropout(x if self.positions is None else self.positions(x))
        for layer in self.layers:
            x = layer(x, lengths)
        x = x if self.norm is None else self.norm(x)
        mask = ops.expand_dims(valid(lengths, ids.shape[1]), 2)
        return ops.sum(ops.where(ops.greater(mask, 0.0), x, 0.0), axis=1) / ops.reshape(lengths, (-1, 1))


def build(config: TransformerEncoderConfig, spec: Any, generator: Generator) -> TransformerEncoder:
    """A model with weights drawn from the generator."""
    with use_generator(generator):
        return TransformerEncoder(config, spec)


(base,) = presets(__name__, TransformerEncoderConfig, "base")
