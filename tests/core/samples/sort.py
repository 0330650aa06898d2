"""Samples of sort.py."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tests.core.samples import Sample, samples_of


@samples_of("argsort")
def _() -> Iterable[Sample]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 5)).astype(np.float32)
    for axis, descending in ((0, False), (1, True)):
        yield Sample((x,), {"axis": axis, "descending": descending})
    yield Sample((rng.integers(0, 9, 1023).astype(np.int32),), {"axis": 0, "descending": True})
    yield Sample((x[:, :0],), {"axis": 1, "descending": False})


@samples_of("top_k")
def _() -> Iterable[Sample]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 1023)).astype(np.float32)
    yield Sample((x,), {"k": 5})
    yield Sample((x[:, :6],), {"k": 6})
    yield Sample((np.round(x),), {"k": 3}, ())
    yield Sample((x[:, :1],), {"k": 1})
    yield Sample((rng.integers(0, 3, (4, 33)).astype(np.int32),), {"k": 3}, ())
    yield Sample((x[:, :4],), {"k": 0})
    yield Sample((x[:0],), {"k": 2})
