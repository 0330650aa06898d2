"""Samples of cross_entropy.py."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from tests.core.samples import Sample, samples_of


def _cases() -> Iterable[tuple[Any, Any, dict[str, Any]]]:
    rng = np.random.default_rng(0)
    for n, classes, smoothing in ((3, 5, 0.0), (7, 1023, 0.1), (1023, 9, 0.2), (0, 4, 0.1), (5, 1, 0.0)):
        targets = rng.integers(0, classes, n).astype(np.int32)
        targets[n // 2 : n // 2 + 1] = -1
        yield (rng.normal(size=(n, classes)).astype(np.float32), targets, {"smoothing": smoothing, "ignore_index": -1})
    targets = np.zeros(4, np.int64)
    yield rng.normal(size=(4, 6)).astype(np.float32), targets, {"smoothing": 0.1, "ignore_index": 0}


def _weights(n: int) -> Any:
    return np.random.default_rng(1).uniform(0, 2, n).astype(np.float32)


@samples_of("cross_entropy")
def _() -> Iterable[Sample]:
    for logits, targets, attrs in _cases():
        for weights in (None, _weights(len(targets))):
            yield Sample((logits, targets, weights), attrs, grad=(0,))


@samples_of("cross_entropy_bwd")
def _() -> Iterable[Sample]:
    for logits, targets, attrs in _cases():
        lse = np.log(np.exp(logits).sum(-1))
        for weights in (None, _weights(len(targets))):
            yield Sample((np.array(0.7, np.float32), logits, targets, lse, weights), attrs)
