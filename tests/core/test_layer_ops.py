"""rms_norm and glu beyond their samples."""

import math

import numpy as np
import pytest

import seqlib
from seqlib.core import ops
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
