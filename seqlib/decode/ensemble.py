"""Several models that decode as one. M models, R decoding rows, V vocabulary."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from seqlib.core import ops
from seqlib.core.tensor import Tensor, Variable
from seqlib.nn.cache import Cache
from seqlib.nn.module import Module
from seqlib.util.errors import UsageError


class Ensemble(Module):
    """Models with one vocabulary; a token's probability is the mean of those that they give it.

    It offers what decoding asks of a model (see `decode.programs.IncrementalModel`). Raises UsageError for no model.
    """

    def __init__(self, models: Sequence[Any]):
        if not models:
            raise UsageError("ensemble: expected at least one model")
        self.models = list(models)
        self.config = SimpleNamespace(max_length=min(model.config.max_length for model in models))

    def encode(self, src: Any, src_lengths: Any) -> list[Tensor]:
        """The memories of all models for src int32 [B,S]."""
        return [model.encode(src, src_lengths) for model in self.models]

    def new_cache(self, sentences: int, source_length: int, rows: int, max_length: int) -> EnsembleCache:
        """A cache for each model."""
        sizes = sentences, source_length, rows, max_length
        return EnsembleCache([model.new_cache(*sizes) for model in self.models])

    def fill_cache(self, cache: EnsembleCache, memory: list[Tensor], src_lengths: Any) -> None:
        """Start new sentences in all caches."""
        for model, own, one in zip(self.models, cache.caches, memory, strict=True):
            model.fill_cache(own, one, src_lengths)

    def step(self, tokens: Any, position: Any, cache: EnsembleCache) -> Tensor:
        """tokens int32 [R] at `position` → the logarithm of the mean probabilities of what follows, [R,V]."""
        steps = zip(self.models, cache.caches, strict=True)
        found = [ops.log_softmax(model.step(tokens, position, own)) for model, own in steps]
        return ops.logsumexp(ops.stack(found), axis=0) - math.log(len(found))

    def cross_attention(self, src: Any, src_lengths: Any, tgt_in: Any) -> Tensor:
        """The mean of the models' attention, [B,T,S]."""
        return ops.mean(ops.stack([m.cross_attention(src, src_lengths, tgt_in) for m in self.models]), axis=0)


class EnsembleCache:
    """The caches of an ensemble's models."""

    def __init__(self, caches: Sequence[Cache]):
        self.caches = list(caches)

    def state_variables(self) -> dict[str, Variable]:
        """All storage, by model and name."""
        return {
            f"{i}.{name}": variable
            for i, cache in enumerate(self.caches)
            for name, variable in cache.state_variables().items()
        }

    def reorder(self, parents: Tensor) -> None:
        """As each cache's."""
        for cache in self.caches:
            cache.reorder(parents)

    def take_over(self, other: EnsembleCache, keep: np.ndarray, parents: np.ndarray, used: int) -> None:
        """As each cache's."""
        for cache, source in zip(self.caches, other.caches, strict=True):
            cache.take_over(source, keep, parents, used)
