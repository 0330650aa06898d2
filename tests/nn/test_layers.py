"""Layers against their formulas in NumPy."""

import numpy as np
import pytest

from seqlib import nn
from seqlib.core import ops
from seqlib.core.rng import Generator, use_generator
from seqlib.core.tensor import tensor
from seqlib.util.errors import ShapeError, UsageError

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def test_linear():
    layer, x = nn.Linear(5, 3), normal(2, 4, 5)
    layer.bias.assign(normal(3))
    expected = x @ layer.weight.numpy().T + layer.bias.numpy()
    np.testing.assert_allclose(layer(tensor(x)).numpy(), expected, atol=1e-5)
    assert layer(tensor(x[0, 0])).shape == (3,)
    assert nn.Linear(5, 3, bias=False).bias is None
    with pytest.raises(ShapeError, match="last axis of 5"):
        layer(tensor(normal(2, 4)))


def test_layer_norm():
    layer, x = nn.LayerNorm(6, eps=1e-3), normal(2, 3, 6)
    layer.weight.assign(normal(6))
    layer.bias.assign(normal(6))
    centred = x - x.mean(-1, keepdims=True)
    expected = centred / np.sqrt(x.var(-1, keepdims=True) + 1e-3) * layer.weight.numpy() + layer.bias.numpy()
    np.testing.assert_allclose(layer(tensor(x)).numpy(), expected, atol=1e-5)
    assert nn.LayerNorm(6).eps == 1e-6


def test_dropout_trains_only():
    layer, x = nn.Dropout(0.25), tensor(np.ones((100, 100), np.float32))
    with use_generator(Generator(0)):
        y = layer(x).numpy()
        assert 0.23 < (y == 0).mean() < 0.27 and np.allclose(y[y > 0], 1 / 0.75, rtol=1e-3)
        assert layer.eval()(x) is x
    with pytest.raises(UsageError, match="dropout"):
        nn.Dropout(1.0)


def test_embedding_scales_and_positions_add():
    layer = nn.Embedding(11, 4, scale=2.0)
    ids = np.array([[3, 0, 10]], np.int32)
    embedded = layer(tensor(ids))
    np.testing.assert_allclose(embedded.numpy(), 2.0 * layer.weight.numpy()[ids])
    positions = nn.SinusoidalPositions(8, 4)
    np.testing.assert_allclose(positions(embedded).numpy(), embedded.numpy() + nn.sinusoid_table(8, 4)[:3], atol=1e-6)
    at = positions.at(tensor(normal(2, 4)) * 0.0, tensor(np.int32(5)))
    np.testing.assert_array_equal(at.numpy(), np.stack([nn.sinusoid_table(8, 4)[5]] * 2))
    with pytest.raises(ShapeError, match="at most 8"):
        positions(tensor(normal(1, 9, 4)))


def test_sinusoid_table_formula():
    table = nn.sinusoid_table(50, 6)
    rates = [1.0, 10000**-0.5, 10000**-1.0]
    expected = [np.sin(17 * r) for r in rates] + [np.cos(17 * r) for r in rates]
    np.testing.assert_allclose(table[17], expected, atol=1e-6)
    assert table.dtype == np.float32
    with pytest.raises(UsageError, match="even"):
        nn.sinusoid_table(4, 5)


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu"])
def test_feed_forward(activation: str):
    from math import erf

    formulas = {
        "relu": lambda z: np.maximum(z, 0),
        "gelu": lambda z: z * 0.5 * (1 + np.vectorize(erf)(z / np.sqrt(2))),
        "silu": lambda z: z / (1 + np.exp(-z)),
    }
    layer, x = nn.FeedForward(4, 9, activation), normal(2, 3, 4)
    hidden = x @ layer.in_proj.weight.numpy().T
    expected = formulas[activation](hidden) @ layer.out_proj.weight.numpy().T
    np.testing.assert_allclose(layer(tensor(x)).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(
    "activation,gate", [("glu", "sigmoid"), ("reglu", "relu"), ("geglu", "gelu"), ("swiglu", "silu")]
)
def test_gated_feed_forward(activation: str, gate: str):
    layer, x = nn.FeedForward(4, 9, activation), normal(2, 3, 4)
    assert layer.gate_proj is not None
    for part in (layer.in_proj, layer.gate_proj):
        part.bias.assign(normal(9))
    value, gated = (tensor(x) @ p.weight.numpy().T + p.bias.numpy() for p in (layer.in_proj, layer.gate_proj))
    act = getattr(ops, gate)
    expected = (value * act(gated)).numpy() @ layer.out_proj.weight.numpy().T
    np.testing.assert_allclose(layer(tensor(x)).numpy(), expected, atol=1e-5)
    names = ["in_proj", "gate_proj", "out_proj"]
    assert list(layer.named_parameters()) == [f"{n}.{w}" for n in names for w in ("weight", "bias")]


def test_rms_norm():
    layer, x = nn.RMSNorm(6, eps=1e-3), normal(2, 3, 6)
    layer.weight.assign(normal(6))
    expected = x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-3) * layer.weight.numpy()
    np.testing.assert_allclose(layer(tensor(x)).numpy(), expected, atol=1e-5)


