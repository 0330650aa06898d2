"""The numba kernels of sums over leading axes, global_norm and erf: right, and the same for any number of threads."""

import math
from typing import Any

import numpy as np
import pytest

from seqlib.core import ops
from seqlib.core.backends.threads import set_threads
from seqlib.core.tensor import tensor

pytest.importorskip("numba")


def _for_all_threads(fn: Any) -> Any:
    found = []
    try:
        for count in (1, 2, 5):
            set_threads(count)
            found.append(fn().numpy())
    finally:
        set_threads(None)
    assert len({each.tobytes() for each in found}) == 1
    return found[0]


@pytest.mark.parametrize(
    ("shape", "axis"), [((1023, 37), (0,)), ((40, 30, 30), (0, 1)), ((5, 70, 128), (0,)), ((3, 19000), 0)]
)
def test_sum_over_leading_axes(shape: tuple[int, ...], axis: Any) -> None:
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    expected = x.astype(float).sum(axis)
    found = _for_all_threads(lambda: ops.sum(tensor(x), axis=axis))
    assert np.abs(found - expected).max() <= 2 * np.abs(x.sum(axis) - expected).max() + 1e-6
    kept = ops.sum(tensor(x), axis=axis, keepdims=True).numpy()
    assert kept.ndim == x.ndim and np.array_equal(kept.reshape(found.shape), found)
    turned = ops.sum(ops.transpose(tensor(x)), axis=-1)  # does not lie row after row: NumPy's
    np.testing.assert_allclose(turned.numpy(), x.sum(0).T, rtol=1e-4, atol=1e-4)


def test_global_norm() -> None:
    rng = np.random.default_rng(0)
    xs = [rng.normal(size=s).astype(np.float32) for s in ((300, 400), (7,), (0,), (129, 1025))]
    found = _for_all_threads(lambda: ops.global_norm([tensor(x) for x in xs]))
    assert found == np.float32(math.sqrt(sum(float((x.astype(float) ** 2).sum()) for x in xs)))
    xs[1][3] = np.inf
    assert np.isinf(ops.global_norm([tensor(x) for x in xs]).numpy())
    xs[0][0, 0] = np.nan
    assert np.isnan(ops.global_norm([tensor(x) for x in xs]).numpy())


def test_erf() -> None:
    from seqlib.core.ops.special_cpu import erf

    x = np.linspace(-6, 6, 60001).astype(np.float32)
    expected = np.array([math.erf(v) for v in x.astype(float)])
    found = np.empty_like(x)
    erf(x, found)
    assert np.abs(found - expected).max() < 2e-7
    assert (np.abs(found - expected) <= 3e-7 * np.abs(expected)).all()
    few = [ops.erf(tensor(x[i : i + 7])).numpy() for i in range(0, 60001, 997)]  # as many: a row is one of any batch
    assert all(part.tobytes() == found[i : i + 7].tobytes() for i, part in zip(range(0, 60001, 997), few, strict=True))
    erf(x, x)
    assert np.array_equal(x, found)
    edges = np.array([[0.0, -0.0, np.nan], [np.inf, -np.inf, 1e-30]], np.float32)
    out = np.empty((2, 6), np.float32)
    erf(edges, out[:, ::2])
    np.testing.assert_array_equal(out[0, ::2], [0.0, 0.0, np.nan])
    np.testing.assert_allclose(out[1, ::2], [1.0, -1.0, 2e-30 / math.sqrt(math.pi)], rtol=1e-6)
