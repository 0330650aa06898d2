"""Samples of reduce.py."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tests.core.samples import Sample, samples_of


@samples_of("sum")
def _() -> Iterable[Sample]:
    x = np.random.default_rng(0).normal(size=(3, 5, 7)).astype(np.float32)
    yield Sample((x,), {"axis": (1,), "keepdims": False})
    yield Sample((x,), {"axis": (0, 2), "keepdims": True})
    yield Sample((x,), {"axis": (0, 1, 2), "keepdims": False})
    yield Sample((x[:, :0],), {"axis": (1,), "keepdims": False})
    yield Sample((x.reshape(-1)[:102].repeat(11)[:1023],), {"axis": (0,), "keepdims": False})
    yield Sample((x,), {"axis": (0, 1), "keepdims": False, "wide": True})
    yield Sample((x > 0,), {"axis": (0, 1, 2), "keepdims": False}, grad=())


def _axes_samples(empty: bool, differentiable: bool) -> Iterable[Sample]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 5, 7)).astype(np.float32)
    grad = None if differentiable else ()
    yield Sample((x,), {"axis": (1,), "keepdims": False}, grad)
    yield Sample((x,), {"axis": (0, 2), "keepdims": True}, grad)
    yield Sample((x,), {"axis": (0, 1, 2), "keepdims": False}, grad)
    yield Sample((rng.normal(size=1023).astype(np.float32),), {"axis": (0,), "keepdims": False}, grad)
    yield Sample((x[:, :0],), {"axis": (0,), "keepdims": False}, grad)
    yield Sample((x[0, 0, 0],), {"axis": (), "keepdims": False}, grad)
    yield Sample((np.arange(6, dtype=np.int32).reshape(2, 3),), {"axis": (1,), "keepdims": False}, ())
    if empty:
        yield Sample((x[:, :0],), {"axis": (1,), "keepdims": False}, ())


def _arg_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 5)).astype(np.float32)
    for axis in (0, 1):
        yield Sample((x,), {"axis": axis})
    yield Sample((np.array([[1, 3, 3], [2, 2, 1]], np.int32),), {"axis": 1})
    yield Sample((rng.normal(size=1023).astype(np.float32),), {"axis": 0})
    yield Sample((x[:0],), {"axis": 1})


samples_of("mean")(lambda: _axes_samples(True, True))
samples_of("max", "min")(lambda: _axes_samples(False, True))
samples_of("any", "all")(lambda: _axes_samples(True, False))
samples_of("argmax", "argmin")(_arg_samples)
