"""rms_norm, glu and relative_bias beyond their samples."""

import math

import numpy as np
import pytest

import seqlib
from seqlib.core import ops
from seqlib.core.grad import grad
from seqlib.util.errors import DtypeError, ShapeError, UsageError


def _draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_rms_norm_is_its_formula_and_keeps_the_direction() -> None:
    x, w = _draw(4, 64), _draw(64, seed=1)
    expected = x / np.sqrt((x.astype(np.float64) ** 2).mean(-1, keepdims=True) + 1e-6) * w
    np.testing.assert_allclose(seqlib.rms_norm(x, w).numpy(), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        seqlib.rms_norm(x * 1000, w).numpy(), seqlib.rms_norm(x, w).numpy(), rtol=1e-4, atol=1e-5
    )


def test_rms_norm_messages() -> None:
    with pytest.raises(ShapeError, match=r"rms_norm: w should be of shape \(4,\)"):
        ops.rms_norm(_draw(3, 4), _draw(3))
    with pytest.raises(DtypeError, match="rms_norm: w should be float32, as x"):
        ops.rms_norm(_draw(3, 4), np.ones(4))


def test_glu_is_its_formula() -> None:
    x = _draw(3, 10)
    a, b = x[:, :5].astype(np.float64), x[:, 5:].astype(np.float64)
    sigmoid = 1 / (1 + np.exp(-b))
    erf = np.vectorize(math.erf)
    for name, act in {
        "sigmoid": sigmoid,
        "silu": b * sigmoid,
        "relu": np.maximum(b, 0),
        "gelu": b * 0.5 * (1 + erf(b / math.sqrt(2))),
    }.items():
        np.testing.assert_allclose(seqlib.glu(x, name).numpy(), a * act, atol=1e-6)
    np.testing.assert_array_equal(seqlib.glu(x).numpy(), seqlib.glu(x, "sigmoid").numpy())


def test_glu_messages() -> None:
    with pytest.raises(UsageError, match="silu"):
        ops.glu(_draw(3, 4), "sillu")
    with pytest.raises(ShapeError, match="glu: x should be"):
        ops.glu(_draw(3, 5))


def _bucket(distance: int, buckets: int, longest: int, bidirectional: bool) -> int:
    """The definition, for one distance key - query."""
    side = buckets // 2 if bidirectional else buckets
    first = side if bidirectional and distance > 0 else 0
    n = abs(distance) if bidirectional else max(-distance, 0)
    exact = side // 2
    if n < exact:
        return first + n
    far = exact + int(math.log(n / exact) / math.log(longest / exact) * (side - exact) + 1e-9)
    return first + min(far, side - 1)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_relative_bias_looks_distances_up(bidirectional: bool) -> None:
    table = _draw(32, 3)
    queries, keys = np.array([0, 5, 200], np.int32), np.arange(300, dtype=np.int32)
    got = ops.relative_bias(table, queries, keys, bidirectional=bidirectional).numpy()
    assert got.shape == (3, 3, 300)
    expected = [[table[_bucket(int(k - q), 32, 128, bidirectional)] for k in keys] for q in queries]
    np.testing.assert_array_equal(got, np.array(expected).transpose(2, 0, 1))


def test_relative_bias_gradient_counts_the_distances() -> None:
    at = np.arange(20, dtype=np.int32)
    g = grad(lambda t: ops.relative_bias(t, at, at, bidirectional=True).sum())(_draw(32, 2)).numpy()
    assert g.sum() == 2 * 400
    assert g[0, 0] == 20 and g[1, 0] == 19 and g[17, 1] == 19


def test_relative_bias_messages() -> None:
    at = np.arange(3, dtype=np.int32)
    with pytest.raises(ShapeError, match="relative_bias: queries should be 1-d"):
        ops.relative_bias(_draw(32, 2), at[None], at, bidirectional=True)
    with pytest.raises(ShapeError, match="at least 4 buckets"):
        ops.relative_bias(_draw(2, 2), at, at, bidirectional=True)
    with pytest.raises(ShapeError, match=r"relative_bias: table should be \[buckets, H\]"):
        ops.relative_bias(_draw(2), at, at, bidirectional=True)
