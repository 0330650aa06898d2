"""Attention beyond its samples: masks, packed rows, grouped heads, dropout, long sequences, messages."""

from typing import Any

import numpy as np
import pytest

from seqlib.core import ops, philox
from seqlib.core.backends.threads import set_threads
from seqlib.core.backward import gradients
from seqlib.core.op import OPS
from seqlib.core.rng import Generator, use_generator
from seqlib.core.tape import no_grad
from seqlib.core.tensor import Tensor, tensor
from seqlib.util.errors import DtypeError, ShapeError, UsageError

Array = Any


def _draw(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _plain(q: Array, k: Array, v: Array, visible: Array, bias: Any = 0.0) -> Array:
    """The definition in float64, one row at a time; visible bool [B,T,S]."""
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    b, t, h, width = q.shape
    bias = np.broadcast_to(bias, (b, h, t, k.shape[1]))
    y = np.zeros(q.shape)
    for i, j, head in np.ndindex(b, t, h):
        seen = np.flatnonzero(visible[i, j])
        if len(seen):
            s = k[i, seen, head] @ q[i, j, head] * width**-0.5 + bias[i, head, j, seen]
            w = np.exp(s - s.max())
            y[i, j, head] = w / w.sum() @ v[i, seen, head]
    return y


def test_causal_is_aligned_at_the_end() -> None:
    q, k, v = _draw(2, 3, 2, 4), _draw(2, 5, 2, 4, seed=1), _draw(2, 5, 2, 4, seed=2)
    visible = np.broadcast_to(np.arange(5) <= np.arange(3)[:, None] + 2, (2, 3, 5))
    got = ops.attention(q, k, v, causal=True).numpy()
    np.testing.assert_allclose(got, _plain(q, k, v, visible), atol=2e-6)
    longer = np.broadcast_to(np.arange(3) <= np.arange(5)[:, None] - 2, (2, 5, 3))
    got = ops.attention(k, q, q, causal=True).numpy()
    np.testing.assert_allclose(got, _plain(k, q, q, longer), atol=2e-6)
    assert np.all(got[:, :2] == 0.0)  # queries before the first key see nothing


def test_lengths_causal_and_bias_together() -> None:
    q, k, v, bias = _draw(3, 4, 2, 8), _draw(3, 4, 2, 8, seed=1), _draw(3, 4, 2, 8, seed=2), _draw(2, 1, 4)
    lengths = np.array([4, 2, 1], np.int32)
    visible = (np.arange(4) < lengths[:, None, None]) & (np.arange(4) <= np.arange(4)[:, None])
    got = ops.attention(q, k, v, bias=bias, lengths=lengths, causal=True).numpy()
    np.testing.assert_allclose(got, _plain(q, k, v, visible, bias), atol=2e-6)


def test_hidden_keys_do_not_matter_even_if_they_are_not_numbers() -> None:
    q, k, v = _draw(1, 3, 2, 4), _draw(1, 5, 2, 4, seed=1), _draw(1, 5, 2, 4, seed=2)
    lengths = np.array([3], np.int32)
    expected = ops.attention(q, k, v, lengths=lengths).numpy()
    k[:, 3:] = np.nan
    assert ops.attention(q, k, v, lengths=lengths).numpy().tobytes() == expected.tobytes()


@pytest.mark.parametrize("kernels", ["", "ref"])
def test_a_query_without_keys_gives_zeros_and_zero_gradients(monkeypatch: Any, kernels: str) -> None:
    monkeypatch.setenv("SEQLIB_KERNELS", kernels)
    q, k, v = (tensor(_draw(2, 3, 2, 4, seed=i), requires_grad=True) for i in range(3))
    y = ops.attention(q, k, v, lengths=np.array([3, 0], np.int32))
    assert np.all(y.numpy()[1] == 0.0)
    for create_graph in (False, True):
        for g in gradients([y], [Tensor(_draw(2, 3, 2, 4, seed=5))], [q, k, v], create_graph):
            assert g is not None
            assert np.isfinite(g.numpy()).all()
            assert np.all(g.numpy()[1] == 0.0)


def test_grouped_queries_equal_repeated_keys() -> None:
    q, k, v = _draw(2, 5, 6, 4), _draw(2, 7, 2, 4, seed=1), _draw(2, 7, 2, 4, seed=2)
    grouped = ops.attention(q, k, v).numpy()
    repeated = ops.attention(q, np.repeat(k, 3, axis=2), np.repeat(v, 3, axis=2)).numpy()
    np.testing.assert_allclose(grouped, repeated, atol=1e-6)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("own", [4, 2, 1])
def test_heads_in_one_buffer_equal_heads_apart(own: int, packed: bool) -> None:
    form = (12,) if packed else (2, 6)
    q, k, v = (_draw(*form, h, 8, seed=i) for i, h in enumerate((4, own, own)))
    offsets = {"q_offsets": np.array([0, 5, 12], np.int32)} if packed else {}
    cotangent = Tensor(_draw(*q.shape, seed=9))

    def run(*inputs: Array, **arguments: Any) -> tuple[Array, list[Array]]:
        leaves = [tensor(x, requires_grad=True) for x in inputs]
        y = ops.attention(*leaves, causal=True, **offsets, **arguments)
        grads = gradients([y], [cotangent], leaves)
        return y.numpy(), [g.numpy() for g in grads if g is not None]

    expected, grads = run(q, k, v)
    kv, qkv = np.concatenate([k, v], axis=-2), np.concatenate([q, k, v], axis=-2)
    y, (gqkv,) = run(qkv, kv_heads=own)
    assert y.tobytes() == expected.tobytes()
    assert gqkv.tobytes() == np.concatenate(grads, axis=-2).tobytes()
    y, (gq, gkv) = run(q, kv, kv_heads=own)
    assert y.tobytes() == expected.tobytes()
    assert gq.tobytes() == grads[0].tobytes()
    assert gkv.tobytes() == np.concatenate(grads[1:], axis=-2).tobytes()


SEGMENTS = [(3, 4), (1, 6), (5, 5), (2, 0), (4, 3)]


@pytest.mark.parametrize("causal", [False, True])
def test_packed_equals_padded(causal: bool) -> None:
    heads, own, width = 4, 2, 8
    pieces = [
        tuple(_draw(n, h, width, seed=10 * i + j) for j, (n, h) in enumerate(((a, heads), (b, own), (b, own))))
        for i, (a, b) in enumerate(SEGMENTS)
    ]
    q, k, v = (tensor(np.concatenate([p[j] for p in pieces]), requires_grad=True) for j in range(3))
    offsets = [np.cumsum([0, *(s[j] for s in SEGMENTS)]).astype(np.int32) for j in (0, 1)]
    y = ops.attention(q, k, v, q_offsets=offsets[0], k_offsets=offsets[1], causal=causal)
    cotangent = _draw(*y.shape, seed=99)
    packed = [g.numpy() for g in gradients([y], [Tensor(cotangent)], [q, k, v]) if g is not None]
    for (i, p), a, c in zip(enumerate(pieces), offsets[0], offsets[1], strict=False):
        rows, keys = slice(a, a + SEGMENTS[i][0]), slice(c, c + SEGMENTS[i][1])
        leaves = [tensor(x[None], requires_grad=True) for x in p]
        alone = ops.attention(*leaves, causal=causal)
        np.testing.assert_allclose(y.numpy()[rows], alone.numpy()[0], atol=1e-6)
        grads = gradients([alone], [Tensor(cotangent[None, rows])], leaves)
        for got, where, expected in zip(packed, (rows, keys, keys), grads, strict=True):
            np.testing.assert_allclose(got[where], 0 if expected is None else expected.numpy()[0], atol=2e-6)


def test_a_sentence_has_the_same_bits_alone_and_in_a_batch() -> None:
    q, k, v = (_draw(70, 24, 4, 16, seed=i) for i in range(3))
    together = ops.attention(q, k, v, causal=True).numpy()
    for i in (0, 33, 69):
        alone = ops.attention(q[i : i + 1], k[i : i + 1], v[i : i + 1], causal=True).numpy()
        assert alone.tobytes() == together[i : i + 1].tobytes()


def test_long_sequences_use_bounded_scratch() -> None:
    op = OPS["attention"]
    from seqlib.core.op import Meta

    def scratch(t: int) -> int:
        metas = [Meta((1, t, 8, 64), np.dtype(np.float32))] * 3 + [None] * 5
        attrs = {**op.defaults, "causal": True, "scale": 1.0, "dropout": 0.0, "draw": 0}
        kernel = next(k for k in op.cpu_kernels if k.needs is None and k.scratch is not None and k.serves(metas, attrs))
        assert kernel.scratch is not None
        return sum(m.nbytes for m in kernel.scratch(metas, attrs))

    assert scratch(4096) == scratch(512) <= 1 << 20


def _weights(shape: tuple[int, int, int, int], p: float, packed: bool, generator: Generator) -> Array:
    """The dropped weights themselves: with zero scores and v the identity, y row t is the weights of t."""
    b, t, h, s = shape
    q, k = np.zeros((b, t, h, s), np.float32), np.zeros((b, s, h, s), np.float32)
    v = np.broadcast_to(np.eye(s, dtype=np.float32)[None, :, None], (b, s, h, s))
    with use_generator(generator):
        if packed:
            offsets = np.arange(0, b * t + 1, t, dtype=np.int32), np.arange(0, b * s + 1, s, dtype=np.int32)
            flat = [x.reshape(-1, h, s) for x in (q, k, v)]
            y = ops.attention(*flat, q_offsets=offsets[0], k_offsets=offsets[1], dropout=p)
            return y.numpy().reshape(b, t, h, s).transpose(0, 2, 1, 3)
        return ops.attention(q, k, v, dropout=p).numpy().transpose(0, 2, 1, 3)


def test_dropout_follows_the_counter() -> None:
    p, (b, t, h, s) = 0.3, (3, 5, 2, 7)
    got = _weights((b, t, h, s), p, False, Generator(17))
    bits = philox.bits16(17, 0, 0, b * h * t * s).reshape(b, h, t, s)
    expected = np.where(bits >= philox.keep_threshold(p), philox.keep_scale(p) / s, 0.0)
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    got = _weights((b, t, h, s), p, True, Generator(17))
    stride = -(-b * s // 8) * 8  # a row of the counter is whole blocks
    bits = philox.bits16(17, 0, 0, h * b * t * stride).reshape(h, b, t, stride)[..., :s].transpose(1, 0, 2, 3)
    expected = np.where(bits >= philox.keep_threshold(p), philox.keep_scale(p) / s, 0.0)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_dropout_rate_of_weights() -> None:
    kept = _weights((8, 64, 4, 32), 0.25, False, Generator(3)) != 0.0
    assert abs(kept.mean() - 0.75) < 4 * (0.25 * 0.75 / kept.size) ** 0.5


def test_no_gradient_work_without_need() -> None:
    with no_grad():
        assert ops.attention(*(_draw(1, 2, 1, 4) for _ in range(3))).node is None


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"k": _draw(2, 5, 3, 8)}, ShapeError, "attention: k should be"),
        ({"v": _draw(2, 4, 4, 8)}, ShapeError, "attention: v should be of k's shape"),
        ({"q": _draw(2, 3, 8)}, ShapeError, "attention: q should be [B, T, H, K]"),
        ({"lengths": np.array([1], np.int32)}, ShapeError, "attention: lengths should be [B]"),
        ({"lengths": np.array([1.0, 2.0], np.float32)}, DtypeError, "attention: lengths should be int32 or int64"),
        ({"bias": _draw(5, 2)}, ShapeError, "attention"),
        ({"bias": _draw(2, 4, 3, 5).astype(np.float64)}, DtypeError, "attention: bias should be float32"),
        ({"q_offsets": np.array([0, 3], np.int32)}, ShapeError, "attention: q should be [N, H, K] (with offsets)"),
        ({"v": None}, ShapeError, "attention: v should be given, or packed with kv_heads"),
        ({"v": None, "kv_heads": 3}, ShapeError, "attention: k should be [..., 2·3, K], keys and values"),
        ({"k": None, "v": None, "kv_heads": 2}, ShapeError, "attention: q should be [..., H + 2·2, K]"),
        ({"dropout": 1.5}, UsageError, "attention: dropout should be in [0, 1"),
    ],
)
def test_messages(change: dict[str, Any], error: type[Exception], text: str) -> None:
    arguments = {"q": _draw(2, 3, 4, 8), "k": _draw(2, 5, 4, 8), "v": _draw(2, 5, 4, 8), **change}
    with pytest.raises(error) as caught:
        ops.attention(**arguments)
    assert text in str(caught.value)


