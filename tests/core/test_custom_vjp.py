"""custom_vjp: gradients by hand."""

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
from seqlib.core.tensor import Parameter, Tensor, tensor
from seqlib.util.errors import ShapeError

X = np.random.default_rng(0).normal(size=(5, 3))


@seqlib.custom_vjp
def scaled_tanh(x: Tensor, w: Tensor, *, factor: float) -> tuple[Tensor, Tensor]:
    """(tanh(x·w), its argmax) with a gradient that is multiplied by `factor`."""
    y = ops.tanh(x * w)
    return y, ops.argmax(y, axis=-1)


def _forward(x: Tensor, w: Tensor, *, factor: float) -> Any:
    y = ops.tanh(x * w)
    return (y, ops.argmax(y, axis=-1)), {"x": x, "w": w, "slope": 1.0 - y * y, "factor": factor}


def _backward(kept: dict[str, Any], g: Tensor, none: None) -> tuple[Tensor, Tensor]:
    assert none is None
    inner = g * kept["slope"] * kept["factor"]
    return inner * kept["w"], ops.sum(inner * kept["x"], axis=0)


scaled_tanh.defvjp(_forward, _backward)
W = np.array([0.5, -1.0, 2.0])


def _loss(x: Tensor, w: Tensor) -> Tensor:
    return ops.sum(scaled_tanh(x, w, factor=3.0)[0] ** 2.0)


@pytest.mark.parametrize("compiled", [False, True])
def test_the_rule_is_used(compiled: bool) -> None:
    both = value_and_grad(_loss, (0, 1))
    value, (by_x, by_w) = (compile(both) if compiled else both)(tensor(X), tensor(W))
    y = np.tanh(X * W)
    inner = 3.0 * 2.0 * y * (1 - y * y)
    assert np.allclose(value.numpy(), (y * y).sum(), rtol=1e-14)
    assert np.allclose(by_x.numpy(), inner * W, rtol=1e-12)
    assert np.allclose(by_w.numpy(), (inner * X).sum(0), rtol=1e-12)


def test_compiled_equals_eager_with_parameters() -> None:
    w = Parameter(W.astype(np.float32), "w")

    def step(x: Tensor) -> Any:
        value, (g,) = value_and_grad(lambda: _loss(x, w), params=[w])()
        w.assign(w - g * 0.1)
        return value, g

    x = tensor(X.astype(np.float32))
    eager = step(x)
    w.assign(W.astype(np.float32))
    for a, b in zip(eager, compile(step, w)(x), strict=True):
        assert np.array_equal(a.numpy(), b.numpy())


def test_without_gradients_the_function_itself_runs() -> None:
    @seqlib.custom_vjp
    def double(x: Tensor) -> Tensor:
        return x * 2.0

    double.defvjp(lambda x: (x * 2.0 + 1.0, None), lambda _, g: g * 2.0)
    x = tensor(X, requires_grad=True)
    assert double.__name__ == "double"
    assert np.array_equal(double(X).numpy(), X * 2.0)
    with no_grad():
        assert np.array_equal(double(x).numpy(), X * 2.0)
    assert np.array_equal(double(x).numpy(), X * 2.0 + 1.0)
    (g,) = gradients([ops.sum(double(x))], None, [x])
    assert g is not None and np.all(g.numpy() == 2.0)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_second_gradient_differentiates_the_rule_and_its_residuals(compiled: bool) -> None:
    weights = np.arange(15.0).reshape(5, 3)

    def slope(x: Tensor, w: Tensor) -> Tensor:
        linear = grad(lambda x: ops.sum(scaled_tanh(x, w, factor=3.0)[0] * weights), create_graph=True)
        return ops.sum(linear(x) * weights)

    def by_hand(x: np.ndarray, w: np.ndarray) -> float:
        return float((3.0 * (1 - np.tanh(x * w) ** 2) * w * weights * weights).sum())

    second = grad(slope, (0, 1))
    by_x, by_w = (compile(second) if compiled else second)(tensor(X), tensor(W))
    rng, h = np.random.default_rng(1), 1e-6
    dx, dw = rng.normal(size=X.shape), rng.normal(size=W.shape)
    expected = (by_hand(X + h * dx, W + h * dw) - by_hand(X - h * dx, W - h * dw)) / (2 * h)
    assert np.isclose((by_x.numpy() * dx).sum() + (by_w.numpy() * dw).sum(), expected, rtol=1e-7)


def test_randomness_of_the_forward_is_the_same_in_a_second_gradient() -> None:
    @seqlib.custom_vjp
    def noisy(x: Tensor) -> Tensor:
        return ops.dropout(x, 0.5)

    def forward(x: Tensor) -> Any:
        y = ops.dropout(x * x, 0.5)
        return y, (x, ops.dropout(x, 0.5))

    noisy.defvjp(forward, lambda kept, g: g * kept[1])
    generator = Generator(1)
    with use_generator(generator):
        first, again = (grad(lambda x: ops.sum(noisy(x)), create_graph=c)(tensor(X)) for c in (False, True))
    assert generator.state.numpy()[1] == 4
    generator.reseed(1)
    generator.state.assign(np.array([1, 2]))
    with use_generator(generator):
        assert np.array_equal(again.numpy(), grad(lambda x: ops.sum(noisy(x)))(tensor(X)).numpy())
    assert not np.array_equal(first.numpy(), again.numpy())


def test_mistakes_name_the_function() -> None:
    @seqlib.custom_vjp
    def pair(x: Tensor, y: Tensor) -> Tensor:
        return x + y

    x, y = tensor(X, requires_grad=True), tensor(X[:1], requires_grad=True)
    with pytest.raises(GradientError, match=r"pair: it has no gradient yet; call pair\.defvjp"):
        pair(x, x)
    pair.defvjp(lambda x, y: x + y, lambda kept, g: (g, g))
    with pytest.raises(GradientError, match=r"pair: forward should return \(outputs, residuals\)"):
        pair(x, x)
    pair.defvjp(lambda x, y: (x + y, None), lambda kept, g: g)
    with pytest.raises(GradientError, match="pair: backward should return 2 gradients, one for each tensor, got 1"):
        ops.sum(pair(x, x)).backward()
    pair.defvjp(lambda x, y: (x + y, None), lambda kept, g: (g, g))
    with pytest.raises(ShapeError, match=r"pair: the gradient of y should be of shape \(1, 3\), got \(5, 3\)"):
        ops.sum(pair(x, y)).backward()
    w = Parameter(W, "w")
    pair.defvjp(lambda x, y: (x * y, (x, y)), lambda kept, g: (g * kept[1], ops.sum(g * kept[0], axis=0)))
    out = ops.sum(pair(x, w))
    w.assign(W * 2)
    with pytest.raises(GradientError, match=r"pair: w of shape .* was assigned to"):
        out.backward()
