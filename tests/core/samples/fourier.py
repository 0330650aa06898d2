"""Samples of fourier.py."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from tests.core.samples import Sample, samples_of


def _draw(*shape: int) -> Any:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


@samples_of("fft")
def _() -> Iterable[Sample]:
    for inverse, norm in ((False, "backward"), (True, "backward"), (False, "ortho")):
        yield Sample((_draw(3, 5, 2),), {"inverse": inverse, "norm": norm})
    for shape in ((1023, 2), (0, 4, 2), (2, 1, 2)):
        yield Sample((_draw(*shape),), {"inverse": False, "norm": "backward"})


@samples_of("rfft")
def _() -> Iterable[Sample]:
    for shape, norm in (((3, 6), "backward"), ((2, 3, 5), "ortho"), ((1023,), "backward"), ((0, 4), "forward")):
        yield Sample((_draw(*shape),), {"norm": norm})


@samples_of("irfft")
def _() -> Iterable[Sample]:
    for shape, n, norm in (((3, 4, 2), 6, "backward"), ((3, 4, 2), 7, "ortho"), ((0, 3, 2), 5, "forward")):
        yield Sample((_draw(*shape),), {"n": n, "norm": norm})
    yield Sample((_draw(512, 2),), {"n": 1023, "norm": "backward"})
