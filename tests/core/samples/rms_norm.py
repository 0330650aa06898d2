"""Samples of rms_norm.py."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tests.core.samples import Sample, samples_of


@samples_of("rms_norm")
def _() -> Iterable[Sample]:
    rng = np.random.default_rng(0)
    for shape in ((3, 5), (2, 3, 7), (1023,), (33, 1023), (0, 4)):
        x, w = (rng.normal(size=s).astype(np.float32) for s in (shape, shape[-1:]))
        yield Sample((x, w), {"eps": 1e-6})
    yield Sample((np.zeros((2, 3), np.float32), np.ones(3, np.float32)), {"eps": 1.0})


@samples_of("rms_norm_bwd")
def _() -> Iterable[Sample]:
    rng = np.random.default_rng(1)
    for shape in ((3, 5), (2, 3, 7), (33, 1023), (0, 4)):
        g, x = (rng.normal(size=shape).astype(np.float32) for _ in range(2))
        rstd = (1 / np.sqrt((x * x).mean(-1) + 1e-6)).astype(np.float32)
        yield Sample((g, x, rng.normal(size=shape[-1:]).astype(np.float32), rstd))
