"""A bag of hashed n-grams (Joulin et al. 2017, "Bag of tricks for efficient text classification", known as fastText).

A text is the mean of vectors of its tokens and of its n-grams, which share a table of `buckets` rows by a hash; it is
trained in seconds. B batch, S time, D width.
"""

from typing import Any

import msgspec
import numpy as np

from seqlib.core import ops
from seqlib.core.rng import Generator, use_generator
from seqlib.core.tensor import Tensor, Variable
from seqlib.models.preset import presets
from seqlib.nn.classifier import TextClassifier, valid
from seqlib.nn.dropout import Dropout, check_config
from seqlib.nn.embedding import Embedding

__all__ = ["BagNgrams", "BagNgramsConfig", "base", "build"]

TASK = "text_classification"


class BagNgramsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Sizes and choices; raises UsageError for values out of their range."""

    d_model: int = 64
    """Width of the vectors, D."""
    n: int = 2
    """Longest n-gram, in tokens; 1: tokens alone."""
    buckets: int = 50_000
    """Rows of the table that n-grams share."""
    token_dropout: float = 0.3
    """Share of tokens that are left out, with the n-grams that end there (Iyyer et al. 2015)."""
    dropout: float = 0.3
    """Of the mean."""
    max_length: int = 512
    """Tokens that are read of a text, special ones included."""

    def __post_init__(self) -> None:
        check_config(self, "bag_ngrams", "d_model n buckets max_length", "token_dropout dropout")


class BagNgrams(TextClassifier):
    """The model of a `config` for a problem's `spec`. Of a pair the two means u and v become u, v, |u - v| and u·v."""

    derived = ("hashes",)

    def __init__(self, config: BagNgramsConfig, spec: Any):
        super().__init__(spec, config.d_model * (4 if spec.labels and spec.labels.pairs else 1), config.dropout)
        self.config = config
        self.embedding = Embedding(spec.source_vocab, config.d_model)
        self.ngrams = Embedding(config.buckets, config.d_model) if config.n > 1 else None
        # A hash is the sum, modulo buckets, of one random number for each token and place (Zobrist 1970).
        draws = np.random.Philox(key=[config.buckets, 0]).random_raw(config.n * spec.source_vocab) % config.buckets
        self.hashes = Variable(draws.reshape(config.n, -1).astype(np.int32), name="hashes")
        self.token_dropout = Dropout(config.token_dropout)
        self.name_parameters()

    def features(self, ids: Tensor, lengths: Tensor, types: Tensor | None) -> Tensor:
        mask = self.token_dropout(valid(lengths, ids.shape[1]))
        vectors = self.embedding(ids)
        for n in range(2, self.config.n + 1) if self.ngrams is not None else ():
            vectors = vectors + self._ngrams(ids, n)
        if types is None:
            return _mean(vectors, mask)
        second = mask * ops.cast(types, "float32")
        u, v = _mean(vectors, mask - second), _mean(vectors, second)
        return ops.concatenate([u, v, ops.abs(u - v), u * v], axis=-1)

    def _ngrams(self, ids: Tensor, n: int) -> Tensor:
        """[B,S,D]: the vector of the n-gram that ends at each token, 0 where there is none."""
        assert self.ngrams is not None
        batch, time = ids.shape
        if time < n:
            return ops.zeros((batch, time, self.config.d_model))
        found = ops.take(self.hashes[0], ids[:, : time - n + 1], axis=0)
        for place in range(1, n):
            found = found + ops.take(self.hashes[place], ids[:, place : time - n + 1 + place], axis=0)
            found = ops.where(ops.greater_equal(found, self.config.buckets), found - self.config.buckets, found)
        return ops.pad(self.ngrams(found), ((0, 0), (n - 1, 0), (0, 0)))


def _mean(vectors: Tensor, mask: Tensor) -> Tensor:
    """[B,S,D] and [B,S] → [B,D], the mean by the mask as weights."""
    weights = ops.expand_dims(mask / ops.maximum(ops.sum(mask, axis=1, keepdims=True), 1.0), 1)
    return ops.squeeze(ops.matmul(weights.astype(vectors.dtype), vectors), 1)


def build(config: BagNgramsConfig, spec: Any, generator: Generator) -> BagNgrams:
    """A model with weights drawn from the generator."""
    with use_generator(generator):
        return BagNgrams(config, spec)


(base,) = presets(__name__, BagNgramsConfig, "base")
