"""softmax, layer_norm, embedding, dropout, adamw and global_norm beyond their samples."""

from typing import Any

import numpy as np
import pytest

from seqlib.core import ops, philox
from seqlib.core.compile import compile
from seqlib.core.grad import grad, value_and_grad
from seqlib.core.rng import Generator, use_generator
from seqlib.core.tensor import Tensor, Variable, tensor
from seqlib.util.errors import DtypeError, ShapeError, UsageError

Array = Any


def _draw(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# -- softmax -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax_along_any_axis(axis: int) -> None:
    x = _draw(3, 4, 5) * 50
    e = np.exp(x.astype(np.float64) - x.max(axis, keepdims=True))
    np.testing.assert_allclose(ops.softmax(x, axis=axis).numpy(), e / e.sum(axis, keepdims=True), atol=1e-6)
    expected = np.log(e / e.sum(axis, keepdims=True) + 1e-300)
    np.testing.assert_allclose(ops.log_softmax(x, axis=axis).numpy(), expected, atol=1e-4)


def test_softmax_messages() -> None:
    with pytest.raises(ShapeError, match="softmax: axis should be in"):
        ops.softmax(_draw(3, 4), axis=2)
    with pytest.raises(DtypeError, match="softmax: x should be a floating dtype"):
        ops.softmax(np.arange(3))


# -- layer_norm ----------------------------------------------------------------------------------------------


def test_layer_norm_far_from_zero_and_constant_rows() -> None:
    x = _draw(4, 64) + 1000
    y = ops.layer_norm(x, np.ones(64, np.float32), np.zeros(64, np.float32)).numpy()
    np.testing.assert_allclose(y.mean(-1), 0, atol=1e-4)
    np.testing.assert_allclose(y.std(-1), 1, atol=1e-3)
    same = ops.layer_norm(np.full((2, 8), 3, np.float32), np.ones(8, np.float32), np.full(8, 5, np.float32))
    assert np.all(same.numpy() == 5.0)


def test_layer_norm_messages() -> None:
    with pytest.raises(ShapeError, match=r"layer_norm: w should be of shape \(4,\)"):
        ops.layer_norm(_draw(3, 4), _draw(3), _draw(4))
    with pytest.raises(ShapeError, match="the last not empty"):
        ops.layer_norm(_draw(3, 0), _draw(0), _draw(0))


# -- embedding -----------------------------------------------------------------------------------------------


def test_embedding_gradient_adds_in_order_whatever_the_ids() -> None:
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 50, (40, 30)).astype(np.int32)
    ids[:, 20:] = 0  # padding
    cotangent = _draw(40, 30, 16)
    table = _draw(50, 16)
    g = grad(lambda t: (ops.embedding(ids, t) * cotangent).sum())(table).numpy()
    expected = np.zeros((50, 16), np.float32)
    for i, row in zip(ids.reshape(-1), cotangent.reshape(-1, 16), strict=True):
        expected[i] += row
    assert g.tobytes() == expected.tobytes()


@pytest.mark.parametrize("bad", [7, -1])
def test_embedding_names_an_id_out_of_range(bad: int) -> None:
    ids = np.array([[0, bad]], np.int32)
    with pytest.raises(ops.IndexRangeError, match=rf"embedding: ids should be in \[0, 7\), got {bad}"):
        ops.embedding(ids, _draw(7, 3))
    compiled = compile(lambda ids, table: ops.embedding(ids, table))
    with pytest.raises(ops.IndexRangeError, match=rf"got {bad}"):
        compiled(tensor(ids), tensor(_draw(7, 3)))


# -- dropout -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_rate_and_scale(p: float) -> None:
    with use_generator(Generator(5)):
        y = ops.dropout(np.ones((500, 1000), np.float32), p).numpy()
    kept = y != 0.0
    assert abs(kept.mean() - (1 - p)) < 5 * (p * (1 - p) / y.size) ** 0.5
    assert np.all(y[kept] == np.float32(philox.keep_scale(p)))
    assert abs(np.corrcoef(kept[:, :-1].reshape(-1), kept[:, 1:].reshape(-1))[0, 1]) < 0.01


def test_dropout_mask_is_made_again_in_backward_and_by_piece() -> None:
    x = np.ones((300, 1001), np.float32)  # more than one piece of the kernel, none of it aligned
    generator = Generator(9)
    with use_generator(generator):
        y, g = value_and_grad(lambda x: (ops.dropout(x, 0.3).sum(), ops.dropout(x, 0.3)))(x)
        first = philox.bits16(9, 0, 0, x.size).reshape(x.shape) >= philox.keep_threshold(0.3)
        np.testing.assert_array_equal(g.numpy() != 0, first)
        assert not np.array_equal(y[1].numpy() != 0, first)  # another draw, another mask
    assert generator.state.numpy().tolist() == [9, 2]


