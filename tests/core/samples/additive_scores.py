"""Samples of additive_scores.py."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from tests.core.samples import Sample, samples_of


def _cases() -> Iterable[tuple[Any, ...]]:
    rng = np.random.default_rng(0)
    for b, t, s, a in ((2, 3, 4, 5), (1, 1, 1023, 3), (3, 5, 2, 33), (0, 2, 3, 4), (2, 0, 3, 4), (2, 3, 0, 4)):
        yield tuple(rng.normal(size=shape).astype(np.float32) for shape in ((b, t, a), (b, s, a), (a,)))


@samples_of("additive_scores")
def _() -> Iterable[Sample]:
    for inputs in _cases():
        yield Sample(inputs)


@samples_of("additive_scores_bwd")
def _() -> Iterable[Sample]:
    rng = np.random.default_rng(1)
    for q, k, v in _cases():
        yield Sample((rng.normal(size=(*q.shape[:2], k.shape[1])).astype(np.float32), q, k, v))
