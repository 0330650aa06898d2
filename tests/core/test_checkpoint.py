"""checkpoint: the same bits, less memory, the same randomness."""

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import seqlib
from seqlib.core import ops
from seqlib.core.backward import gradients
from seqlib.core.compile import compile
from seqlib.core.grad import grad, value_and_grad
from seqlib.core.rng import Generator, use_generator
from seqlib.core.tape import GradientError, no_grad
from seqlib.core.tensor import Parameter, Tensor, Variable, tensor
from seqlib.util.errors import SeqlibError, TraceError

WIDTH, LAYERS = 32, 8
X = np.random.default_rng(0).normal(size=(64, WIDTH)).astype(np.float32)
Wrapper = Callable[..., Any]


def _plain(fn: Callable[..., Any], *args: Any) -> Any:
    return fn(*args)


class _Stack:
    """Layers with dropout that all read one more tensor, the input."""

    def __init__(self, wrapper: Wrapper, layers: int = LAYERS, dtype: Any = np.float32) -> None:
        rng = np.random.default_rng(1)
        self.wrapper = wrapper
        self.generator = Generator(3)
        self.params = [
            {
                "w": Parameter((rng.normal(size=(WIDTH, WIDTH)) / 6).astype(dtype), f"w{i}"),
                "b": Parameter(np.zeros(WIDTH, dtype), f"b{i}"),
            }
            for i in range(layers)
        ]

    def layer(self, i: int, x: Tensor, memory: Tensor) -> Tensor:
        p = self.params[i]
        h = ops.gelu(ops.matmul(x, p["w"], transpose_b=True) + p["b"]) * memory
        return x + ops.dropout(ops.tanh(h) * memory, 0.25)

    def loss(self, x: Tensor) -> Tensor:
        memory = ops.sin(x)
        with use_generator(self.generator):
            for i in range(len(self.params)):
                x = self.wrapper(lambda x, memory, i=i: self.layer(i, x, memory), x, memory)
        return ops.mean(x * x)

    def gradients(self, x: Tensor) -> Any:
        value, (by_x,) = value_and_grad(self.loss, (0,))(x)
        return value, by_x, grad(lambda: self.loss(x), params=self.params)()


def _arrays(result: Any) -> list[np.ndarray]:
    value, by_x, by_params = result
    return [t.numpy() for t in (value, by_x, *(g for p in by_params for g in p.values()))]


@pytest.mark.parametrize("compiled", [False, True])
def test_values_and_gradients_are_the_same_bits(compiled: bool) -> None:
    found: list[list[np.ndarray]] = []
    offsets: list[int] = []
    for wrapper in (_plain, seqlib.checkpoint):
        stack = _Stack(wrapper)
        step: Any = compile(stack.gradients, [*stack.params, stack.generator]) if compiled else stack.gradients
        step(tensor(X))
        found.append(_arrays(step(tensor(X))))
        offsets.append(int(stack.generator.state.numpy()[1]))
    assert offsets == [4 * LAYERS] * 2  # two calls of two passes each: a draw a layer, none for the second computation
    for plain, checkpointed in zip(*found, strict=True):
        assert np.array_equal(plain, checkpointed)


def test_compiled_equals_eager() -> None:
    a, b = _Stack(seqlib.checkpoint), _Stack(seqlib.checkpoint)
    compiled = compile(b.gradients, [*b.params, b.generator])
    for x, y in zip(_arrays(a.gradients(tensor(X))), _arrays(compiled(X)), strict=True):
        assert np.array_equal(x, y)


def test_the_plan_of_a_deep_stack_is_smaller() -> None:
    def planned(wrapper: Wrapper) -> tuple[int, int]:
        stack = _Stack(wrapper, layers=16)
        step = compile(lambda x: grad(lambda: stack.loss(x), params=stack.params)(), [*stack.params, stack.generator])
        program = step.lower(X)
        matmuls = sum(launch.name == "matmul" for launch in program.plan.launches)
        return program.arena_bytes, matmuls

    (plain, once), (checkpointed, twice) = planned(_plain), planned(seqlib.checkpoint)
    assert twice == once + 16  # every layer's product again
    gradients = 16 * (WIDTH * WIDTH + WIDTH) * 4  # they are returned together
    assert checkpointed - gradients < 0.5 * (plain - gradients)


def test_eager_memory_of_a_deep_stack_is_smaller() -> None:
    def peak(wrapper: Wrapper) -> int:
        stack = _Stack(wrapper, layers=32)
        x = tensor(np.tile(X, (64, 1)))
        run = grad(lambda: stack.loss(x), params=stack.params)
        run()  # kernels are imported at their first launch
        tracemalloc.start()
        run()
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(_plain)  # the first call imports and compiles
    assert peak(seqlib.checkpoint) < 0.5 * peak(_plain)


