"""Samples of random.py."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tests.core.samples import Sample, samples_of


@samples_of("random_bits")
def _() -> Iterable[Sample]:
    for shape in ((3, 5), (1023,), (0, 4), ()):
        yield Sample((np.array([7, 3], np.int64),), {"shape": shape, "draw": 2})
    yield Sample((np.array([-1, -2], np.int64),), {"shape": (9,), "draw": 5})


@samples_of("dropout")
def _() -> Iterable[Sample]:
    rng = np.random.default_rng(0)
    for shape, p in (((3, 5), 0.5), ((33, 1023), 0.1), ((150, 1023), 0.3), ((0, 4), 0.1), ((7,), 0.0)):
        x = rng.normal(size=shape).astype(np.float32)
        yield Sample((x, np.array([11, 5], np.int64)), {"p": p, "draw": 1}, grad=(0,))


@samples_of("dropout_relu_bwd")
def _() -> Iterable[Sample]:
    rng = np.random.default_rng(0)
    for shape in ((3, 5), (33, 1023), (0, 4)):
        g, r = (rng.normal(size=shape).astype(np.float32) for _ in range(2))
        yield Sample((g, np.array([11, 5], np.int64), np.maximum(r, 0)), {"p": 0.3, "draw": 1})


@samples_of("multinomial")
def _() -> Iterable[Sample]:
    rng = np.random.default_rng(0)
    for shape, samples in (((3, 5), 1), ((2, 3, 1023), 4), ((7,), 9), ((0, 4), 2)):
        x = rng.normal(size=shape).astype(np.float32)
        yield Sample((x, np.array([11, 5], np.int64)), {"samples": samples, "draw": 1})
