"""Samples of adamw.py."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from seqlib.core import dtypes
from tests.core.samples import Sample, samples_of


@samples_of("adamw")
def _() -> Iterable[Sample]:
    rng = np.random.default_rng(0)
    attrs = {"beta1": 0.9, "beta2": 0.98, "eps": 1e-9, "weight_decay": 0.01}
    for shape, step, scale in (((3, 5), 1, 1.0), ((33, 1023), 7, 0.3), ((0, 4), 2, 1.0), ((), 1000, 2.0)):
        p, g, m, v = (np.asarray(rng.normal(size=shape), np.float32) for _ in range(4))
        scalars = (np.array(s, np.float32) for s in (1e-2, step, scale))
        yield Sample((p, g, m, np.square(v), *scalars), attrs)
    p, g, m = (rng.normal(size=7).astype(np.float32) for _ in range(3))
    for bad in (np.inf, np.nan):
        scalars = (np.array(s, np.float32) for s in (1e-2, 3, bad))
        yield Sample((p, g, m, np.square(p), *scalars), {**attrs, "weight_decay": 0.0})


@samples_of("adamw_copy")
def _() -> Iterable[Sample]:
    rng = np.random.default_rng(0)
    attrs = {"beta1": 0.9, "beta2": 0.98, "eps": 1e-9, "weight_decay": 0.01}
    for copy, shape in ((dtypes.bfloat16, (3, 5)), (dtypes.float16, (7,)), (dtypes.bfloat16, (0, 4))):
        p, g, m, v = (rng.normal(size=shape).astype(np.float32) for _ in range(4))
        scalars = (np.array(s, np.float32) for s in (1e-2, 3, 0.5))
        yield Sample((p, g, m, np.square(v), *scalars), {**attrs, "copy": copy})


@samples_of("global_norm")
def _() -> Iterable[Sample]:
    rng = np.random.default_rng(0)
    yield Sample(tuple(rng.normal(size=s).astype(np.float32) for s in ((3, 5), (33, 1023), (0, 4), ())), grad=())
    yield Sample((np.full(9, 1e30, np.float32),), grad=())
    yield Sample((np.array([1.0, np.nan], np.float32),), grad=())
