"""Samples of bfloat16.py."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from seqlib.core import dtypes
from tests.core.samples import Sample, samples_of


def _words(rng: Any, n: int, k: int) -> Any:
    filled = np.zeros((-(-n // 64) * 64, -(-k // 32) * 32), dtypes.bfloat16)
    filled[:n, :k] = rng.normal(size=(n, k)).astype(dtypes.bfloat16)
    return np.ascontiguousarray(filled.view(np.int32).reshape(-1, 64, filled.shape[1] // 2).swapaxes(1, 2))


@samples_of("bfloat16_product")
def _() -> Iterable[Sample]:
    rng = np.random.default_rng(0)
    for m, k, n in ((5, 7, 37), (1, 64, 67), (13, 1023, 166), (0, 8, 5), (2, 1, 1), (70, 96, 260), (3, 512, 20000)):
        # Numbers of 8 bits: what is rounded once is rounded nowhere else.
        x = rng.normal(size=(m, k)).astype(dtypes.bfloat16).astype(np.float32)
        words, bias = _words(rng, n, k), rng.normal(size=n).astype(np.float32)
        yield Sample((x, words, None), {"width": n})
        for activation in ("", "relu", "gelu_tanh", "gelu_erf"):
            yield Sample((x, words, bias), {"width": n, "activation": activation})


@samples_of("bfloat16_rows")
def _() -> Iterable[Sample]:
    rng = np.random.default_rng(1)
    for shape, n, k in (((3, 5), 7, 9), ((1023,), 133, 40), ((0, 4), 5, 3), ((), 5, 1)):
        ids = np.asarray(rng.integers(0, n, shape), np.int32)
        yield Sample((ids, _words(rng, n, k)), {"rows": n, "width": k})
