"""Directional derivatives of a function of arrays, by gradients and by differences."""

from typing import Any

import numpy as np

from seqlib.core.backward import gradients
from seqlib.core.tensor import Tensor, tensor

Array = Any


def draw(*shape: int, seed: int = 0) -> Array:
    """Normal float32."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def along(fn: Any, *arrays: Array, step: float = 1e-5) -> tuple[float, float]:
    """The derivative along a fixed direction, by gradients and by differences, in float64."""
    arrays = tuple(np.asarray(a, np.float64) for a in arrays)
    leaves = [tensor(a, requires_grad=True) for a in arrays]
    y = fn(*leaves)
    rng = np.random.default_rng(3)
    cotangent = rng.normal(size=y.shape)
    directions = [rng.normal(size=a.shape) for a in arrays]
    grads = gradients([y], [Tensor(cotangent)], leaves)
    got = sum(float((g.numpy() * d).sum()) for g, d in zip(grads, directions, strict=True) if g is not None)
    ends = [
        (
            fn(*(tensor(np.asarray(a + s * step * d)) for a, d in zip(arrays, directions, strict=True))).numpy()
            * cotangent
        )
        for s in (1, -1)
    ]
    return got, float((ends[0] - ends[1]).sum() / (2 * step))
