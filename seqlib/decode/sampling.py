"""Sampling: what is drawn depends on the seed, the sentence, the sample and the step, never on the batch.

R rows (sentences times samples), V vocabulary.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seqlib.core import philox
from seqlib.util.errors import UsageError


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn: from softmax(logits / temperature), the `top_k` most probable ones (0: all), of these the
    smallest set of the most probable ones with a mass of at least `top_p` (Holtzman et al. 2020), and of these the ones
    that are at least `min_p` times as probable as the first (Nguyen et al. 2024). Tokens that are as probable as the
    last one chosen stay too. Before all that, positive logits of tokens that the row has already are divided by
    `repetition_penalty` and negative ones multiplied by it (Keskar et al. 2019). At a temperature of 0 nothing is
    drawn: the most probable token follows, of equals the lower id. Raises UsageError for values out of range."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature < float("inf"):
            raise UsageError(f"temperature: expected a number of at least 0, got {self.temperature}")
        if self.top_k < 0:
            raise UsageError(f"top_k: expected at least 0, got {self.top_k}")
        if not 0.0 < self.top_p <= 1.0:
            raise UsageError(f"top_p: expected a number above 0 and at most 1, got {self.top_p}")
        if not 0.0 <= self.min_p <= 1.0:
            raise UsageError(f"min_p: expected a number from 0 to 1, got {self.min_p}")
        if not 0.0 < self.repetition_penalty < float("inf"):
            raise UsageError(f"repetition_penalty: expected a number above 0, got {self.repetition_penalty}")
        if not 0 <= self.seed < 1 << 64:
            raise UsageError(f"seed: expected a number from 0 to 2**64 - 1, got {self.seed}")

    def draw(self, logits: np.ndarray, keys: np.ndarray, step: int, seen: np.ndarray | None = None) -> np.ndarray:
        """One token for each row, int64 [R]: logits float32 [R,V], keys uint64 [R] that tell rows apart, `seen` bool
        [R,V] for the repetition penalty: the tokens that rows have (None: no row has any)."""
        if seen is not None:
            fallen = np.where(logits > 0, logits / self.repetition_penalty, logits * self.repetition_penalty)
            logits = np.where(seen, fallen, logits)
        if self.temperature == 0.0:
            return logits.argmax(axis=1)
        scaled = logits.astype(np.float64) / self.temperature
        scaled -= scaled.max(axis=1, keepdims=True)
        if 0 < self.top_k < scaled.shape[1]:
            last = np.partition(scaled, -self.top_k, axis=1)[:, -self.top_k, None]
            scaled[scaled < last] = -np.inf
        mass = np.exp(scaled)
        if self.top_p < 1.0:
            ordered = -np.sort(-mass, axis=1)
            below = np.cumsum(ordered, axis=1)
            place = (below < self.top_p * below[:, -1:]).sum(axis=1, keepdims=True)
            mass[mass < np.take_along_axis(ordered, place, axis=1)] = 0.0
        if self.min_p:
            mass[mass < self.min_p] = 0.0  # the first has 1
        sums = np.cumsum(mass, axis=1)
        words = philox.blocks_at(self.seed, step, keys).astype(np.uint64)
        uniform = ((words[:, 0] << np.uint64(21)) | (words[:, 1] >> np.uint64(11))) * 2.0**-53
        return (sums <= (uniform * sums[:, -1])[:, None]).sum(axis=1)


def sentence_keys(sources: Sequence[Sequence[int]]) -> np.ndarray:
    """uint64 [B]: a number for each source that depends on its tokens alone."""
    digests = [hashlib.blake2b(np.array(s, "<i8").tobytes(), digest_size=8).digest() for s in sources]
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)
