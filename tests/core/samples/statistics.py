"""Samples of statistics.py."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tests.core.samples import Sample, samples_of


@samples_of("logsumexp")
def _() -> Iterable[Sample]:
    x = np.random.default_rng(0).normal(size=(3, 5, 7)).astype(np.float32)
    yield Sample((x,), {"axis": (1,), "keepdims": False})
    yield Sample((x * 100,), {"axis": (2,), "keepdims": True})
    yield Sample((x,), {"axis": (0, 1, 2), "keepdims": False})
    yield Sample((np.random.default_rng(1).normal(size=1023).astype(np.float32),), {"axis": (0,), "keepdims": False})
    yield Sample((x[:0],), {"axis": (1,), "keepdims": False})
    yield Sample((np.array([[-np.inf, -np.inf], [0, -np.inf]], np.float32),), {"axis": (1,), "keepdims": False}, ())


@samples_of("cumsum")
def _() -> Iterable[Sample]:
    x = np.random.default_rng(0).normal(size=(3, 5, 7)).astype(np.float32)
    for axis in range(3):
        yield Sample((x,), {"axis": axis})
    yield Sample((np.random.default_rng(1).normal(size=1023).astype(np.float32),), {"axis": 0})
    yield Sample((x[:, :0],), {"axis": 1})
    yield Sample((x > 0,), {"axis": 1}, ())
    yield Sample((np.arange(5, dtype=np.int32),), {"axis": 0}, ())
