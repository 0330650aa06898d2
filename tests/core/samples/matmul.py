"""Samples of matmul.py."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from tests.core.samples import Sample, samples_of


@samples_of("matmul")
def _() -> Iterable[Sample]:
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> Any:
        return rng.normal(size=shape).astype(np.float32)

    for ta in (False, True):
        for tb in (False, True):
            a = draw(7, 5) if ta else draw(5, 7)
            b = draw(3, 7) if tb else draw(7, 3)
            yield Sample((a, b), {"transpose_a": ta, "transpose_b": tb})
    yield Sample((draw(2, 3, 5, 7), draw(3, 7, 4)), {"transpose_a": False, "transpose_b": False})
    yield Sample((draw(2, 1, 5, 7), draw(3, 4, 7)), {"transpose_a": False, "transpose_b": True})
    yield Sample((draw(0, 7), draw(7, 3)), {"transpose_a": False, "transpose_b": False})
    yield Sample((draw(4, 0), draw(0, 3)), {"transpose_a": False, "transpose_b": False})
    for ta, tb, rows in ((False, False, 1), (False, True, 50), (True, True, 1023), (False, True, 0)):
        a, b = draw(rows, 70), draw(70, 65)
        attrs = {"transpose_a": ta, "transpose_b": tb, "independent": True}
        yield Sample((a.T.copy() if ta else a, b.T.copy() if tb else b), attrs)
    yield Sample((draw(5, 7), draw(3, 7)), {"transpose_a": False, "transpose_b": True, "wide": True})
