"""The tape: gradients by hand-known results, second gradients, modes, errors, and memory that stays flat."""

import gc
import weakref
from typing import NamedTuple

import numpy as np
import pytest

from seqlib.core import ops
from seqlib.core.backward import gradients
from seqlib.core.checkpoint import checkpoint
from seqlib.core.compile import compile
from seqlib.core.custom_vjp import custom_vjp
from seqlib.core.grad import grad, value_and_grad
from seqlib.core.op import OPS
from seqlib.core.tape import GradientError, no_grad
from seqlib.core.tensor import Parameter, Tensor, Variable, tensor
from tests.core.growth import growth


def _leaf(*values: float) -> Tensor:
    return tensor(np.array(values), requires_grad=True)


def test_backward_adds_into_grad() -> None:
    x = _leaf(1.0, 2.0)
    (x * x).sum().backward()
    (x * x).sum().backward()
    assert x.grad is not None
    assert x.grad.numpy().tolist() == [4.0, 8.0]


def test_backward_with_a_cotangent() -> None:
    x = _leaf(1.0, 2.0)
    y = x * 3.0
    with pytest.raises(GradientError, match=r"scalar output, got shape \(2,\)"):
        y.backward()
    y.backward(tensor(np.array([1.0, 10.0])))
    assert x.grad is not None
    assert x.grad.numpy().tolist() == [3.0, 30.0]


def test_a_value_used_twice_gets_both_gradients() -> None:
    def f(x: Tensor) -> Tensor:
        y = ops.exp(x)
        return (y * y + y).sum()

    x = np.array([0.3, -1.0])
    assert np.allclose(grad(f)(tensor(x)).numpy(), 2 * np.exp(2 * x) + np.exp(x), rtol=1e-12)


def test_gradients_by_intermediate_tensors() -> None:
    x = _leaf(2.0)
    y = x * 3.0
    z = y * y
    by_y, by_x = gradients([z], None, [y, x])
    assert by_y is not None
    assert by_x is not None
    assert (by_y.item(), by_x.item()) == (12.0, 36.0)


def test_a_target_that_nothing_depends_on() -> None:
    x, other = _leaf(2.0), _leaf(1.0)
    assert gradients([x * x], None, [other]) == [None]
    value, grads = value_and_grad(lambda a, b: (a * a).sum(), argnums=(0, 1))(x, other)
    assert value.item() == 4.0
    assert [g.numpy().tolist() for g in grads] == [[4.0], [0.0]]


def test_gradients_of_gradients() -> None:
    def cube(x: Tensor) -> Tensor:
        return (x * x * x).sum()

    def slope(x: Tensor) -> Tensor:
        return grad(cube, create_graph=True)(x).sum()

    def curvature(x: Tensor) -> Tensor:
        return grad(slope, create_graph=True)(x).sum()

    x = tensor(np.array([2.0, 3.0]))
    assert grad(slope)(x).numpy().tolist() == [12.0, 18.0]
    assert grad(curvature)(x).numpy().tolist() == [6.0, 6.0]


def test_the_gradient_of_a_penalty_on_a_gradient() -> None:
    w = Parameter(np.array([[0.5, -1.0], [2.0, 0.25]]), "w")
    x = tensor(np.array([[1.0, 2.0]]))

    def penalty() -> Tensor:
        def loss(x: Tensor) -> Tensor:
            return ops.tanh(ops.matmul(x, w)).sum()

        g = grad(loss, create_graph=True)(x)
        return (g * g).sum()

    (found,) = grad(penalty, params=[w])()
    step = 1e-6
    for i in range(2):
        for j in range(2):
            kept = w.data[i, j]
            w.data[i, j] = kept + step
            up = penalty().item()
            w.data[i, j] = kept - step
            down = penalty().item()
            w.data[i, j] = kept
            assert (up - down) / (2 * step) == pytest.approx(found.numpy()[i, j], rel=1e-6)


def test_a_gradient_that_needs_overwritten_content_is_refused() -> None:
    w = Parameter(np.array([1.0, 2.0]), "layer.w")
    loss = (w * w).sum()
    w.assign(np.array([3.0, 4.0]))
    with pytest.raises(GradientError, match=r"mul: layer\.w of shape \(2,\) was assigned to"):
        loss.backward()
    loss = (w * w).sum()
    compile(lambda: w.assign(w + 1.0), state=w)()
    with pytest.raises(GradientError, match=r"layer\.w"):
        loss.backward()
    loss = (w + w).sum()  # a sum's gradient reads no input
    w.assign(np.array([0.0, 0.0]))
    loss.backward()
    assert w.grad is not None and w.grad.tolist() == [2.0, 2.0]


def test_gradients_have_the_dtype_of_their_tensor() -> None:
    a = tensor(np.float32([1, 2]), requires_grad=True)
    b = tensor(np.array([3.0, 4.0]), requires_grad=True)
    by_a, by_b = gradients([(a * b).sum()], None, [a, b])
    assert by_a is not None
    assert by_b is not None
    assert (by_a.dtype, by_b.dtype) == (np.float32, np.float64)
    assert by_a.numpy().tolist() == [3.0, 4.0]


class Pair(NamedTuple):
    a: Tensor
    b: list[Tensor]