def test_dropout_compiled_equals_eager_over_steps() -> None:
    x = _draw(13, 77)

    def step(x: Tensor) -> list[Tensor]:
        with use_generator(generator):
            return [ops.dropout(ops.dropout(x, 0.2), 0.4)]

    generator = Generator(3)
    eager = [step(tensor(x))[0].numpy() for _ in range(3)]
    generator = Generator(3)
    compiled = compile(step, state=[generator])
    for expected in eager:
        assert compiled(tensor(x))[0].numpy().tobytes() == expected.tobytes()


def test_dropout_of_nothing() -> None:
    generator = Generator(1)
    x = tensor(_draw(3, 4))
    with use_generator(generator):
        assert ops.dropout(x, 0.0) is x
        for p in (-0.1, 1.0, float("nan")):
            with pytest.raises(UsageError, match="dropout: p should be in"):
                ops.dropout(x, p)
        with pytest.raises(DtypeError, match="dropout: x should be a floating dtype"):
            ops.dropout(np.arange(3), 0.5)
    assert generator.state.numpy().tolist() == [1, 0]


# -- adamw ---------------------------------------------------------------------------------------------------


def _scalars(*values: float) -> list[Tensor]:
    return [tensor(np.float32(v)) for v in values]


def test_adamw_follows_the_formula_in_float64() -> None:
    rng = np.random.default_rng(0)
    shape, b1, b2, eps, decay = (70, 333), 0.9, 0.98, 1e-9, 0.05
    p = rng.normal(size=shape).astype(np.float32)
    m, v = np.zeros_like(p), np.zeros_like(p)
    p64, m64, v64 = (x.astype(np.float64) for x in (p, m, v))
    for t in range(1, 6):
        g, lr, scale = rng.normal(size=shape).astype(np.float32), np.float32(1e-2 / t), np.float32(0.5)
        outs = ops.adamw(p, g, m, v, *_scalars(lr, t, scale), beta1=b1, beta2=b2, eps=eps, weight_decay=decay)
        p, m, v = (o.numpy() for o in outs)
        g64 = g.astype(np.float64) * scale
        m64, v64 = b1 * m64 + (1 - b1) * g64, b2 * v64 + (1 - b2) * g64**2
        p64 -= float(lr) * (m64 / (1 - b1**t) / (np.sqrt(v64 / (1 - b2**t)) + eps) + decay * p64)
    for got, expected in ((p, p64), (m, m64), (v, v64)):
        np.testing.assert_allclose(got, expected, rtol=3e-6, atol=1e-6)


@pytest.mark.parametrize("kernels", ["", "ref"])
@pytest.mark.parametrize("scale", [np.inf, -np.inf, np.nan])
def test_adamw_leaves_everything_when_the_scale_is_not_finite(monkeypatch: Any, kernels: str, scale: float) -> None:
    monkeypatch.setenv("SEQLIB_KERNELS", kernels)
    p, m, v = (_draw(33, 40, seed=i) for i in range(3))
    g = np.full_like(p, np.nan)
    for got, old in zip(ops.adamw(p, g, m, np.square(v), *_scalars(0.1, 3, scale)), (p, m, np.square(v)), strict=True):
        assert got.numpy().tobytes() == old.tobytes()


def test_adamw_in_place_in_a_program() -> None:
    p, m, v = (Variable(_draw(40, 60, seed=i) ** 2, name=n) for i, n in enumerate("pmv"))
    g, scalars = _draw(40, 60, seed=7), _scalars(0.1, 3, 1.0)
    expected = [t.numpy() for t in ops.adamw(p, g, m, v, *scalars)]

    def step(g: Tensor, lr: Tensor, t: Tensor, scale: Tensor) -> None:
        for variable, new in zip((p, m, v), ops.adamw(p, g, m, v, lr, t, scale), strict=True):
            variable.assign(new)

    compile(step, state=[p, m, v])(tensor(g), *scalars)
    for variable, new in zip((p, m, v), expected, strict=True):
        assert variable.numpy().tobytes() == new.tobytes()


def test_adamw_messages() -> None:
    p = _draw(3, 4)
    with pytest.raises(ShapeError, match="adamw: m should be of p's shape"):
        ops.adamw(p, p, p[:2], p, *_scalars(0.1, 1, 1))
    with pytest.raises(ShapeError, match="adamw: lr should be 0-d"):
        ops.adamw(p, p, p, p, tensor(_draw(2)), *_scalars(1, 1))


# -- global_norm ---------------------------------------------------------------------------------------------


def test_global_norm_of_large_and_small() -> None:
    xs = [np.full(100_000, 1e-3, np.float32), np.full((3, 4), 1e25, np.float32), np.zeros((0,), np.float32)]
    expected = np.sqrt(sum((x.astype(np.float64) ** 2).sum() for x in xs))
    assert ops.global_norm(xs).item() == pytest.approx(expected, rel=1e-7)
    assert ops.global_norm(*xs).item() == ops.global_norm(xs).item()
    assert ops.global_norm([]).item() == 0.0
    assert np.isnan(ops.global_norm([np.array([np.nan, 1], np.float32)]).item())
    assert np.isinf(ops.global_norm([np.array([np.inf, 1], np.float32)]).item())
