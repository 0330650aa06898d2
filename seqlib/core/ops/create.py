"""Ops that make an array from nothing."""

from typing import Any

import numpy as np

from seqlib.core import dtypes
from seqlib.core.op import Meta, primitive, shape_error
from seqlib.core.tensor import Tensor


@primitive(differentiable=False)
def _full(xp: Any, *, shape: tuple[int, ...], value: float, dtype: Any) -> Any:
    """An array of `shape` and `dtype` filled with `value`."""
    return xp.full(shape, value, dtype)


_full.infer(lambda *, shape, value, dtype: [Meta(tuple(shape), dtypes.canonical(dtype))])


_full.cpu("copy_numpy:full", strided=True)


@primitive(differentiable=False)
def iota(xp: Any, *, start: float, step: float, size: int, dtype: Any) -> Any:
    """start, start + step, … : `size` elements of `dtype`."""
    wide = xp.float64 if dtypes.is_float(dtypes.canonical(dtype)) else xp.int64
    return (start + step * xp.arange(size, dtype=wide)).astype(dtype)


iota.infer(lambda *, start, step, size, dtype: [Meta((size,), dtypes.canonical(dtype))])


@primitive(differentiable=False, like="state")
def advance_generator(xp: Any, state: Any, *, draws: int) -> Any:
    """The generator state int64 [2] = (seed, offset) after `draws` more draws."""
    return state + xp.asarray([0, draws], state.dtype)


def zeros(shape: Any, dtype: Any = dtypes.float32) -> Tensor:
    """Zeros of `shape` (an int or a tuple), float32 unless `dtype` says otherwise."""
    return _full(shape=_shape(shape), value=0.0, dtype=dtypes.canonical(dtype))


def ones(shape: Any, dtype: Any = dtypes.float32) -> Tensor:
    """Ones of `shape` (an int or a tuple), float32 unless `dtype` says otherwise."""
    return _full(shape=_shape(shape), value=1.0, dtype=dtypes.canonical(dtype))


def full(shape: Any, value: float, dtype: Any = None) -> Tensor:
    """An array of `shape` (an int or a tuple) filled with the Python scalar `value`; without `dtype` bool, int32 or
    float32, as the scalar is."""
    chosen = dtypes.canonical(dtype) if dtype else dtypes.scalar_dtype(value, None)
    return _full(shape=_shape(shape), value=value, dtype=chosen)


def zeros_like(x: Tensor) -> Tensor:
    """Zeros in the shape and dtype of x."""
    return zeros(x.shape, x.dtype)


def ones_like(x: Tensor) -> Tensor:
    """Ones in the shape and dtype of x."""
    return ones(x.shape, x.dtype)


def arange(start: float, stop: float | None = None, step: float = 1, dtype: Any = None) -> Tensor:
    """`start`, `start` + `step`, … below `stop` (from 0 to `start` without it), as NumPy's arange; int32 for ints,
    float32 for floats, unless `dtype` is given. Raises ShapeError for a step of 0."""
    if step == 0:
        raise shape_error("arange", "step", "other than 0", step)
    first, last = (0, start) if stop is None else (start, stop)
    whole = all(isinstance(v, int) for v in (first, last, step))
    size = max(0, int(np.ceil((last - first) / step)))
    chosen = dtypes.canonical(dtype) if dtype else dtypes.int32 if whole else dtypes.float32
    return iota(start=first, step=step, size=size, dtype=chosen)


def _shape(shape: Any) -> tuple[int, ...]:
    return (shape,) if isinstance(shape, int) else tuple(int(d) for d in shape)
