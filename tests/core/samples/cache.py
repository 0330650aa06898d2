"""Samples of cache.py."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from tests.core.samples import Sample, samples_of


@samples_of("update_slice")
def _() -> Iterable[Sample]:
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> Any:
        return rng.normal(size=shape).astype(np.float32)

    yield Sample((draw(3, 7, 2), draw(3, 1, 2), np.int32(4)), {"axis": 1})
    yield Sample((draw(1023), draw(3), np.int64(1020)), {"axis": 0})
    yield Sample((draw(3, 4), draw(3, 4), np.int32(0)), {"axis": 0})
    yield Sample((draw(0, 4), draw(0, 1), np.int32(3)), {"axis": 1})
