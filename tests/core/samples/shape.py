"""Samples of shape.py."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from seqlib.core import dtypes
from tests.core.samples import Sample, samples_of


@samples_of("identity")
def _() -> Iterable[Sample]:
    yield Sample((np.ones((3, 5), np.float32),))


@samples_of("compute_copy")
def _() -> Iterable[Sample]:
    x = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    yield Sample((x, x), grad=())  # what the gradient means is tested by hand


@samples_of("cast")
def _() -> Iterable[Sample]:
    x = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    yield Sample((x,), {"dtype": dtypes.float64})
    yield Sample((x * 10,), {"dtype": dtypes.int32}, grad=())
    yield Sample((x[:0],), {"dtype": dtypes.float64})


@samples_of("reshape")
def _() -> Iterable[Sample]:
    x = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    yield Sample((x,), {"shape": (2, 2, 6)})
    yield Sample((x.T,), {"shape": (24,)})
    yield Sample((x[:0],), {"shape": (3, 0)})


@samples_of("transpose")
def _() -> Iterable[Sample]:
    x = np.random.default_rng(0).normal(size=(2, 3, 5)).astype(np.float32)
    yield Sample((x,), {"axes": (2, 0, 1)})
    yield Sample((x[:, :0],), {"axes": (1, 0, 2)})


@samples_of("broadcast_to")
def _() -> Iterable[Sample]:
    x = np.random.default_rng(0).normal(size=(3, 1)).astype(np.float32)
    yield Sample((x,), {"shape": (2, 3, 5)})
    yield Sample((x[:, 0],), {"shape": (0, 3)})


@samples_of("slice")
def _() -> Iterable[Sample]:
    x = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    yield Sample((x,), {"starts": (1, 0), "sizes": (3, 4), "steps": (1, 2)})
    yield Sample((x,), {"starts": (4, 6), "sizes": (5, 7), "steps": (-1, -1)})
    yield Sample((x,), {"starts": (0, 0), "sizes": (0, 7), "steps": (1, 1)})


@samples_of("slice_grad")
def _() -> Iterable[Sample]:
    g = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    yield Sample((g,), {"shape": (5, 9), "starts": (1, 0), "steps": (1, 2)})
