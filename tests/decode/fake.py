"""A language model without weights: log-probabilities are a pure function of (sentence, prefix)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from seqlib.decode.penalty import table
from seqlib.decode.search import Hypothesis, Rules, start

BOS, EOS = 1, 2


class FakeModel:
    """Logits [V] drawn from a generator seeded by seed, sentence and prefix; `step` rounds them so that ties occur."""

    def __init__(self, vocabulary: int, seed: int = 0, sharpness: float = 2.0, step: float | None = None) -> None:
        self.vocabulary, self.seed, self.sharpness, self.step = vocabulary, seed, sharpness, step

    def logits(self, sentence: int, prefix: Sequence[int]) -> np.ndarray:
        rng = np.random.default_rng([self.seed, sentence, len(prefix), *prefix])
        x = self.sharpness * rng.standard_normal(self.vocabulary)
        if self.step is not None:
            x = np.round(x / self.step) * self.step
        return x.astype(np.float32)

    def log_probs(self, sentence: int, prefix: Sequence[int]) -> np.ndarray:
        x = self.logits(sentence, prefix)
        return np.minimum(x - normalizers(x[None])[0], np.float32(0.0))


def normalizers(logits: np.ndarray) -> np.ndarray:
    top = logits.max(axis=1)
    return top + np.log(np.exp(logits - top[:, None]).sum(axis=1, dtype=np.float32))


def decode(
    model: FakeModel,
    sentences: Sequence[int],
    limits: Sequence[int],
    *,
    beam: int,
    n_best: int = 1,
    alpha: float = 0.6,
    penalty: str = "gnmt",
    early_stop: bool = True,
    leave: bool = False,
    **rules: Any,
) -> tuple[list[list[Hypothesis]], int]:
    """Run a search to its end on the host; returns the results and the number of steps."""
    penalties = table(penalty, alpha, max(limits))
    search = start(np.array(limits), Rules(beam, n_best, penalties, BOS, EOS, early_stop, **rules))
    prefixes: list[tuple[int, ...]] = [()] * len(search.tokens)
    while not search.done.all():
        if leave and search.done.any():
            keep = np.flatnonzero(~search.done)
            prefixes = [prefixes[k * beam + j] for k in keep for j in range(beam)]
            search.leave(keep)
        owners = [sentences[i] for i in search.held for _ in range(beam)]
        logits = np.stack([model.logits(s, p) for s, p in zip(owners, prefixes, strict=True)])
        parents = search.advance(logits, normalizers(logits))
        order = range(len(prefixes)) if parents is None else parents.tolist()
        prefixes = [(*prefixes[p], int(t)) for p, t in zip(order, search.tokens, strict=True)]
    return search.results(), search.steps


def exhaustive(
    model: FakeModel,
    sentence: int,
    limit: int,
    alpha: float,
    penalty: str = "gnmt",
    allowed: Callable[[tuple[int, ...]], bool] = lambda tokens: True,
) -> list[tuple]:
    """All `allowed` outputs of up to `limit` tokens, end token counted, as (score, tokens), best first."""
    divisors = table(penalty, alpha, limit)
    words = [w for w in range(model.vocabulary) if w != EOS]
    out = []
    for length in range(limit):
        for tokens in filter(allowed, itertools.product(words, repeat=length)):
            total = np.float32(0.0)
            for step, token in enumerate((*tokens, EOS)):
                total += model.log_probs(sentence, tokens[:step])[token]
            out.append((float(total / divisors[length + 1]), tokens))
    return sorted(out, key=lambda item: -item[0])
