"""LSTM and GRU layers against their formulas in plain NumPy; lengths, directions, states, steps; attention."""

from typing import Any

import numpy as np
import pytest

from seqlib.core import ops
from seqlib.core.rng import Generator, use_generator
from seqlib.core.tensor import Tensor, Variable, tensor
from seqlib.nn import GRU, LSTM, SSRU, BahdanauAttention, LuongAttention
from seqlib.util.errors import ShapeError, UsageError

B, T, D, H = 4, 6, 5, 3
LENGTHS = np.array([6, 0, 3, 1], np.int32)
both = pytest.mark.parametrize("kind", [LSTM, GRU])


def _draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _layer(kind: Any, **options: Any) -> Any:
    with use_generator(Generator(4)):
        return kind(D, H, **options).eval()


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _step(cell: Any, x: np.ndarray, state: list[np.ndarray]) -> list[np.ndarray]:
    """The formula of the layer, for one row, in float64."""
    wx, wh = cell.weight_x.numpy().astype(np.float64), cell.weight_h.numpy().astype(np.float64)
    if len(state) == 2:
        i, f, g, o = np.split(wx @ x + wh @ state[0] + cell.bias.numpy(), 4)
        c = _sigmoid(f) * state[1] + _sigmoid(i) * np.tanh(g)
        return [_sigmoid(o) * np.tanh(c), c]
    given, own = np.split(wx @ x + cell.bias_x.numpy(), 3), np.split(wh @ state[0] + cell.bias_h.numpy(), 3)
    r, z = _sigmoid(given[0] + own[0]), _sigmoid(given[1] + own[1])
    n = np.tanh(given[2] + r * own[2])
    return [(1 - z) * n + z * state[0]]


def _by_hand(cell: Any, x: np.ndarray, lengths: np.ndarray, states: list[np.ndarray], reverse: bool) -> Any:
    y = np.zeros((B, T, H))
    last = [s.astype(np.float64) for s in states]
    for b in range(B):
        state = [s[b] for s in last]
        for t in range(lengths[b])[::-1] if reverse else range(lengths[b]):
            state = _step(cell, x[b, t], state)
            y[b, t] = state[0]
        for s, value in zip(last, state, strict=True):
            s[b] = value
    return y, last


@both
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("limited", [False, True])
def test_a_cell_is_its_formula(kind: Any, reverse: bool, limited: bool):
    cell = _layer(kind).cells[0]
    for parameter in cell.parameters():
        parameter.assign(_draw(*parameter.shape, seed=len(parameter.shape)))
    x = _draw(B, T, D)
    states = [_draw(B, H, seed=s) for s in range(2 if kind is LSTM else 1)]
    lengths = LENGTHS if limited else np.full(B, T, np.int32)
    y, last = cell(tensor(x), tuple(map(tensor, states)), tensor(lengths) if limited else None, reverse)
    expected, expected_last = _by_hand(cell, x, lengths, states, reverse)
    np.testing.assert_allclose(y.numpy(), expected, atol=2e-6)
    for got, wanted in zip(last, expected_last, strict=True):
        np.testing.assert_allclose(got.numpy(), wanted, atol=2e-6)


@both
def test_layers_and_directions(kind: Any):
    layer = _layer(kind, layers=2, bidirectional=True)
    x = tensor(_draw(B, T, D))
    y, states = layer(x, tensor(LENGTHS))
    assert y.shape == (B, T, 2 * H) and len(states) == 2
    lower = ops.concatenate(
        [layer.cells[0](x, None, tensor(LENGTHS))[0], layer.reverse_cells[0](x, None, tensor(LENGTHS), True)[0]], -1
    )
    forth, (h, *_) = layer.cells[1](lower, None, tensor(LENGTHS))
    back, (h_back, *_) = layer.reverse_cells[1](lower, None, tensor(LENGTHS), True)
    np.testing.assert_array_equal(y.numpy(), np.concatenate([forth.numpy(), back.numpy()], -1))
    np.testing.assert_array_equal(states[1][0].numpy(), np.concatenate([h.numpy(), h_back.numpy()], -1))
    assert not y.numpy()[np.arange(T) >= LENGTHS[:, None]].any()


@both
def test_rows_do_not_touch_each_other(kind: Any):
    layer, x = _layer(kind, bidirectional=True), _draw(B, T, D)
    y = layer(tensor(x), tensor(LENGTHS))[0].numpy()
    for b in range(B):
        other = x.copy()
        other[np.arange(B) != b] = np.nan
        other[b, LENGTHS[b] :] = np.nan
        np.testing.assert_array_equal(layer(tensor(other), tensor(LENGTHS))[0].numpy()[b], y[b])


