"""Samples of epilogue.py."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tests.core.samples import Sample, samples_of


def _draw(*shapes: tuple[int, ...]) -> Sample:
    rng = np.random.default_rng(0)
    return Sample(tuple(rng.normal(size=s).astype(np.float32) for s in shapes))


_SIZES = ((5, 8, 3), (33, 1016, 9), (0, 4, 3))  # M, N, K


@samples_of("matmul_bias", "matmul_bias_relu", "matmul_bias_gelu", "matmul_bias_gelu_erf")
def _() -> Iterable[Sample]:
    for m, n, k in ((5, 7, 3), (33, 64, 16), (80, 130, 120), *_SIZES):
        yield _draw((m, k), (n, k), (n,))


@samples_of("matmul_gelu_bwd")
def _() -> Iterable[Sample]:
    for m, n, k in ((8, 64, 16), *_SIZES):
        yield _draw((m, n), (n, k), (m, k))


@samples_of("matmul_sums")
def _() -> Iterable[Sample]:
    for m, n, k in ((70, 64, 16), *_SIZES):
        yield _draw((m, n), (m, k))
