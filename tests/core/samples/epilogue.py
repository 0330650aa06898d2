"""Samples of epilogue.py."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tests.core.samples import Sample, samples_of


@samples_of("matmul_bias", "matmul_bias_relu")
def _() -> Iterable[Sample]:
    rng = np.random.default_rng(0)
    for m, n, k in ((5, 7, 3), (33, 1023, 9), (0, 4, 3)):
        yield Sample(tuple(rng.normal(size=s).astype(np.float32) for s in ((m, k), (n, k), (n,))))
