"""Kernels of decoding on a GPU against references on the CPU. Skipped where there is none."""

from typing import Any

import numpy as np
import pytest

import seqlib
from seqlib.core import dtypes, ops
from seqlib.core.backends import host

pytestmark = pytest.mark.gpu


def _there(array: np.ndarray, dtype: str = "float32") -> seqlib.Tensor:
    return seqlib.tensor(array.astype(dtypes.canonical(dtype))).to("cuda")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(
    ("rows", "width", "k"), [(3, 1000, 8), (64, 32000, 8), (2, 5, 5), (1, 777, 64), (256, 4000, 10)]
)
def test_top_k_takes_the_first_of_equals(dtype: str, rows: int, width: int, k: int) -> None:
    x = np.round(np.random.default_rng(0).normal(size=(rows, width)) * 4)  # many are equal
    values, indices = ops.top_k(_there(x, dtype), k)
    order = np.argsort(-x, axis=-1, kind="stable")[:, :k]
    assert np.array_equal(indices.numpy(), order)
    assert np.array_equal(values.numpy().astype(np.float64), np.take_along_axis(x, order, -1))


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-6), ("bfloat16", 4e-3), ("float64", 1e-14)])
@pytest.mark.parametrize("width", [1, 37, 4000, 32000])
def test_logsumexp(dtype: str, tolerance: float, width: int) -> None:
    x = (np.random.default_rng(1).normal(size=(5, width)) * 5).astype(dtypes.canonical(dtype)).astype(np.float64)
    x[1] = -np.inf
    found = ops.logsumexp(_there(x, dtype), axis=-1).numpy().astype(np.float64)
    assert np.allclose(found, np.log(np.exp(x).sum(1)), rtol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 3e-6), ("bfloat16", 8e-3), ("float16", 1e-3)])
@pytest.mark.parametrize("width", [32, 64, 128])
@pytest.mark.parametrize("kind", ["one", "lengths", "beams", "by head"])
def test_attention_of_few_queries(dtype: str, tolerance: float, width: int, kind: str) -> None:
    rng = np.random.default_rng(2)
    queries, keys = (1, 50) if kind == "one" else (4, 150)
    q, k, v = (rng.normal(size=(3, n, h, width)) for n, h in ((queries, 4), (keys, 2), (keys, 2)))
    given: dict[str, Any] = {}
    if kind in ("lengths", "beams"):
        given["lengths"] = np.array([keys, 7, 100], np.int32)
    if kind == "beams":
        given["bias"] = np.where(rng.random((3, 1, queries, keys)) < 0.4, 0.0, -np.inf)
    if kind == "by head":
        given["bias"] = rng.normal(size=(4, 1, keys))
    exact = {n: x if n == "lengths" else x.astype(dtypes.canonical(dtype)).astype(np.float64) for n, x in given.items()}
    arrays = [x.astype(dtypes.canonical(dtype)) for x in (q, k, v)]
    with seqlib.no_grad():
        want = ops.attention(
            *(seqlib.tensor(x.astype(np.float64)) for x in arrays), **{n: seqlib.tensor(x) for n, x in exact.items()}
        ).numpy()
        found = ops.attention(
            *(_there(x, dtype) for x in arrays),
            **{n: _there(x, "int32" if n == "lengths" else dtype) for n, x in given.items()},
        )
    assert np.abs(host(found.data).astype(np.float64) - want).max() < tolerance * 4
