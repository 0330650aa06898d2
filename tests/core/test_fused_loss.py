"""Cross entropy, whole and blockwise: formulas, ignored targets, smoothing, second gradients, messages."""

from typing import Any

import numpy as np
import pytest

from seqlib.core import ops
from seqlib.core.grad import grad, value_and_grad
from seqlib.core.tape import no_grad
from seqlib.core.tensor import Tensor, tensor
from seqlib.util.errors import DtypeError, ShapeError, UsageError

Array = Any


def _case(n: int, d: int, v: int, ignored: float = 0.3) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(n + v)
    targets = rng.integers(0, v, n).astype(np.int32)
    targets[rng.random(n) < ignored] = -1
    return rng.normal(size=(n, d)).astype(np.float32), rng.normal(size=(v, d)).astype(np.float32), targets


def _reference(logits: Array, targets: Array, smoothing: float) -> tuple[float, int, Array]:
    """Loss, count and gradient by the logits, in float64, from the definition."""
    logits = logits.astype(np.float64)
    log_p = logits - logits.max(1, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(1, keepdims=True))
    v = logits.shape[1]
    wanted = np.full_like(log_p, smoothing / v)
    rows = np.flatnonzero(targets >= 0)
    wanted[rows, targets[rows]] += 1.0 - smoothing
    g = np.zeros_like(log_p)
    g[rows] = np.exp(log_p[rows]) - wanted[rows]
    return float(-(wanted * log_p)[rows].sum()), len(rows), g


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize(("n", "d", "v"), [(5, 3, 7), (700, 16, 300), (300, 8, 9000)])
def test_both_forms_equal_the_definition(n: int, d: int, v: int, smoothing: float) -> None:
    x, w, targets = _case(n, d, v)
    loss64, count, g = _reference(x.astype(np.float64) @ w.T.astype(np.float64), targets, smoothing)
    (loss, weight), (gx, gw) = value_and_grad(
        lambda x, w: ops.linear_cross_entropy(x, w, targets, smoothing=smoothing), argnums=(0, 1)
    )(x, w)
    assert loss.item() == pytest.approx(loss64, rel=2e-6)
    assert weight.item() == count
    np.testing.assert_allclose(gx.numpy(), g @ w, atol=1e-5 * np.abs(g @ w).max())
    np.testing.assert_allclose(gw.numpy(), g.T @ x, atol=1e-5 * np.abs(g.T @ x).max())
    (loss, weight), glogits = value_and_grad(lambda z: ops.cross_entropy(z, targets, smoothing))(x @ w.T)
    assert loss.item() == pytest.approx(loss64, rel=2e-6)
    assert weight.item() == count
    np.testing.assert_allclose(glogits.numpy(), g, atol=2e-6)


def test_ignored_rows_have_zero_gradient_and_no_say() -> None:
    x, w, targets = _case(9, 4, 6, ignored=0.5)
    hidden = targets == -1
    (loss, _), gx = value_and_grad(lambda x: ops.linear_cross_entropy(x, w, targets))(x)
    assert np.all(gx.numpy()[hidden] == 0.0)
    x[hidden] = np.nan
    (other, _), gx = value_and_grad(lambda x: ops.linear_cross_entropy(x, w, targets))(x)
    assert other.item() == loss.item()
    assert np.isfinite(gx.numpy()).all()


def test_all_ignored_and_another_ignore_index() -> None:
    x, w, _ = _case(4, 3, 5)
    loss, weight = ops.linear_cross_entropy(x, w, np.full(4, 2, np.int32), ignore_index=2)
    assert (loss.item(), weight.item()) == (0.0, 0.0)
    (_, weight), gw = value_and_grad(
        lambda w: ops.linear_cross_entropy(x, w, np.array([-7, 1, -7, 0]), ignore_index=-7)
    )(w)
    assert weight.item() == 2.0
    assert np.abs(gw.numpy()).sum() > 0


def test_the_cotangent_scales_the_gradient() -> None:
    x, w, targets = _case(6, 3, 5)
    once = grad(lambda x: ops.linear_cross_entropy(x, w, targets)[0])(x).numpy()
    mean = grad(lambda x: ops.linear_cross_entropy(x, w, targets)[0] * 0.25)(x).numpy()
    np.testing.assert_array_equal(mean, once * np.float32(0.25))


def test_second_gradient_is_that_of_the_definition() -> None:
    x, w, targets = (a.astype(np.float64) if a.dtype == np.float32 else a for a in _case(5, 3, 4))

    def through(loss: Any) -> Array:
        def norm(x: Tensor) -> Tensor:
            g = grad(lambda x: loss(x)[0], create_graph=True)(x)
            return (g * g).sum()

        return grad(norm)(x).numpy()

    blockwise = through(lambda x: ops.linear_cross_entropy(x, w, targets, smoothing=0.1))
    plain = through(lambda x: ops.cross_entropy(ops.matmul(x, w, False, True), targets, smoothing=0.1))
    np.testing.assert_allclose(blockwise, plain, rtol=1e-9)


def test_gradients_are_only_made_when_asked_for() -> None:
    x, w, targets = _case(6, 3, 5)
    leaf = tensor(w, requires_grad=True)
    loss, _ = ops.linear_cross_entropy(x, leaf, targets)
    attrs = loss.node.attrs
    assert (attrs["want_x"], attrs["want_w"]) == (False, True)
    with no_grad():
        assert ops.linear_cross_entropy(x, leaf, targets)[0].node is None


@pytest.mark.parametrize("bad", [5, -2])
def test_a_target_out_of_range_is_named(bad: int) -> None:
    x, w, targets = _case(4, 3, 5, ignored=0.0)
    targets[2] = bad
    for call in (lambda: ops.linear_cross_entropy(x, w, targets), lambda: ops.cross_entropy(x @ w.T, targets)):
        with pytest.raises(ops.IndexRangeError, match=rf"targets should be in \[0, 5\), got {bad}"):
            call()


def test_messages() -> None:
    x, w, targets = _case(4, 3, 5)
    with pytest.raises(ShapeError, match=r"linear_cross_entropy: w should be \[V, 3\]"):
        ops.linear_cross_entropy(x, w[:, :2], targets)
    with pytest.raises(ShapeError, match=r"cross_entropy: targets should be \[N\]"):
        ops.cross_entropy(x, targets[:2])
    with pytest.raises(DtypeError, match="targets should be int32 or int64"):
        ops.cross_entropy(x, targets.astype(np.float32))
    with pytest.raises(DtypeError, match="w should be float32, as x"):
        ops.linear_cross_entropy(x, w.astype(np.float64), targets)
    with pytest.raises(UsageError, match=r"smoothing should be in \[0, 1\]"):
        ops.cross_entropy(x, targets, smoothing=1.5)
