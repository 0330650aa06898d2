"""The dtypes of the core and the one promotion rule.
 float32 is the default; float16, bfloat16, float64, int32, int64 and bool exist beside it. An integer met
with a float gives the float's dtype; two floats give the wider one (float16 with bfloat16 gives float32). A
Python scalar is weak: it takes the dtype of the tensor that it meets, except that a float met with integers
gives float32.
"""

from functools import lru_cache
from typing import Any

import ml_dtypes
import numpy as np

from seqlib.util.errors import DtypeError

DType = np.dtype[Any]

float16: DType = np.dtype(np.float16)
bfloat16: DType = np.dtype(ml_dtypes.bfloat16)
float32: DType = np.dtype(np.float32)
float64: DType = np.dtype(np.float64)
int32: DType = np.dtype(np.int32)
int64: DType = np.dtype(np.int64)
bool_: DType = np.dtype(np.bool_)

_BY_NAME = {d.name: d for d in (float16, bfloat16, float32, float64, int32, int64, bool_)}
_SHORT: dict[Any, DType] = {**_BY_NAME, float: float32, int: int32}
_SUPPORTED: frozenset[DType] = frozenset(_BY_NAME.values())
_FLOATS: frozenset[DType] = frozenset({float16, bfloat16, float32, float64})
_HALF: frozenset[DType] = frozenset({float16, bfloat16})
_INTS: frozenset[DType] = frozenset({int32, int64})


def canonical(dtype: Any) -> DType:
    """The core's dtype for a name, a NumPy dtype or a Python type.

    Raises DtypeError for a dtype that the core does not compute with (it names the supported ones).
    """
    try:
        found = _SHORT[dtype] if dtype in _SHORT else np.dtype(dtype)
    except TypeError:
        found = None
    if found is None or found not in _SUPPORTED:
        raise DtypeError(f"dtype {dtype!r} is not supported; use one of {', '.join(_BY_NAME)}")
    return found


def is_float(dtype: DType) -> bool:
    return dtype in _FLOATS


def is_half(dtype: DType) -> bool:
    return dtype in _HALF


def sums(dtype: DType) -> DType:
    """The dtype of statistics and of sums over many values: float32 for 16-bit floats, else the same."""
    return float32 if dtype in _HALF else dtype


def is_int(dtype: DType) -> bool:
    return dtype in _INTS


@lru_cache(maxsize=256)
def promote(a: DType, b: DType) -> DType:
    """The dtype in which an operation on `a` and `b` is computed."""
    if a != b and a in _HALF and b in _HALF:
        return float32
    floats = [d for d in (a, b) if d in _FLOATS]
    ints = [d for d in (a, b) if d in _INTS]
    return max(floats or ints or [bool_], key=lambda d: d.itemsize)


def scalar_dtype(value: bool | int | float, tensor_dtype: DType | None) -> DType:
    """The dtype that a weak Python scalar takes beside a tensor of `tensor_dtype` (None: on its own)."""
    if isinstance(value, bool):
        return tensor_dtype if tensor_dtype is not None else bool_
    if isinstance(value, int):
        if tensor_dtype is None or tensor_dtype == bool_:
            return int32 if -(2**31) <= value < 2**31 else int64
        return tensor_dtype
    return tensor_dtype if tensor_dtype is not None and tensor_dtype in _FLOATS else float32
