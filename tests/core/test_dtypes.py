"""Dtypes: names, promotion, weak scalars."""

import itertools
from typing import Any

import numpy as np
import pytest

from seqlib.core import dtypes, ops
from seqlib.core.tensor import tensor
from seqlib.util.errors import DtypeError

ALL = [dtypes.bool_, dtypes.int32, dtypes.int64, dtypes.float16, dtypes.bfloat16, dtypes.float32, dtypes.float64]


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float64", "int32", "int64", "bool"])
def test_names(name: str) -> None:
    assert str(dtypes.canonical(name)) == name
    assert dtypes.canonical(dtypes.canonical(name)) == dtypes.canonical(name)


def test_python_types() -> None:
    assert dtypes.canonical(float) == dtypes.float32
    assert dtypes.canonical(int) == dtypes.int32
    assert dtypes.canonical(bool) == dtypes.bool_


@pytest.mark.parametrize("bad", ["float8", "complex64", np.uint8, np.int16, object, "nonsense", 3])
def test_unsupported(bad: Any) -> None:
    with pytest.raises(DtypeError, match=r"not supported; use one of float16, bfloat16"):
        dtypes.canonical(bad)


@pytest.mark.parametrize(("a", "b"), list(itertools.product(ALL, ALL)))
def test_promotion(a: Any, b: Any) -> None:
    found = dtypes.promote(a, b)
    assert found == dtypes.promote(b, a)
    if a == b:
        assert found == a
    elif dtypes.is_float(a) != dtypes.is_float(b):
        assert found == (a if dtypes.is_float(a) else b)  # an integer takes the float's dtype
    elif dtypes.is_half(a) and dtypes.is_half(b):
        assert found == dtypes.float32
    else:
        assert found == (a if a.itemsize > b.itemsize else b)


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        (1, dtypes.float32, dtypes.float32),
        (1.5, dtypes.bfloat16, dtypes.bfloat16),
        (1.5, dtypes.float64, dtypes.float64),
        (1.5, dtypes.int32, dtypes.float32),
        (2, dtypes.int64, dtypes.int64),
        (2, dtypes.bool_, dtypes.int32),
        (True, dtypes.int32, dtypes.int32),
    ],
)
def test_weak_scalars(value: Any, dtype: Any, expected: Any) -> None:
    assert (tensor(np.ones(3), dtype=dtype) + value).dtype == expected
    assert (value + tensor(np.ones(3), dtype=dtype)).dtype == expected


def test_arrays_and_tensors_are_not_weak() -> None:
    assert (tensor(np.float32([1])) * np.array([2.0])).dtype == dtypes.float64
    assert (tensor(np.int32([1])) + tensor(np.int64([1]))).dtype == dtypes.int64
    assert (tensor(np.int64([1])) * tensor([0.5])).dtype == dtypes.float32
    assert ops.div(tensor([3]), tensor([2])).tolist() == [1.5]
    assert ops.exp(tensor([0])).dtype == dtypes.float32


def test_half_precision_is_rounded_once() -> None:
    # In float16 steps 2048 + 1 would be rounded to 2048 each time; summed wide it is 2148.
    x = tensor(np.array([2048] + [1] * 100), dtype="float16")
    assert x.sum().item() == 2148
    third = tensor([1.0], dtype="bfloat16") / 3.0
    assert third.dtype == dtypes.bfloat16
    assert third.astype("float32").item() == pytest.approx(1 / 3, rel=2**-8)
