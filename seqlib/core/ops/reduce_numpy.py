"""The NumPy kernels of reductions and of cumsum."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np


def sum(outs: Any, ins: Any, scratch: Any, *, axis: Any, keepdims: bool, wide: bool = False) -> None:
    """The kernel of sum."""
    np.sum(ins[0], axis=axis, keepdims=keepdims, dtype=outs[0].dtype, out=outs[0])


def mean(outs: Any, ins: Any, scratch: Any, *, axis: Any, keepdims: bool) -> None:
    """The kernel of mean."""
    sum(outs, ins, scratch, axis=axis, keepdims=keepdims)
    count = math.prod(ins[0].shape[a] for a in axis)
    np.true_divide(outs[0], outs[0].dtype.type(count), out=outs[0])


def _by(function: Callable[..., Any]) -> Callable[..., None]:
    def kernel(outs: Any, ins: Any, scratch: Any, *, axis: Any, keepdims: bool) -> None:
        function(ins[0], axis=axis, keepdims=keepdims, out=outs[0])

    return kernel


max, min, any, all = (_by(function) for function in (np.max, np.min, np.any, np.all))


def cumsum(outs: Any, ins: Any, scratch: Any, *, axis: int) -> None:
    """The kernel of cumsum."""
    np.cumsum(ins[0], axis=axis, dtype=outs[0].dtype, out=outs[0])
