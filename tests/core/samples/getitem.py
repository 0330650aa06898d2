"""Samples of getitem.py."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tests.core.samples import Sample, samples_of


@samples_of("ravel_index")
def _() -> Iterable[Sample]:
    rows, columns = np.array([[0], [-1], [2]], np.int32), np.array([1, -4, 3, 0, 2], np.int64)
    yield Sample((rows, columns), {"sizes": (3, 4)})
    yield Sample((np.arange(1023, dtype=np.int32) % 7,), {"sizes": (7,)})
    yield Sample((rows[:0], columns[:0]), {"sizes": (3, 4)})
