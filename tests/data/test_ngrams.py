"""n-gram baselines: distributions, and the formula written out."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from seqlib.data.ngrams import KneserNey, unigram_log_probs

V = 7
TRAIN = np.random.default_rng(0).choice(V - 1, 400, p=[0.4, 0.25, 0.15, 0.1, 0.06, 0.04])


@pytest.mark.parametrize("order", [1, 2, 4])
def test_what_may_follow_adds_up_to_one(order: int) -> None:
    model = KneserNey(TRAIN, V, order)
    for context in ([], [0], [1, 0, 2], [V - 1, 0], TRAIN[50:53].tolist()):
        chances = [np.exp(model.log_probs(np.array([*context, token]))[-1]) for token in range(V)]
        assert sum(chances) == pytest.approx(1.0) and min(chances) > 0


def test_bigrams_by_the_formula() -> None:
    model = KneserNey(TRAIN, V, 2)
    pairs = Counter(zip(TRAIN[:-1].tolist(), TRAIN[1:].tolist(), strict=True))
    before = Counter(b for _, b in pairs)  # different tokens before b

    def discount(counts: Counter) -> float:
        once, twice = (sum(c == n for c in counts.values()) for n in (1, 2))
        return once / (once + 2 * twice) if once else 0.5

    d1, d2 = discount(before), discount(pairs)
    lower = [(max(before[w] - d1, 0) + d1 * len(before) / V) / sum(before.values()) for w in range(V)]
    for a, b in ((0, 1), (3, 3), (5, 5)):
        total = sum(c for (x, _), c in pairs.items() if x == a)
        kinds = sum(x == a for x, _ in pairs)
        expected = (max(pairs[a, b] - d2, 0) + d2 * kinds * lower[b]) / total
        assert np.exp(model.log_probs(np.array([a, b]))[1]) == pytest.approx(expected)


def test_longer_contexts_tell_more_of_a_text_with_structure() -> None:
    text = np.frombuffer(b"the cat sat on the mat and the dog sat on the log " * 20, np.uint8)
    train, dev = text[:800], text[800:]
    losses = [-KneserNey(train, 256, order).log_probs(dev)[4:].mean() for order in (1, 2, 5)]
    assert losses[0] > losses[1] > losses[2]
    assert -unigram_log_probs(train, dev, 256).mean() == pytest.approx(losses[0], abs=0.3)
