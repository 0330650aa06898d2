"""Samples of index.py."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from seqlib.core import dtypes
from tests.core.samples import Sample, samples_of


def _draw(*shape: int) -> Any:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


def _ids(size: int, *shape: int) -> Any:
    return np.random.default_rng(size).integers(-size, size, shape).astype(np.int32)


@samples_of("take")
def _() -> Iterable[Sample]:
    yield Sample((_draw(5, 3), _ids(5, 2, 4)), {"axis": 0})
    yield Sample((_draw(4, 5, 3), _ids(5, 1023)), {"axis": 1})
    yield Sample((_draw(4, 5), np.int64(-2)), {"axis": 1})
    yield Sample((_draw(1023), _ids(1023, 7)), {"axis": 0})
    yield Sample((_draw(5, 3), _ids(5, 0)), {"axis": 0})
    yield Sample((_draw(5, 200), _ids(5, 33)), {"axis": 0})


@samples_of("take_grad")
def _() -> Iterable[Sample]:
    yield Sample((_draw(2, 4, 3), _ids(5, 2, 4)), {"shape": (5, 3), "axis": 0})
    yield Sample((_draw(4, 33), _ids(5, 33)), {"shape": (4, 5), "axis": 1})
    yield Sample((_draw(1023, 130), _ids(5, 1023)), {"shape": (5, 130), "axis": 0})
    yield Sample((_draw(1023), _ids(5, 1023)), {"shape": (5,), "axis": 0})
    yield Sample((_draw(0, 3), _ids(5, 0)), {"shape": (5, 3), "axis": 0})


@samples_of("scatter_add")
def _() -> Iterable[Sample]:
    yield Sample((_draw(5, 3), _ids(5, 2, 4), _draw(2, 4, 3)), {"axis": 0})
    yield Sample((_draw(4, 5, 2), _ids(5, 1023), _draw(4, 1023, 2)), {"axis": 1})
    yield Sample((_draw(5, 3), _ids(5, 0), _draw(0, 3)), {"axis": 0})
    yield Sample((_draw(5), np.int32(3), _draw()), {"axis": 0})


@samples_of("gather")
def _() -> Iterable[Sample]:
    yield Sample((_draw(4, 5, 3), _ids(5, 4, 2, 3)), {"axis": 1})
    yield Sample((_draw(4, 5), _ids(4, 1023, 5)), {"axis": 0})
    yield Sample((_draw(4, 5), _ids(5, 4, 0)), {"axis": 1})


@samples_of("gather_grad")
def _() -> Iterable[Sample]:
    yield Sample((_draw(4, 2, 3), _ids(5, 4, 2, 3)), {"shape": (4, 5, 3), "axis": 1})
    yield Sample((_draw(1023, 5), _ids(4, 1023, 5)), {"shape": (4, 5), "axis": 0})
    yield Sample((_draw(4, 0), _ids(5, 4, 0)), {"shape": (4, 5), "axis": 1})


@samples_of("one_hot")
def _() -> Iterable[Sample]:
    yield Sample((np.array([[0, 4], [2, 2]], np.int32),), {"depth": 5, "dtype": dtypes.float32})
    yield Sample((np.abs(_ids(7, 1023)) % 7,), {"depth": 7, "dtype": dtypes.float64})
    yield Sample((np.zeros(0, np.int32),), {"depth": 3, "dtype": dtypes.float32})
    yield Sample((np.int64(1),), {"depth": 3, "dtype": dtypes.int32})
