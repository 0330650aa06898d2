"""Samples of all elementwise ops."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from seqlib.core.op import Op
from tests.core.samples import Sample

_POSITIVE = {"log", "sqrt", "rsqrt", "power", "div"}


def elementwise_samples(op: Op) -> Iterable[Sample]:
    """Of equal and of broadcast shapes."""
    rng, arity = np.random.default_rng(0), len(op.params)

    def draw(*shape: int) -> Any:
        x = rng.normal(size=shape).astype(np.float32)
        return np.abs(x) + np.float32(0.3) if op.name in _POSITIVE else x

    if op.name == "where":
        for shape in ((3, 5), (1023,), (0, 4)):
            yield Sample((draw(*shape) > 0, draw(*shape), draw(*shape)), grad=(1, 2))
        yield Sample((draw(4, 1) > 0, draw(4, 5), draw(5)), grad=(1, 2))
        return
    if op.name.startswith("logical"):
        yield Sample(tuple(draw(3, 5) > 0 for _ in range(arity)))
        return
    for shape in ((3, 5), (1023,), (0,), (33, 1023)):
        yield Sample(tuple(draw(*shape) for _ in range(arity)))
    if arity == 2:
        yield Sample((draw(4, 1, 5), draw(3, 1)))
        yield Sample((draw(2, 3), draw()))
