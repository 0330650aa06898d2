"""Compute copies: a parameter in another dtype, kept true by every assignment."""

from typing import Any

import numpy as np
import pytest

from seqlib.core import dtypes, ops
from seqlib.core.compile import compile
from seqlib.core.grad import value_and_grad
from seqlib.core.tensor import Parameter, Tensor, tensor
from seqlib.core.trace import collect_variables
from seqlib.nn import Linear
from seqlib.optim import AdamW
from seqlib.util.errors import TraceError

BF16 = dtypes.bfloat16
X = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)


def _parameter() -> Parameter:
    return Parameter(np.random.default_rng(1).normal(size=(4, 4)).astype(np.float32), "w")


def _true(p: Parameter) -> bool:
    return p.copies[BF16].numpy().tobytes() == p.numpy().astype(BF16).tobytes()


def test_itself_a_cast_or_the_copy() -> None:
    p = _parameter()
    assert p.as_dtype("float32") is p
    cast = p.as_dtype(BF16)
    p.keep_copy(BF16)
    copy = p.as_dtype(BF16)
    assert cast.dtype == copy.dtype == BF16
    assert cast.numpy().tobytes() == copy.numpy().tobytes() == p.numpy().astype(BF16).tobytes()
    p.keep_copy(np.float32)
    p.keep_copy(BF16)
    assert list(p.copies) == [BF16]


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
def test_the_gradient_is_the_parameters(kept: bool, compiled: bool) -> None:
    p = _parameter()
    if kept:
        p.keep_copy(np.float64)

    def step(x: Tensor) -> Any:
        return value_and_grad(lambda: ops.sum(ops.tanh(x @ p.as_dtype(np.float64))), params=[p])()

    value, (gradient,) = (compile(step, p) if compiled else step)(tensor(X.astype(np.float64)))
    assert value.dtype == np.float64 and gradient.dtype == np.float32
    product = X.astype(np.float64) @ p.numpy()
    assert np.allclose(gradient.numpy(), X.T @ (1 - np.tanh(product) ** 2), rtol=1e-6)


def _train(p: Parameter, optimizer: AdamW) -> Any:
    def step(x: Tensor) -> Tensor:
        def loss() -> Tensor:
            return ops.sum(ops.square(x @ p.as_dtype(BF16).astype(np.float32)))

        value, grads = value_and_grad(loss, params={"w": p})()
        optimizer.update(grads)
        return value

    return step


@pytest.mark.parametrize("compiled", [False, True])
def test_the_optimizers_update_refreshes_it(compiled: bool) -> None:
    p, plain = _parameter(), _parameter()
    p.keep_copy(BF16)
    steps: list[Any] = []
    for parameter in (p, plain):
        optimizer = AdamW({"w": parameter}, lr=1e-2)
        step = _train(parameter, optimizer)
        steps.append(compile(step, [parameter, optimizer]) if compiled else step)
    for _ in range(5):
        losses = [step(tensor(X)).item() for step in steps]
        assert losses[0] == losses[1], "a copy is what a cast would give"
        assert _true(p)
    assert p.numpy().tobytes() == plain.numpy().tobytes()
    if compiled:
        (program,) = steps[0].programs
        assert program.plan.copies == [], "it is written in place, in the same program"
        assert program.graph.locations[0][0] is p and program.graph.locations[1][0] is p.copies[BF16]


def test_assign_and_load_refresh_it() -> None:
    layer = Linear(4, 4)
    layer.weight.keep_copy(BF16)
    layer.weight.assign(layer.weight * 3.0)
    assert _true(layer.weight)
    layer.load({name: np.ones(p.shape, np.float32) for name, p in layer.named_parameters().items()})
    assert _true(layer.weight) and (layer.weight.copies[BF16].numpy() == 1).all()
    with pytest.raises(TraceError, match="compute copies"):
        layer.weight.storage()


def test_it_counts_as_state_and_not_as_a_parameter() -> None:
    layer = Linear(4, 4)
    layer.weight.keep_copy(BF16)
    assert "weight.bfloat16" in collect_variables(layer)
    assert "weight.bfloat16" not in layer.named_parameters()


def test_a_copy_kept_later_is_seen_by_what_was_compiled_before() -> None:
    p = _parameter()

    def double() -> Tensor:
        p.assign(p * 2.0)
        return p.as_dtype(BF16)

    compiled = compile(double, p)
    compiled()
    p.keep_copy(BF16)
    got = compiled()
    assert len(compiled.programs) == 2 and _true(p)
    assert got.numpy().tobytes() == p.numpy().astype(BF16).tobytes()

    def keep() -> None:
        p.keep_copy(np.float16)

    with pytest.raises(TraceError, match="call it before"):
        compile(keep, p)()
