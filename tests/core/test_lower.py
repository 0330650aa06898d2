"""Lowering: what may be written over, and what may not."""

from collections.abc import Callable

import numpy as np
import pytest

from seqlib.core import ops
from seqlib.core.compile import compile
from seqlib.core.op import OPS
from seqlib.core.tensor import Tensor, tensor

X = np.linspace(-2, 3, 1023).astype(np.float32)
I = np.random.default_rng(0).integers(0, 1023, 1023).astype(np.int32)  # noqa: E741


@pytest.mark.parametrize("op", ["softmax_bwd", "log_softmax_bwd", "relu_bwd", "sub", "maximum", "matmul"])
def test_a_value_given_twice_is_not_written_over_while_it_is_read(op: str) -> None:
    x = np.abs(X[:1000].reshape(10, 100)) if op != "matmul" else X[:1000].reshape(10, 100)[:, :10]
    attrs = {"transpose_a": False, "transpose_b": True} if op == "matmul" else {}

    def fn(x: Tensor) -> Tensor:
        y = x * 2.0
        return OPS[op](y, y, **attrs)

    assert np.array_equal(compile(fn)(x).numpy(), fn(tensor(x)).numpy())


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: ops.where(x > 1.5, x < 2.5, x < 0.5),
        lambda x: ops.where(x > 1.5, x * 3.0, x * 2.0),
        lambda x: ops.where((c := x > 1.5), c, ops.logical_not(c)),
        lambda x: ops.where(x > 1.5, (y := x * 3.0), y),
        lambda x: ops.scatter_add((y := x * 2.0), tensor(I), y),
        lambda x: ops.silu(x * 2.0) * ops.gelu(x * 2.0),
        lambda x: (y := x * 2.0)[::-1] + y,
        lambda x: ops.reshape(y := x[:1000] * 2.0, (10, 100)).T @ ops.reshape(y, (10, 100)),
    ],
)
def test_storage_taken_over_changes_no_bits(fn: Callable[[Tensor], Tensor]) -> None:
    eager, compiled = fn(tensor(X)), compile(fn)
    for _ in range(2):
        assert np.array_equal(compiled(X).numpy(), eager.numpy())
