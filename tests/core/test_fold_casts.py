"""Cast folding: exact round trips go, rounding stays."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from seqlib.core import dtypes, ops
from seqlib.core.compile import compile
from seqlib.core.tensor import Tensor, Variable, tensor

CONTENT = np.array([0.0, 1.0, 0.1, -3.7, 1e-3, 70000.0, 2.0**24 + 1])


def _through(names: Sequence[str]) -> Any:
    def fn(x: Tensor) -> Tensor:
        for name in names[1:]:
            x = ops.cast(x, name)
        return x

    return fn


@pytest.mark.parametrize(
    ("names", "left"),
    [
        ("float32 float64 float32", 0),
        ("bfloat16 float32 bfloat16", 0),
        ("float16 float64 float16", 0),
        ("float16 float32 float64 float32 float16", 0),
        ("int32 int64 int32", 0),
        ("int32 float64 int32", 0),
        ("bool float32 bool", 0),
        ("int32 int64 float64", 1),
        ("bfloat16 float32 float64", 1),
        ("float64 float32 float64", 2),
        ("float32 bfloat16 float32", 2),
        ("float32 float16 float32", 2),
        ("float16 bfloat16 float16", 2),
        ("int64 int32 int64", 2),
        ("int32 float32 int32", 2),
        ("int64 float64 int64", 2),
        ("float32 int32 float32", 2),
        ("bfloat16 float32 float16", 2),
    ],
)
def test_only_what_is_exact_is_folded(names: str, left: int) -> None:
    chain = names.split()
    with np.errstate(all="ignore"):
        x = CONTENT.astype(dtypes.canonical(chain[0]))
        compiled = compile(_through(chain))
        got, expected = compiled(x), _through(chain)(tensor(x))
    assert compiled.programs[0].launch_count == left
    assert got.dtype == expected.dtype
    assert got.numpy().tobytes() == expected.numpy().tobytes()


def test_a_read_in_between_keeps_its_cast() -> None:
    compiled = compile(lambda x: (wide := x.astype(np.float64), wide.astype(np.float32) * 2.0)[0] + 1.0)
    assert compiled(np.float32([1.5])).numpy().tolist() == [2.5]
    both = compile(lambda x: ((wide := x.astype(np.float64)) * 3.0, wide.astype(np.float32) * 2.0))
    a, b = both(np.float32([0.1]))
    assert a.dtype == np.float64 and b.numpy() == np.float32(0.1) * 2
    assert sorted(launch.name for launch in both.programs[0].plan.launches) == ["cast", "mul", "mul"]


def test_a_location_given_back_is_unharmed() -> None:
    a, b = Variable(np.float32([1, 2]), "a"), Variable(np.float32([3, 4]), "b")

    def swap() -> Tensor:
        old = a.astype(np.float64).astype(np.float32)
        a.assign(b.astype(np.float64).astype(np.float32))
        b.assign(old)
        return old

    returned = compile(swap, [a, b])()
    assert returned.numpy().tolist() == [1, 2]
    assert a.numpy().tolist() == [3, 4] and b.numpy().tolist() == [1, 2]
