"""Samples of glu.py."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from seqlib.core.ops.glu import ACTIVATIONS
from tests.core.samples import Sample, samples_of


@samples_of("glu")
def _() -> Iterable[Sample]:
    rng = np.random.default_rng(0)
    for shape, names in (((3, 10), ACTIVATIONS), ((2, 3, 14), ["silu"]), ((33, 2046), ["gelu", "silu"])):
        for name in names:
            yield Sample((rng.normal(size=shape).astype(np.float32),), {"activation": name})
    yield Sample((rng.normal(size=(0, 4)).astype(np.float32),), {"activation": "gelu"})
    yield Sample((np.array([1, 1, 1, -100, 0, 100], np.float32),), {"activation": "silu"})


@samples_of("glu_bwd")
def _() -> Iterable[Sample]:
    rng = np.random.default_rng(1)
    for n, width, names in ((3, 5, ACTIVATIONS), (33, 1023, ["gelu", "silu"]), (0, 2, ["silu"])):
        for name in names:
            g, x = (rng.normal(size=(n, k * width)).astype(np.float32) for k in (1, 2))
            yield Sample((g, x), {"activation": name})
