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


@samples_of("linear_cross_entropy")
def _() -> Iterable[Sample]:
    rng = np.random.default_rng(0)
    for n, d, v, smoothing in ((3, 4, 5, 0.0), (7, 3, 1023, 0.1), (1023, 2, 9, 0.2), (0, 3, 4, 0.1)):
        x, w = rng.normal(size=(n, d)).astype(np.float32), rng.normal(size=(v, d)).astype(np.float32)
        targets = rng.integers(0, v, n).astype(np.int32)
        for ignored in (0, 1):
            targets[n // 2 : n // 2 + ignored] = -1
            attrs = {"smoothing": smoothing, "ignore_index": -1, "want_x": True, "want_w": True}
            weights = rng.uniform(0, 2, n).astype(np.float32) if ignored else None
            yield Sample((x, w, targets.copy(), weights), attrs, grad=(0, 1))
    attrs = {"smoothing": 0.1, "ignore_index": 2, "want_x": False, "want_w": False}
    yield Sample((x[:0], w, targets[:0], None), attrs, grad=())
    attrs = {"smoothing": 0.1, "ignore_index": 2, "want_x": True, "want_w": False}
    yield Sample((np.ones((4, 3), np.float32), w, np.array([0, 2, 2, 1]), None), attrs, grad=(0,))
