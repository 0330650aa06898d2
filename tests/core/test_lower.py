"""Lowering: what may be written over, and what may not."""

from collections.abc import Callable

import numpy as np
import pytest

from seqlib.core import ops
from seqlib.core.compile import compile
from seqlib.core.op import OPS
from seqlib.core.ops import IndexRangeError
from seqlib.core.tensor import Tensor, Variable, tensor
from seqlib.util.errors import TraceError

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


def _cache() -> Variable:
    return Variable(np.zeros((2, 8, 3), np.float32), "cache")


def test_a_cache_is_written_in_place() -> None:
    cache = _cache()
    storage = cache.data

    def step(x: Tensor, position: Tensor) -> Tensor:
        cache.assign(ops.update_slice(cache, x, position, axis=1))
        return ops.sum(cache, axis=1)

    compiled = compile(step, state=[cache])
    expected = np.zeros((2, 8, 3), np.float32)
    for t in range(8):
        x = np.full((2, 1, 3), t + 1, np.float32)
        expected[:, t : t + 1] = x
        assert np.array_equal(compiled(x, np.int32(t)).numpy(), expected.sum(1))
    assert cache.data is storage
    assert np.array_equal(cache.numpy(), expected)
    (program,) = compiled.programs
    assert program.plan.copies == []
    assert program.launch_count == 2
    assert program.arena_bytes < cache.data.nbytes + 1024  # nothing of the cache's size
    with pytest.raises(IndexRangeError, match=r"update_slice: index should be in \[0, 8\), got 8"):
        compiled(x, np.int32(8))


def test_a_cache_that_would_be_copied_is_refused() -> None:
    cache = _cache()

    def step(x: Tensor) -> Tensor:
        new = ops.update_slice(cache, x, tensor(np.int32(0)), axis=1)
        return new.sum() + cache.sum()  # the old content is read after, and nothing is assigned

    with pytest.raises(TraceError, match=r"update_slice: cache can't be updated in place.*test_lower.py"):
        compile(step, state=[cache])(np.ones((2, 1, 3), np.float32))
