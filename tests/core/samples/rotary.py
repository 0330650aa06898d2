"""Samples of rotary.py."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tests.core.samples import Sample, samples_of


@samples_of("rotary")
def _() -> Iterable[Sample]:
    rng = np.random.default_rng(0)
    attrs = {"base": 10000.0, "inverse": False}
    for shape in ((2, 5, 3, 4), (7, 2, 6), (1, 1023, 1, 2), (0, 4, 2, 4), (3, 40, 4, 64)):
        x = rng.normal(size=shape).astype(np.float32)
        yield Sample((x, np.arange(shape[-3], dtype=np.int32)), {**attrs, "heads": shape[-2]}, grad=(0,))
    x = rng.normal(size=(2, 5, 3, 4)).astype(np.float32)
    yield Sample((x, rng.integers(0, 99, (2, 5)).astype(np.int32)), {**attrs, "inverse": True, "heads": 2}, grad=(0,))
    scaled = {**attrs, "scaling": (4.0, 1.0, 4.0, 16.0)}  # some pairs of each kind
    x = rng.normal(size=(2, 9, 3, 16)).astype(np.float32)
    yield Sample((x, np.arange(9, dtype=np.int32)), {**scaled, "base": 500.0, "heads": 2}, grad=(0,))
