"""Initial values for parameters: float32 NumPy arrays drawn on the CPU from the ambient generator.

Weights are laid out [out, in] (Hugging Face's layout), so fan_in is the last axis and fan_out the first.
"""

from collections.abc import Sequence

import numpy as np

from seqlib.core.meta import building_meta
from seqlib.core.rng import current_generator
from seqlib.util.errors import ShapeError

__all__ = ["constant", "normal", "ones", "uniform", "xavier_normal", "xavier_uniform", "zeros"]


def zeros(shape: Sequence[int]) -> np.ndarray:
    """All 0."""
    return constant(shape, 0.0)


def ones(shape: Sequence[int]) -> np.ndarray:
    """All 1."""
    return constant(shape, 1.0)


def constant(shape: Sequence[int], value: float) -> np.ndarray:
    """All `value`."""
    return _no_memory(shape) if building_meta() else np.full(shape, value, np.float32)


def _no_memory(shape: Sequence[int]) -> np.ndarray:
    """What stands for initial values under `meta()`: one element that is seen everywhere."""
    return np.broadcast_to(np.float32(0), tuple(shape))


def uniform(shape: Sequence[int], low: float, high: float) -> np.ndarray:
    """U(low, high)."""
    if building_meta():
        return _no_memory(shape)
    drawn = current_generator().uniform(tuple(shape))
    return (np.float32(low) + drawn * np.float32(high - low)).astype(np.float32, copy=False)


def normal(shape: Sequence[int], std: float = 1.0, mean: float = 0.0) -> np.ndarray:
    """N(mean, s²) with s = `std`."""
    if building_meta():
        return _no_memory(shape)
    drawn = current_generator().normal(tuple(shape))
    return (np.float32(mean) + drawn * np.float32(std)).astype(np.float32, copy=False)


def xavier_uniform(shape: Sequence[int], gain: float = 1.0) -> np.ndarray:
    """U(-a, a) with a = gain · sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""
    bound = gain * float(np.sqrt(6.0 / sum(_fans(shape))))
    return uniform(shape, -bound, bound)


def xavier_normal(shape: Sequence[int], gain: float = 1.0) -> np.ndarray:
    """N(0, s²) with s = gain · sqrt(2 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""
    return normal(shape, gain * float(np.sqrt(2.0 / sum(_fans(shape)))))


def _fans(shape: Sequence[int]) -> tuple[int, int]:
    if len(shape) != 2:
        raise ShapeError(f"xavier initialisers: expected a matrix shape (out, in), got {tuple(shape)}")
    return shape[1], shape[0]