@both
def test_steps_equal_the_sequence(kind: Any):
    layer, x = _layer(kind, layers=2), _draw(B, T, D)
    y, last = layer(tensor(x))
    states = [tuple(ops.zeros((B, H)) for _ in state) for state in last]
    for t in range(T):
        out, states = layer.step(tensor(x[:, t]), states)
        np.testing.assert_allclose(out.numpy(), y.numpy()[:, t], atol=1e-6)
    for got, wanted in zip(states, last, strict=True):
        np.testing.assert_allclose(got[0].numpy(), wanted[0].numpy(), atol=1e-6)
    halves, middle = layer(tensor(x[:, :2]))
    rest, _ = layer(tensor(x[:, 2:]), None, middle)
    joined = np.concatenate([halves.numpy(), rest.numpy()], 1)
    np.testing.assert_allclose(joined, y.numpy(), atol=1e-6)


@both
def test_dropout_between_layers_in_training_only(kind: Any):
    layer, x = _layer(kind, layers=2, dropout=0.5), tensor(_draw(B, T, D))
    with use_generator(Generator(1)):
        still = layer(x)[0].numpy()
        layer.train()
        assert not np.array_equal(layer(x)[0].numpy(), still)
        single = _layer(kind, dropout=0.5).train()
        np.testing.assert_array_equal(single(x)[0].numpy(), single(x)[0].numpy())


@both
def test_wrong_states_and_sizes_are_named(kind: Any):
    x = tensor(_draw(B, T, D))
    with pytest.raises(ShapeError, match=f"{kind.__name__}: states: expected 2 of one direction, got 1"):
        _layer(kind, layers=2)(x, None, [(ops.zeros((B, H)),) * 2])
    name = kind.__name__.lower()
    with pytest.raises(ShapeError, match=f"{name}: w_x should be"):
        _layer(kind)(tensor(_draw(B, T, D + 1)))
    with pytest.raises(ShapeError, match=f"{name}: lengths should be \\[B\\]"):
        _layer(kind)(x, tensor(LENGTHS[:2]))


# ---- attention


def _weights(scores: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    scores = np.where(np.arange(scores.shape[2]) < lengths[:, None, None], scores, -np.inf)
    e = np.exp(scores - scores.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("name", ["dot", "general", "additive"])
def test_attention_is_its_formula(name: str):
    query, memory = _draw(B, 2, H, seed=1), _draw(B, T, H, seed=2)
    lengths = np.maximum(LENGTHS, 1)
    with use_generator(Generator(2)):
        layer: Any = BahdanauAttention(H, H, 7) if name == "additive" else LuongAttention(H, name)  # type: ignore[arg-type]
    if name == "dot":
        scores = query @ memory.swapaxes(1, 2)
    elif name == "general":
        scores = query @ (memory @ layer.key_proj.weight.numpy().T).swapaxes(1, 2)
    else:
        layer.query_proj.bias.assign(_draw(7))
        q = query @ layer.query_proj.weight.numpy().T + layer.query_proj.bias.numpy()
        hidden = np.tanh(q[:, :, None] + (memory @ layer.key_proj.weight.numpy().T)[:, None])
        scores = hidden @ layer.score.numpy()
    expected = _weights(scores, lengths)
    keys = layer.keys(tensor(memory))
    args: tuple[Tensor, ...] = (tensor(query), keys)
    np.testing.assert_allclose(layer.weights(*args, tensor(lengths)).numpy(), expected, atol=1e-6)
    context = layer(*args, tensor(memory), tensor(lengths)).numpy()
    np.testing.assert_allclose(context, expected @ memory, atol=1e-6)


def test_an_unknown_score_is_named():
    with pytest.raises(UsageError, match="general"):
        LuongAttention(H, "genral")  # type: ignore[arg-type]


def test_ssru_is_its_formula():
    layer = SSRU(H)
    layer.forget_proj.bias.assign(_draw(H, seed=4))
    x = _draw(B, T, H)
    y = layer(tensor(x)).numpy()
    state, rows = Variable(np.zeros((B, H), np.float32)), np.zeros((B, H))
    for t in range(T):
        forget = _sigmoid(x[:, t] @ layer.forget_proj.weight.numpy().T + layer.forget_proj.bias.numpy())
        rows = forget * rows + (1 - forget) * (x[:, t] @ layer.in_proj.weight.numpy().T)
        np.testing.assert_allclose(y[:, t], np.maximum(rows, 0), atol=1e-6)
        stepped = layer.step(tensor(x[:, t : t + 1]), state)  # as beams of B sentences
        np.testing.assert_allclose(stepped.numpy()[:, 0], y[:, t], atol=1e-6)
