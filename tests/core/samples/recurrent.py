"""Samples of recurrent.py."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from seqlib.core.ops.recurrent import _gru, _lstm
from seqlib.core.tensor import as_tensor
from tests.core.samples import Sample, samples_of


def _cases(gates: int, states: int) -> Iterable[tuple[tuple[Any, ...], dict[str, Any]]]:
    """x, w_h, as many states of [B,H], lengths: of odd sizes, of one step, of none, of one row and of none."""
    rng = np.random.default_rng(0)
    for steps, rows, width, lengths, reverse in (
        (3, 2, 5, None, False),
        (4, 3, 2, (4, 0, 2), False),
        (4, 3, 2, (1, 4, 3), True),
        (1, 2, 3, None, True),
        (3, 19, 7, (3, 2, 1) * 6 + (3,), False),
        (2, 1, 9, (1,), True),
        (5, 3, 24, (5, 2, 0), False),
        (3, 30, 150, None, True),
        (0, 2, 3, None, False),
        (2, 0, 3, None, False),
    ):
        shapes = [(steps, rows, gates * width), (gates * width, width), *[(rows, width)] * states]
        drawn = [rng.normal(size=shape).astype(np.float32) * np.float32(0.7) for shape in shapes]
        yield (*drawn, None if lengths is None else np.array(lengths, np.int32)), {"reverse": reverse}


@samples_of("lstm")
def _() -> Iterable[Sample]:
    for inputs, attrs in _cases(4, 2):
        yield Sample(inputs, attrs)
        yield Sample(inputs, {**attrs, "independent": True})


@samples_of("lstm_bwd")
def _() -> Iterable[Sample]:
    rng = np.random.default_rng(1)
    for (x, w, h0, c0, lengths), attrs in _cases(4, 2):
        given = [None if a is None else as_tensor(a) for a in (x, w, h0, c0, lengths)]
        with np.errstate(all="ignore"):
            y, h, c, *kept = (t.numpy() for t in _lstm.fn(*given, **attrs))
        cotangents = [rng.normal(size=a.shape).astype(np.float32) for a in (y, h, c)]
        yield Sample((w, *kept[:3], lengths, *cotangents), attrs)
    yield Sample((w, *kept[:3], lengths, None, cotangents[1], None), attrs)


def _gru_cases() -> Iterable[tuple[tuple[Any, ...], dict[str, Any]]]:
    for (x, w, h0, lengths), attrs in _cases(3, 1):
        b = np.random.default_rng(2).normal(size=len(w)).astype(np.float32)
        yield (x, w, b, h0, lengths), attrs


@samples_of("gru")
def _() -> Iterable[Sample]:
    for inputs, attrs in _gru_cases():
        yield Sample(inputs, attrs)
        yield Sample(inputs, {**attrs, "independent": True})


@samples_of("gru_bwd")
def _() -> Iterable[Sample]:
    rng = np.random.default_rng(1)
    for inputs, attrs in _gru_cases():
        with np.errstate(all="ignore"):
            outs = _gru.fn(*(None if a is None else as_tensor(a) for a in inputs), **attrs)
        y, h, *kept = (t.numpy() for t in outs)
        gy, gh = (rng.normal(size=a.shape).astype(np.float32) for a in (y, h))
        yield Sample((inputs[1], *kept, inputs[4], gy, gh), attrs)
    yield Sample((inputs[1], *kept, inputs[4], None, gh), attrs)