def test_offsets_that_fall_are_refused() -> None:
    x = _draw(6, 2, 4)
    for bad in ([0, 4, 3], [1, 3, 6], [0, 3, 7]):
        with pytest.raises(ShapeError, match="q_offsets should start at 0, rise and end at 6"):
            ops.attention(x, x, x, q_offsets=np.array(bad, np.int32))


@pytest.mark.parametrize("rate", [0.0, 0.3])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kernels", ["numba", ""])
def test_packed_segments_of_all_lengths_equal_the_composition(
    monkeypatch: Any, kernels: str, causal: bool, rate: float
) -> None:
    """Short, long, unequal, one-sided and unused segments, over grouped heads, with rows left over at the end."""
    sizes = np.array([(3, 4), (120, 130), (1, 1), (0, 5), (7, 0), (40, 40), (17, 16), (97, 5), (0, 0), (0, 0)])
    offsets = np.concatenate([[[0, 0]], sizes.cumsum(axis=0)]).astype(np.int32)
    n, m = offsets[-1] + 3
    arrays = _draw(n, 4, 8), _draw(m, 2, 8, seed=1), _draw(m, 2, 8, seed=2)
    cotangent = Tensor(_draw(n, 4, 8, seed=3))

    def run() -> list[Array]:
        q, k, v = (tensor(x, requires_grad=True) for x in arrays)
        with use_generator(Generator(4)):
            y = ops.attention(q, k, v, q_offsets=offsets[:, 0], k_offsets=offsets[:, 1], causal=causal, dropout=rate)
            grads = gradients([y], [cotangent], [q, k, v])
        return [y.numpy(), *(g.numpy() for g in grads if g is not None)]

    if kernels:
        pytest.importorskip("numba")
    for op in (OPS["attention"], OPS["attention_bwd"]):
        monkeypatch.setattr(op, "cpu_kernels", [k for k in op.cpu_kernels if (k.needs or "") == kernels])
    found = run()
    monkeypatch.setenv("SEQLIB_KERNELS", "ref")
    for got, expected in zip(found, run(), strict=True):
        np.testing.assert_allclose(got, expected, atol=3e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("sizes", "bias", "options"),
    [
        ((5, 24, 24, 4, 4, 64), (5, 4, 24, 24), {}),
        ((3, 61, 75, 4, 2, 20), (1, 4, 61, 75), {"causal": True, "dropout": 0.3}),
        ((3, 130, 49, 4, 2, 33), (3, 1, 1, 49), {"dropout": 0.1}),
        ((2, 100, 130, 2, 1, 128), (100, 1), {"causal": True}),
        ((40, 10, 17, 2, 2, 16), (2, 1, 1), {"scale": -0.2}),
        ((2, 50, 50, 3, 3, 48), (50,), {"causal": True}),
    ],
)
def test_blocks_and_biases_equal_the_composition_for_any_number_of_threads(
    monkeypatch: Any, sizes: tuple[int, ...], bias: tuple[int, ...], options: dict[str, Any]
) -> None:
    b, t, s, h, own, width = sizes
    arrays = _draw(b, t, h, width), *(_draw(b, s, own, width, seed=i) for i in (1, 2)), _draw(*bias, seed=3)
    lengths = np.random.default_rng(4).integers(0, s + 1, b).astype(np.int32)
    cotangent = Tensor(_draw(b, t, h, width, seed=5))

    def run() -> list[Array]:
        leaves = [tensor(x, requires_grad=True) for x in arrays]
        with use_generator(Generator(6)):
            y = ops.attention(*leaves, lengths=lengths, **options)
            grads = gradients([y], [cotangent], leaves)
        return [y.numpy(), *(g.numpy() for g in grads if g is not None)]

    found = []
    for threads in (1, 2, 3):
        set_threads(threads)
        try:
            found.append(run())
        finally:
            set_threads(None)
    for several in zip(*found, strict=True):
        assert len({x.tobytes() for x in several}) == 1
    monkeypatch.setenv("SEQLIB_KERNELS", "ref")
    for got, expected in zip(found[0], run(), strict=True):
        np.testing.assert_allclose(got, expected, atol=5e-5 * float(np.abs(expected).max() + 1), rtol=1e-5)
