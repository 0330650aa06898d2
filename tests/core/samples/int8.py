"""Samples of int8.py."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from tests.core.samples import Sample, samples_of


def _matrix(rng: Any, n: int, k: int) -> list[Any]:
    words = rng.integers(-(2**31), 2**31, (-(-n // 16), -(-k // 4), 16)).astype(np.int32)
    return [words, rng.uniform(0.001, 0.1, n).astype(np.float32)]


@samples_of("int8_product")
def _() -> Iterable[Sample]:
    rng = np.random.default_rng(0)
    for m, k, sizes in ((5, 7, (37,)), (1, 64, (64, 3)), (13, 1023, (20, 130, 16)), (0, 8, (5,)), (2, 1, (1,))):
        x = rng.normal(size=(m, k)).astype(np.float32)
        yield Sample((x, *(part for n in sizes for part in _matrix(rng, n, k))))
    yield Sample((np.zeros((2, 12), np.float32), *_matrix(rng, 9, 12)))


@samples_of("int8_rows")
def _() -> Iterable[Sample]:
    rng = np.random.default_rng(1)
    for shape, n, k in (((3, 5), 7, 9), ((1023,), 33, 4), ((0, 4), 5, 3), ((), 5, 1)):
        ids = np.asarray(rng.integers(0, n, shape), np.int32)
        yield Sample((ids, *_matrix(rng, n, k)), {"width": k})