def test_value_and_grad_by_trees_and_passes_the_rest_through() -> None:
    def f(pair: Pair, scale: float) -> tuple[Tensor, str, Tensor]:
        y = pair.a * pair.b[0] * scale
        return y.sum(), "kept", y

    pair = Pair(tensor([2.0]), [tensor([5.0])])
    (value, text, y), grads = value_and_grad(f)(pair, 3.0)
    assert (value.item(), text, y.shape) == (30.0, "kept", (1,))
    assert isinstance(grads, Pair)
    assert (grads.a.item(), grads.b[0].item()) == (15.0, 6.0)


def test_value_and_grad_by_parameters_keeps_their_structure() -> None:
    params = {"w": Parameter(np.float32([2, 3]), "w"), "b": Parameter(np.float32([1]), "b")}

    def loss(x: Tensor) -> Tensor:
        return ((params["w"] * x).sum() + params["b"]).sum()

    value, grads = value_and_grad(loss, params=params)(tensor([1.0, 10.0]))
    assert value.item() == 33.0
    assert {k: g.numpy().tolist() for k, g in grads.items()} == {"w": [1.0, 10.0], "b": [1.0]}


def test_frozen_parameters() -> None:
    w = Parameter(np.float32([2]), "w")
    w.frozen = True
    assert not (w * 2.0).requires_grad
    with pytest.raises(GradientError, match="w takes no gradient: it is frozen"):
        value_and_grad(lambda: (w * w).sum(), params=[w])()
    w.frozen = False
    assert (w * 2.0).requires_grad


def test_no_grad() -> None:
    x = _leaf(1.0)
    with no_grad():
        y = x * 2.0
    assert not y.requires_grad
    assert (x * 2.0).requires_grad
    with pytest.raises(GradientError, match="does not depend on anything"):
        y.sum().backward()
    assert not x.detach().requires_grad


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: value_and_grad(lambda x: x * 2.0)(tensor([1.0, 2.0])), "should return a scalar tensor first"),
        (lambda: grad(lambda x: x.sum())(tensor([1, 2])), "floating arguments only, got int32"),
        (lambda: gradients([_leaf(1.0) * 2.0], [tensor([1.0, 2.0])], []), "output's shape"),
        (lambda: value_and_grad(lambda: None, params=[tensor([1.0])]), None),
    ],
)
def test_errors(call: object, message: str | None) -> None:
    if message is None:
        with pytest.raises(GradientError, match="should be a tree of Parameters"):
            call()()  # type: ignore[operator]
        return
    with pytest.raises(GradientError, match=message):
        call()  # type: ignore[operator]


def test_an_op_without_a_gradient_rule_says_so() -> None:
    x = _leaf(1.5)
    assert not ops.floor(x).requires_grad
    assert OPS["floor"].vjp_rule is None


# -- memory ----------------------------------------------------------------------------------------


def test_a_graph_is_freed_without_the_collector() -> None:
    gc.disable()
    try:
        x = _leaf(1.0, 2.0)
        y = ops.exp(x * 2.0)
        alive = weakref.ref(y.data)  # the node keeps it for the gradient rule
        z = (y * y).sum()
        z.backward()
        del y, z
        assert alive() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("compiled", [False, True])
def test_a_thousand_steps_stay_flat_with_the_collector_off(compiled: bool) -> None:
    rng = np.random.default_rng(0)
    params = [Parameter(rng.normal(size=s).astype(np.float32) * 0.1) for s in ((16, 32), (32, 32), (32, 7))]
    scale, shift = Parameter(np.ones(32, np.float32)), Parameter(np.zeros(32, np.float32))
    params += [scale, shift]
    x = Variable(rng.normal(size=(24, 16)).astype(np.float32))
    y = Variable(rng.integers(0, 7, 24).astype(np.int32))

    double = custom_vjp(lambda x: x * 2.0).defvjp(lambda x: (x * 2.0, None), lambda _, g: g * 2.0)

    def loss() -> Tensor:
        hidden = checkpoint(lambda: ops.layer_norm(ops.gelu(double(x @ params[0])), scale, shift))
        hidden = ops.concatenate([hidden[:, :16], ops.relu(hidden @ params[1])[:, 16:]], axis=1)
        chosen = ops.gather(ops.log_softmax(hidden @ params[2]), y[:, None], axis=1)
        return -chosen.mean()

    def update() -> Tensor:
        value, grads = value_and_grad(loss, params=params)()
        for p, g in zip(params, grads, strict=True):
            p.assign(p - g * 0.05)
        return value

    run = compile(update, state=[params, x, y]) if compiled else update

    def step() -> float:
        return run().item()

    first = step()
    objects, resident = growth(step, warm_up=100, steps=1000)
    assert step() < 0.5 * first
    assert objects <= 0, f"{objects} objects more after 1000 steps"
    assert resident < 2 * 2**20, f"{resident} bytes more after 1000 steps"


def test_second_gradients_leave_nothing_behind() -> None:
    x = tensor(np.linspace(-1, 1, 33))

    def slope(x: Tensor) -> Tensor:
        return (grad(lambda a: ops.logsumexp(ops.softmax(a) * a), create_graph=True)(x) ** 2.0).sum()

    objects, _ = growth(lambda: grad(slope)(x), warm_up=3, steps=20)
    assert objects <= 0, f"{objects} objects more after 20 second gradients"