def test_learned_positions():
    layer, x = nn.LearnedPositions(8, 4), normal(2, 3, 4)
    table = layer.weight.numpy()
    np.testing.assert_array_equal(layer(tensor(x)).numpy(), x + table[:3])
    np.testing.assert_array_equal(layer.at(tensor(x[:, 0]), tensor(np.int32(5))).numpy(), x[:, 0] + table[5])
    np.testing.assert_array_equal(
        layer.each(tensor(x[0]), tensor(np.array([7, 0, 7], np.int32))).numpy(), x[0] + table[[7, 0, 7]]
    )
    with pytest.raises(ShapeError, match="at most 8"):
        layer(tensor(normal(1, 9, 4)))


def test_feed_forward_refuses_unknown_activations():
    with pytest.raises(UsageError, match="relu"):
        nn.FeedForward(4, 8, "reluu")


def attention_reference(layer, x, memory, lengths=None, causal=False):
    b, t, d = x.shape
    s, h = memory.shape[1], layer.heads

    def project(linear, y):
        return (y @ linear.weight.numpy().T).reshape(b, -1, h, d // h)

    q, k, v = project(layer.q_proj, x), project(layer.k_proj, memory), project(layer.v_proj, memory)
    scores = np.einsum("bthk,bshk->bhts", q, k) / np.sqrt(d // h)
    if lengths is not None:
        scores = np.where(np.arange(s) < lengths[:, None, None, None], scores, -np.inf)
    if causal:
        scores = np.where(np.tril(np.ones((t, s), bool)), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum("bhts,bshk->bthk", weights, v).reshape(b, t, d) @ layer.out_proj.weight.numpy().T


def test_attention_self_cross_causal_and_lengths():
    layer = nn.MultiHeadAttention(8, 2)
    x, memory, lengths = normal(3, 5, 8), normal(3, 7, 8), np.array([7, 1, 4], np.int32)
    close = {"rtol": 1e-4, "atol": 1e-5}
    np.testing.assert_allclose(layer(tensor(x)).numpy(), attention_reference(layer, x, x), **close)
    np.testing.assert_allclose(
        layer(tensor(x), causal=True).numpy(), attention_reference(layer, x, x, causal=True), **close
    )
    np.testing.assert_allclose(
        layer(tensor(x), tensor(memory), tensor(lengths)).numpy(),
        attention_reference(layer, x, memory, lengths),
        **close,
    )


def test_attention_parameters_and_errors():
    layer = nn.MultiHeadAttention(8, 2, bias=True)
    parts = ("q_proj", "k_proj", "v_proj", "out_proj")
    assert list(layer.named_parameters()) == [f"{p}.{w}" for p in parts for w in ("weight", "bias")]
    assert "bias" not in str(list(nn.MultiHeadAttention(8, 2).named_parameters()))
    with pytest.raises(UsageError, match="multiple"):
        nn.MultiHeadAttention(8, 3)


def test_attention_dropout_is_in_training_only():
    layer, x = nn.MultiHeadAttention(8, 2, dropout=0.5), tensor(normal(2, 5, 8))
    with use_generator(Generator(0)):
        assert np.any(layer(x).numpy() != layer(x).numpy())
        layer.eval()
        np.testing.assert_array_equal(layer(x).numpy(), layer(x).numpy())


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_grouped_query_attention(kv_heads: int):
    layer, x, memory = nn.MultiHeadAttention(16, 4, kv_heads=kv_heads), normal(2, 5, 16), normal(2, 7, 16)
    assert layer.k_proj.weight.shape == layer.v_proj.weight.shape == (4 * kv_heads, 16)
    whole = nn.MultiHeadAttention(16, 4)
    for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
        weight = getattr(layer, part).weight.numpy()
        if weight.shape[0] < 16:  # a head of keys or values for each of its query heads
            weight = np.repeat(weight.reshape(kv_heads, 4, 16), 4 // kv_heads, axis=0).reshape(16, 16)
        getattr(whole, part).weight.assign(weight)
    for arguments in ({"causal": True}, {"memory": tensor(memory)}):
        expected = whole(tensor(x), **arguments).numpy()
        np.testing.assert_allclose(layer(tensor(x), **arguments).numpy(), expected, atol=1e-6)
    with pytest.raises(UsageError, match="4 heads are not a multiple of 3 kv_heads"):
        nn.MultiHeadAttention(16, 4, kv_heads=3)
