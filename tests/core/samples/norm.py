"""Samples of norm.py."""

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


@samples_of("rms_norm")
def _() -> Iterable[Sample]:
    rng = np.random.default_rng(0)
    for shape in ((3, 5), (2, 3, 7), (1023,), (33, 1023), (0, 4)):
        x, w = (rng.normal(size=s).astype(np.float32) for s in (shape, shape[-1:]))
        yield Sample((x, w), {"eps": 1e-6})
    yield Sample((np.zeros((2, 3), np.float32), np.ones(3, np.float32)), {"eps": 1.0})


@samples_of("rms_norm_bwd")
def _() -> Iterable[Sample]:
    rng = np.random.default_rng(1)
    for shape in ((3, 5), (2, 3, 7), (33, 1023), (0, 4)):
        g, x = (rng.normal(size=shape).astype(np.float32) for _ in range(2))
        rstd = (1 / np.sqrt((x * x).mean(-1) + 1e-6)).astype(np.float32)
        yield Sample((g, x, rng.normal(size=shape[-1:]).astype(np.float32), rstd))


_SHAPES = ((3, 5), (2, 3, 7), (33, 1023), (70, 128), (0, 4))
_STATE, _DROPOUT = np.array([11, 5], np.int64), {"p": 0.3, "draw": 2}


def _residuals() -> Iterable[tuple[np.ndarray, ...]]:
    rng = np.random.default_rng(0)
    for shape in _SHAPES:
        yield tuple(rng.normal(size=s).astype(np.float32) for s in (shape, shape, shape[-1:], shape[-1:]))


def _cotangents() -> Iterable[tuple[np.ndarray, ...]]:
    rng = np.random.default_rng(1)
    for shape in _SHAPES:
        g, h, x = (rng.normal(size=shape).astype(np.float32) for _ in range(3))
        w, rstd = (rng.normal(size=shape[-1:]).astype(np.float32), (1 / np.sqrt(x.var(-1) + 1e-5)).astype(np.float32))
        yield g, h, x, w, x.mean(-1), rstd


@samples_of("add_dropout_layer_norm")
def _() -> Iterable[Sample]:
    for x, y, w, b in _residuals():
        yield Sample((x, y, _STATE, w, b), {**_DROPOUT, "eps": 1e-5})


@samples_of("add_layer_norm")
def _() -> Iterable[Sample]:
    for arrays in _residuals():
        yield Sample(arrays, {"eps": 1e-5})


@samples_of("add_dropout_layer_norm_bwd")
def _() -> Iterable[Sample]:
    for arrays in _cotangents():
        yield Sample((*arrays, _STATE), _DROPOUT)


@samples_of("add_layer_norm_bwd")
def _() -> Iterable[Sample]:
    for arrays in _cotangents():
        yield Sample(arrays)