@pytest.mark.parametrize("compiled", [False, True])
def test_checkpoints_nest(compiled: bool) -> None:
    found: list[list[np.ndarray]] = []
    for wrapper in (_plain, seqlib.checkpoint):
        stack = _Stack(wrapper, layers=4)

        def nested(x: Tensor, stack: _Stack = stack, wrapper: Wrapper = wrapper) -> Any:
            def loss(x: Tensor) -> Tensor:
                def half(x: Tensor, start: int) -> Tensor:
                    for i in (start, start + 1):
                        x = wrapper(lambda x, i=i: stack.layer(i, x, ops.sin(x)), x)
                    return x

                with use_generator(stack.generator):
                    return ops.sum(wrapper(half, wrapper(half, x, 0), 2) ** 2.0)

            value, by_x = value_and_grad(loss)(x)
            return value, by_x, grad(lambda: loss(x), params=stack.params)()

        step: Any = compile(nested, [*stack.params, stack.generator]) if compiled else nested
        found.append(_arrays(step(tensor(X))))
        assert stack.generator.state.numpy()[1] == 8
    for plain, checkpointed in zip(*found, strict=True):
        assert np.array_equal(plain, checkpointed)


def test_second_gradients() -> None:
    def curvature(wrapper: Wrapper) -> np.ndarray:
        stack = _Stack(wrapper, layers=2, dtype=np.float64)
        x, direction = tensor(X[:2].astype(np.float64)), np.cos(np.arange(2 * WIDTH)).reshape(2, WIDTH)

        def slope(x: Tensor) -> Tensor:
            stack.generator.reseed(3)
            return ops.sum(grad(stack.loss, create_graph=True)(x) * direction)

        return grad(slope)(x).numpy()

    assert np.allclose(curvature(_plain), curvature(seqlib.checkpoint), rtol=1e-11, atol=1e-15)


def test_trees_integers_and_what_was_not_made_inside_pass_through() -> None:
    x = tensor(X, requires_grad=True)

    def fn(x: Tensor, more: dict[str, Any]) -> dict[str, Any]:
        return {"y": ops.exp(x), "same": x, "top": ops.argmax(x, axis=-1), "k": more["k"], "z": ops.sin(x)}

    result = seqlib.checkpoint(fn, x, {"k": 7})
    assert result["k"] == 7 and result["same"] is x and result["top"].dtype == np.int32
    (by_x,) = gradients([ops.sum(result["z"] + result["same"])], None, [x])
    assert by_x is not None and np.array_equal(by_x.numpy(), np.cos(X) + 1)
    with no_grad():
        assert seqlib.checkpoint(ops.exp, x).node is None


def test_a_module_keeps_its_name_in_the_second_computation() -> None:
    linear = seqlib.nn.Linear(WIDTH, WIDTH)
    linear._scope_name = "projection"  # pyright: ignore[reportAttributeAccessIssue]

    def step(x: Tensor) -> Any:
        layer = seqlib.checkpoint
        return value_and_grad(lambda: ops.sum(layer(lambda x: linear(x) ** 3.0, x)), params=linear.parameters())()

    launches = compile(step, linear).lower(X).plan.launches
    assert sum(launch.name == "matmul" and launch.scope == "projection" for launch in launches) == 2


def test_what_differs_the_second_time_is_refused() -> None:
    x, calls = tensor(X, requires_grad=True), []

    def grows(x: Tensor) -> Tensor:
        calls.append(1)
        return ops.concatenate([x] * len(calls))

    with pytest.raises(GradientError, match=r"checkpoint: grows gave .*\(64, 32\).*again.*\(128, 32\)"):
        ops.sum(seqlib.checkpoint(grows, x)).backward()

    def draws(x: Tensor) -> Tensor:
        calls.append(1)
        for _ in calls:
            x = ops.dropout(x, 0.5)
        return x

    with pytest.raises(SeqlibError, match="drew another number of random values"):
        ops.sum(seqlib.checkpoint(draws, x)).backward()

    counter = Variable(np.float32(0), "counter")

    def counts(x: Tensor) -> Tensor:
        counter.assign(counter + 1.0)
        return x * 2.0

    with pytest.raises(TraceError, match="counter is assigned to in a checkpoint"):
        seqlib.checkpoint(counts, x)
    assert counter.item() == 0

    frozen = Variable(np.float32(2), "frozen")
    y = seqlib.checkpoint(lambda x: ops.exp(x + frozen), x)
    frozen.assign(np.float32(3))
    with pytest.raises(GradientError, match=r"checkpoint: frozen of shape .* was assigned to"):
        ops.sum(y).backward()
