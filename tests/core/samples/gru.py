"""Samples of gru.py."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from seqlib.core.ops.gru import _gru
from seqlib.core.tensor import as_tensor
from tests.core.samples import Sample, samples_of
from tests.core.samples.lstm import sequence_samples


def _cases() -> Iterable[tuple[tuple[Any, ...], dict[str, Any]]]:
    for (x, w, h0, lengths), attrs in sequence_samples(3, 1):
        b = np.random.default_rng(2).normal(size=len(w)).astype(np.float32)
        yield (x, w, b, h0, lengths), attrs


@samples_of("gru")
def _() -> Iterable[Sample]:
    for inputs, attrs in _cases():
        yield Sample(inputs, attrs)
        yield Sample(inputs, {**attrs, "independent": True})


@samples_of("gru_bwd")
def _() -> Iterable[Sample]:
    rng = np.random.default_rng(1)
    for inputs, attrs in _cases():
        with np.errstate(all="ignore"):
            outs = _gru.fn(*(None if a is None else as_tensor(a) for a in inputs), **attrs)
        y, h, *kept = (t.numpy() for t in outs)
        gy, gh = (rng.normal(size=a.shape).astype(np.float32) for a in (y, h))
        yield Sample((inputs[1], *kept, inputs[4], gy, gh), attrs)
    yield Sample((inputs[1], *kept, inputs[4], None, gh), attrs)
