"""Samples of embedding.py."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tests.core.samples import Sample, samples_of


@samples_of("embedding")
def _() -> Iterable[Sample]:
    rng = np.random.default_rng(0)
    for shape, size, width in (((3, 5), 7, 4), ((1023,), 33, 9), ((0, 4), 5, 3), ((), 5, 1)):
        ids = np.asarray(rng.integers(0, size, shape), np.int32)
        yield Sample((ids, rng.normal(size=(size, width)).astype(np.float32)), grad=(1,))
    yield Sample((np.array([[2, 2], [0, 2]], np.int64), rng.normal(size=(3, 1023)).astype(np.float32)), grad=(1,))


@samples_of("embedding_grad")
def _() -> Iterable[Sample]:
    rng = np.random.default_rng(1)
    for shape, size, width in (((3, 5), 7, 4), ((1023,), 33, 9), ((0, 4), 5, 3)):
        ids = rng.integers(0, size, shape).astype(np.int32)
        yield Sample((rng.normal(size=(*shape, width)).astype(np.float32), ids), {"size": size}, grad=(0,))
