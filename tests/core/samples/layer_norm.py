"""Samples of layer_norm.py."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tests.core.samples import Sample, samples_of


@samples_of("layer_norm")
def _() -> Iterable[Sample]:
    rng = np.random.default_rng(0)
    for shape in ((3, 5), (2, 3, 7), (1023,), (33, 1023), (0, 4), (3, 1)):
        x, w, b = (rng.normal(size=s).astype(np.float32) for s in (shape, shape[-1:], shape[-1:]))
        yield Sample((x, w, b), {"eps": 1e-5})
    yield Sample((x + 100, w, b), {"eps": 1e-5}, grad=(1, 2))


@samples_of("layer_norm_bwd")
def _() -> Iterable[Sample]:
    rng = np.random.default_rng(1)
    for shape in ((3, 5), (2, 3, 7), (33, 1023), (0, 4)):
        g, x = (rng.normal(size=shape).astype(np.float32) for _ in range(2))
        rstd = (1 / np.sqrt(x.var(-1) + 1e-5)).astype(np.float32)
        yield Sample((g, x, rng.normal(size=shape[-1:]).astype(np.float32), x.mean(-1), rstd))
