"""A base for encoder–decoder models: give `encode` and `decode`, and training and decoding follow.

B batch, T target time, S source time, D width of the memory, V vocabulary, R decoding rows (B sentences times J beams),
L longest output.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from seqlib.core import ops
from seqlib.core.tape import no_grad
from seqlib.core.tensor import Tensor, as_tensor
from seqlib.nn.cache import Cache
from seqlib.nn.module import Module


class EncoderDecoder(Module):
    """Loss and step-by-step decoding of any model that has `config` (with `max_length`), `encode` and `decode`.

    A step of decoding computes the whole prefix again: right for every model, and slow for long outputs, since the work
    grows with the square of their length. A model with a cache of its own defines `new_cache`, `fill_cache` and `step`
    instead, as `seqlib.models.transformer` does.
    """

    config: Any

    def encode(self, src: Tensor, src_lengths: Tensor) -> Tensor:
        """src int32 [B,S], src_lengths int32 [B] → memory float32 [B,S,D]."""
        raise NotImplementedError(f"{type(self).__name__} must define encode(src, src_lengths)")

    def decode(self, memory: Tensor, src_lengths: Tensor, tgt_in: Tensor) -> Tensor:
        """memory [B,S,D], src_lengths int32 [B], tgt_in int32 [B,T] → logits [B,T,V].

        Those at time t may depend on tgt_in up to t and on the memory's first `src_lengths` rows, and on nothing else.
        """
        raise NotImplementedError(f"{type(self).__name__} must define decode(memory, src_lengths, tgt_in)")

    def loss(self, batch: Any, smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
        """(sum of the cross entropies in nats, number of target tokens); -1 in `batch.tgt_out` is not counted.

        With weights in the batch: (sum of weight times cross entropy, sum of the weights).
        """
        logits, targets, weights = self.scores(batch)
        return ops.cross_entropy(logits, targets, smoothing=smoothing, weights=weights)

    def scores(self, batch: Any) -> tuple[Tensor, Tensor, Tensor | None]:
        """logits [N,V], int32 targets [N] (-1: nothing to learn) and their weights (None: 1) of a batch."""
        lengths = as_tensor(batch.src_lengths)
        memory = self.encode(as_tensor(batch.src), lengths)
        logits = self.decode(memory, lengths, as_tensor(batch.tgt_in))
        flat = ops.reshape(logits, shape=(-1, logits.shape[-1]))
        return flat, ops.reshape(as_tensor(batch.tgt_out), shape=(-1,)), flat_weights(batch)

    def new_cache(self, sentences: int, source_length: int, rows: int, max_length: int) -> PrefixCache:
        """Empty storage to decode up to `max_length` tokens in `rows` = `sentences` · beams rows."""
        one = np.ones((1, 1), np.int32)
        with no_grad():
            width = self.encode(as_tensor(one), as_tensor(one[0])).shape[-1]
        return PrefixCache(sentences, source_length, width, rows, max_length)

    def fill_cache(self, cache: PrefixCache, memory: Tensor, src_lengths: Any) -> None:
        """Start new sentences in a cache."""
        cache.memory.assign(memory)
        cache.lengths.assign(as_tensor(src_lengths))

    def step(self, tokens: Any, position: Any, cache: PrefixCache) -> Tensor:
        """tokens int32 [R] at `position` (int32, 0-d) → logits [R,V] of what follows."""
        at = as_tensor(position)
        with no_grad():
            column = ops.reshape(as_tensor(tokens), shape=(-1, 1))
            cache.prefix.assign(ops.update_slice(cache.prefix, column, at, axis=1))
            logits = self.decode(*cache.by_row(), cache.prefix)
            return ops.take(logits, at, axis=1)


def flat_weights(batch: Any) -> Tensor | None:
    """The weights of a batch's target tokens, float32 [B·T] (or [M] of a packed one); None where it has none."""
    weights = getattr(batch, "weights", None)
    if weights is None:
        return None
    return ops.reshape(as_tensor(weights), shape=(-1,))


class PrefixCache(Cache):
    """What decoding keeps for an `EncoderDecoder`: memory [B,S,D], its lengths int32 [B], tokens so far
    int32 [R,L], for B `sentences` of `source_length` S, D `width`, R `rows` and L `max_length`."""

    def __init__(self, sentences: int, source_length: int, width: int, rows: int, max_length: int) -> None:
        super().__init__(sentences, rows)
        self.memory = self._hold("memory", np.zeros((sentences, source_length, width), np.float32))
        self.lengths = self._hold("lengths", np.ones(sentences, np.int32))
        self.prefix = self._hold("prefix", np.zeros((rows, max_length), np.int32), moves=True, per_step=1)

    def by_row(self) -> tuple[Tensor, Tensor]:
        """Memory [R,S,D] and lengths [R], those of a sentence once for each of its beams."""
        (count, source, width), beams = self.memory.shape, self.beams
        memory = ops.broadcast_to(ops.reshape(self.memory, (count, 1, source, width)), (count, beams, source, width))
        lengths = ops.broadcast_to(ops.reshape(self.lengths, (count, 1)), (count, beams))
        return ops.reshape(memory, (-1, source, width)), ops.reshape(lengths, (-1,))
