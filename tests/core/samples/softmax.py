"""Samples of softmax.py."""

from collections.abc import Iterable

import numpy as np

from tests.core.samples import Sample, samples_of


@samples_of("softmax", "log_softmax")
def _() -> Iterable[Sample]:
    rng = np.random.default_rng(0)
    for shape in ((3, 5), (2, 3, 7), (1023,), (7, 1023), (0, 4), (4, 1), (4, 0)):
        yield Sample((rng.normal(size=shape).astype(np.float32),))
    yield Sample((np.float32(80) * rng.normal(size=(5, 9)).astype(np.float32),))


def _backward(log: bool) -> Iterable[Sample]:
    rng = np.random.default_rng(1)
    for shape in ((3, 5), (1023,), (7, 1023), (0, 4)):
        x = rng.normal(size=shape)
        y = np.exp(x) / np.exp(x).sum(-1, keepdims=True)
        yield Sample((rng.normal(size=shape).astype(np.float32), (np.log(y) if log else y).astype(np.float32)))


samples_of("softmax_bwd")(lambda: _backward(False))
samples_of("log_softmax_bwd")(lambda: _backward(True))
