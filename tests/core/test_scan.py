"""scan: values, gradients of both orders, trees, direction, compile, and what is refused."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import seqlib
from seqlib.core.tensor import Tensor
from seqlib.util.errors import DtypeError, SeqlibError, ShapeError

RNG = np.random.default_rng(3)


def _draw(*shape: int) -> Tensor:
    return seqlib.tensor(RNG.normal(size=shape).astype(np.float32))


def _tensor64(*shape: int) -> Tensor:
    return seqlib.tensor(RNG.normal(size=shape))


def _rnn(w: Tensor) -> Callable[[Any, Any], tuple[Any, Any]]:
    def body(h: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        h = seqlib.tanh(x + seqlib.matmul(h, w))
        return h, h

    return body


@pytest.mark.parametrize("reverse", [False, True])
def test_equals_a_loop(reverse: bool) -> None:
    w, h, xs = _draw(4, 4), _draw(2, 4), _draw(5, 2, 4)
    last, ys = seqlib.scan(_rnn(w), h, xs, reverse=reverse)
    expected = np.zeros((5, 2, 4), np.float32)
    state = h.numpy()
    for t in reversed(range(5)) if reverse else range(5):
        state = np.tanh(xs.numpy()[t] + state @ w.numpy())
        expected[t] = state
    np.testing.assert_allclose(ys.numpy(), expected, rtol=1e-6, atol=1e-6)
    assert np.array_equal(last.numpy(), ys.numpy()[0 if reverse else -1])


def test_trees_go_in_and_out() -> None:
    def body(carry: Any, x: Any) -> Any:
        total, count = carry["total"] + x["a"] * x["b"], carry["count"] + 1
        return {"total": total, "count": count}, (total, [x["b"]])

    xs = {"a": _draw(3, 2), "b": _draw(3, 2)}
    start = {"total": seqlib.zeros(2), "count": seqlib.tensor(np.int32(0))}
    carry, (totals, [bs]) = seqlib.scan(body, start, xs)
    products = xs["a"].numpy() * xs["b"].numpy()
    np.testing.assert_allclose(totals.numpy(), np.cumsum(products, axis=0), rtol=1e-5, atol=1e-6)
    assert np.array_equal(bs.numpy(), xs["b"].numpy())
    assert carry["count"].item() == 3


def test_without_xs_length_says_how_often() -> None:
    carry, ys = seqlib.scan(lambda c, _: (c * 2.0, None), seqlib.ones(1), length=5)
    assert carry.tolist() == [32.0]
    assert ys is None


@pytest.mark.parametrize("reverse", [False, True])
def test_gradients_of_both_orders(reverse: bool) -> None:
    w, h, xs = _tensor64(3, 3), _tensor64(2, 3), _tensor64(4, 2, 3)

    def value(w: Tensor, h: Tensor, xs: Tensor) -> Tensor:
        last, ys = seqlib.scan(_rnn(w), h, xs, reverse=reverse)
        return (ys[1:3] * ys[1:3]).sum() + last.sum()  # two of the steps have no gradient of their own

    def squares(w: Tensor, h: Tensor, xs: Tensor) -> Tensor:
        grads = seqlib.grad(value, argnums=(0, 1, 2), create_graph=True)(w, h, xs)
        return sum((g * g).sum() for g in grads)  # type: ignore[return-value]

    for fn in (value, squares):
        at = (w, h, xs)
        directions = [RNG.normal(size=t.shape) for t in at]
        slope = sum(
            float((g.numpy() * d).sum())
            for g, d in zip(seqlib.grad(fn, argnums=(0, 1, 2))(*at), directions, strict=True)
        )
        moved = [
            fn(*(seqlib.tensor(t.numpy() + s * d) for t, d in zip(at, directions, strict=True))).item()
            for s in (1e-6, -1e-6)
        ]
        assert (moved[0] - moved[1]) / 2e-6 == pytest.approx(slope, rel=1e-6)


def test_compiled_equals_eager_to_the_bit() -> None:
    w, h, xs = _draw(4, 4), _draw(2, 4), _draw(6, 2, 4)

    def step(w: Tensor, h: Tensor, xs: Tensor) -> Any:
        return seqlib.value_and_grad(lambda *a: (seqlib.scan(_rnn(a[0]), *a[1:])[1] ** 2).sum(), (0, 1, 2))(w, h, xs)

    compiled = seqlib.compile(step)
    value, grads = step(w, h, xs)
    fast_value, fast_grads = compiled(w, h, xs)
    assert fast_value.numpy() == value.numpy()
    for a, b in zip(fast_grads, grads, strict=True):
        assert a.numpy().tobytes() == b.numpy().tobytes()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: seqlib.scan(lambda c, x: (c, x), _draw(2), _draw(0, 2)), ShapeError, "at least 1 step"),
        (lambda: seqlib.scan(lambda c, x: (c, x), _draw(2)), ShapeError, "`length` given"),
        (
            lambda: seqlib.scan(lambda c, x: (c, x), _draw(2), [_draw(3, 2), _draw(4, 2)]),
            ShapeError,
            "one leading axis",
        ),
        (lambda: seqlib.scan(lambda c, x: (c, x), _draw(2), _draw(3), length=4), ShapeError, "length 4"),
        (lambda: seqlib.scan(lambda c, x: (c, x), _draw(2), seqlib.tensor(1.0)), ShapeError, "dimension"),
        (lambda: seqlib.scan(lambda c, x: c, _draw(2), _draw(3)), ShapeError, "returns (carry, y)"),
        (lambda: seqlib.scan(lambda c, x: ([c, c], x), _draw(2), _draw(3)), ShapeError, "structure"),
        (lambda: seqlib.scan(lambda c, x: (c[:1], x), _draw(2), _draw(3)), ShapeError, "of shape (2,)"),
        (
            lambda: seqlib.scan(lambda c, x: (seqlib.astype(c, "float64"), x), _draw(2), _draw(3)),
            DtypeError,
            "float32, got float64",
        ),
    ],
)
def test_refusals_name_what_is_wrong(call: Callable[[], Any], error: type[SeqlibError], words: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value).startswith("scan: ")
    assert words in str(caught.value)


def test_a_y_that_changes_its_structure_is_refused() -> None:
    steps = iter([None, seqlib.zeros(1)])
    with pytest.raises(ShapeError, match="first step's structure"):
        seqlib.scan(lambda c, _: (c, next(steps)), seqlib.zeros(1), length=2)


def test_too_many_steps_are_refused_with_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seqlib.core.lower.MAX_LAUNCHES", 50)
    fn = seqlib.compile(lambda x: seqlib.scan(lambda c, _: (seqlib.matmul(c, c), None), x, length=51)[0])
    with pytest.raises(SeqlibError, match="51 launches, more than 50"):
        fn(seqlib.ones((1, 1)))
