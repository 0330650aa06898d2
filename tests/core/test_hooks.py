"""hooks: every op with its layer, memory, and the first non-finite result."""

from typing import Any

import numpy as np
import pytest

import seqlib
from seqlib.core import ops
from seqlib.core.compile import compile
from seqlib.core.grad import value_and_grad
from seqlib.core.hooks import Call
from seqlib.core.rng import Generator, use_generator
from seqlib.core.tensor import Parameter, Tensor, tensor

X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)


class _Net(seqlib.nn.Module):
    def __init__(self) -> None:
        with use_generator(Generator(0)):
            self.inner = seqlib.nn.Linear(4, 8)
            self.outer = seqlib.nn.Linear(8, 2)
        self.generator = Generator(1)

    def forward(self, x: Tensor) -> Tensor:
        with use_generator(self.generator):
            return self.outer(ops.exp(ops.dropout(self.inner(x), 0.1)))


def _step(net: _Net) -> Any:
    params = net.parameters()

    def step(x: Tensor) -> Tensor:
        value, grads = value_and_grad(lambda: ops.mean(net(x) ** 2.0), params=params)()
        for p, g in zip(params, grads, strict=True):
            p.assign(p - g * 0.1)
        return value

    return step


def _run(compiled: bool) -> Any:
    net = _Net()
    return net, compile(_step(net), [net, net.generator]) if compiled else _step(net)


@pytest.mark.parametrize("compiled", [False, True])
def test_every_op_is_told_with_its_layer(compiled: bool) -> None:
    _, step = _run(compiled)
    told: list[Call] = []
    with seqlib.hooks(told.append) as seen:
        step(tensor(X))
    step(tensor(X))  # not seen
    assert seen.calls == told and seen.first_non_finite is None
    products = [(call.layer, call.nbytes) for call in told if call.op == "matmul"]
    forward = [("inner", 3 * 8 * 4), ("outer", 3 * 2 * 4)]
    assert products[:2] == forward and {layer for layer, _ in products[2:]} == {"inner.gradient", "outer.gradient"}
    assert all((call.seconds >= 0 and __file__ in call.line) or "nn" in call.line for call in told)
    by_layer = {key[0]: (calls, seconds) for key, calls, seconds, _ in seen.total("layer")}
    assert sum(calls for calls, _ in by_layer.values()) == len(told)
    assert by_layer["outer"][0] == sum(call.layer == "outer" for call in told)
    assert "first non-finite: none" in str(seen) and "matmul  outer.gradient" in str(seen)
    assert 3 * 8 * 4 < seen.peak_bytes < 20_000


@pytest.mark.parametrize("compiled", [False, True])
def test_memory_is_that_alive_at_once(compiled: bool) -> None:
    def chain(x: Tensor) -> Tensor:
        for _ in range(10):
            x = ops.matmul(x, x)
        return x

    with seqlib.hooks() as seen:
        (compile(chain) if compiled else chain)(tensor(np.eye(64, dtype=np.float32)))
    assert 2 * 64 * 64 * 4 <= seen.peak_bytes <= 3 * 64 * 64 * 4


@pytest.mark.parametrize("compiled", [False, True])
def test_the_first_that_overflows_is_named(compiled: bool) -> None:
    net, step = _run(compiled)
    net.inner.bias.assign(np.full(8, 200, np.float32))  # type: ignore[union-attr]
    with seqlib.hooks() as seen:
        step(tensor(X))
    found = seen.first_non_finite
    assert found is not None
    assert (found.kind, found.op, found.shape, found.source) == ("infinity", "exp", (3, 8), "")
    assert 200 < found.largest < 240 and "test_hooks.py" in found.line
    assert "infinity in the output of exp, shape (3, 8)" in str(found)


@pytest.mark.parametrize("compiled", [False, True])
def test_nan_from_outside_and_nan_made_inside(compiled: bool) -> None:
    net, step = _run(compiled)
    step(tensor(X))  # names the parameters
    net.outer.weight.name = "outer.weight"
    net.outer.weight.assign(np.full((2, 8), np.nan, np.float32))
    with seqlib.hooks() as seen:
        step(tensor(X))
    found = seen.first_non_finite
    assert found is not None and (found.kind, found.op, found.layer) == ("NaN", "matmul", "outer")
    assert found.source == "outer.weight"

    def difference(x: Tensor) -> Tensor:
        masked = ops.where(x > 0.0, 1.0, -np.inf)  # what it was given, not what it made
        return ops.max(masked, axis=1) - ops.max(masked, axis=1)

    with seqlib.hooks() as seen:
        (compile(difference) if compiled else difference)(tensor(X))
    found = seen.first_non_finite
    assert found is not None and (found.kind, found.op, found.source) == ("NaN", "sub", "")
    with seqlib.hooks(finite=False) as seen:
        difference(tensor(X))
    assert seen.first_non_finite is None and "first" not in str(seen)


def test_in_place_chains_are_judged_by_what_they_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQLIB_FUSE", "0")

    def f(x: Tensor) -> Tensor:
        return ops.sin(ops.log(ops.tanh(x * 2.0)))  # one buffer; log of 0 is -inf, of less NaN

    with seqlib.hooks() as seen:
        compile(f)(np.float32([0.5, -1.0]))
    found = seen.first_non_finite
    assert found is not None and (found.kind, found.op, found.source) == ("NaN", "log", "")


def test_find_non_finite_changes_nothing() -> None:
    net, step = _run(compiled=True)
    assert step.find_non_finite(X) is None
    net.inner.weight.assign(np.full((8, 4), 3e38, np.float32))
    before = {name: v.numpy() for name, v in (net.state_variables() | net.generator.state_variables()).items()}
    found = step.find_non_finite(X)
    assert found is not None and found.op == "matmul" and found.layer == "inner"
    after = {name: v.numpy() for name, v in (net.state_variables() | net.generator.state_variables()).items()}
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert step.programs == []  # it ran one of its own, without fusion


def test_the_largest_buffers_are_named() -> None:
    w = Parameter(np.ones((64, 64), np.float32), "w")

    def f(x: Tensor) -> Tensor:
        return ops.sum(ops.exp(ops.matmul(x, w) * 2.0), axis=0)

    program = compile(f, w).lower(np.ones((100, 64), np.float32))
    largest = program.largest()
    assert {held.nbytes for held in largest[:2]} == {100 * 64 * 4}
    assert {held.op for held in largest[:2]} == {"argument", "matmul"}
    assert sum(held.nbytes for held in largest) <= program.arena_bytes
