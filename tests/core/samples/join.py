"""Samples of join.py."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from tests.core.samples import Sample, samples_of


@samples_of("concatenate")
def _() -> Iterable[Sample]:
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> Any:
        return rng.normal(size=shape).astype(np.float32)

    yield Sample((draw(2, 3, 5), draw(2, 1, 5), draw(2, 4, 5)), {"axis": 1})
    yield Sample((draw(3, 4), draw(3, 4)), {"axis": 0})
    yield Sample((draw(3, 0), draw(3, 2)), {"axis": 1})
    yield Sample((draw(0), draw(0)), {"axis": 0})
    yield Sample((draw(1023), draw(1)), {"axis": 0})
    yield Sample((draw(3), np.arange(3, dtype=np.int32)), {"axis": 0}, (0,))


@samples_of("unstack")
def _() -> Iterable[Sample]:
    x = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    for axis in range(3):
        yield Sample((x,), {"axis": axis})
    yield Sample((x[:, :0],), {"axis": 0})
    yield Sample((np.arange(1023, dtype=np.int32).reshape(1, 1023),), {"axis": 0})


@samples_of("pad")
def _() -> Iterable[Sample]:
    x = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    yield Sample((x,), {"widths": ((1, 2), (0, 3)), "value": 0.0})
    yield Sample((x,), {"widths": ((0, 0), (4, 0)), "value": -1.5})
    yield Sample((x[:0],), {"widths": ((0, 2), (0, 0)), "value": 1.0})
    yield Sample((x.reshape(-1),), {"widths": ((1000, 8),), "value": 0.0})
