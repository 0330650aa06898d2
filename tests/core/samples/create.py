"""Samples of create.py."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from seqlib.core import dtypes
from tests.core.samples import Sample, samples_of


@samples_of("full")
def _() -> Iterable[Sample]:
    yield Sample((), {"shape": (3, 5), "value": 2.5, "dtype": dtypes.float32})
    yield Sample((), {"shape": (), "value": 1.0, "dtype": dtypes.float64})
    yield Sample((), {"shape": (0, 7), "value": 0.0, "dtype": dtypes.int32})


@samples_of("iota")
def _() -> Iterable[Sample]:
    yield Sample((), {"start": 2, "step": 3, "size": 5, "dtype": dtypes.int32})
    yield Sample((), {"start": 0.0, "step": 0.5, "size": 1023, "dtype": dtypes.float32})
    yield Sample((), {"start": 0, "step": 1, "size": 0, "dtype": dtypes.int32})


@samples_of("advance_generator")
def _() -> Iterable[Sample]:
    yield Sample((np.array([5, 7], np.int64),), {"draws": 3})
