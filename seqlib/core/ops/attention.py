"""Scaled dot-product attention (Vaswani et al. 2017): declaration, gradient and composition. Kernels:
attention_numpy.py.

B batch, T query time, S key time, N packed query rows, M packed key rows, H query heads, Hk key heads (H is a
multiple of Hk: grouped queries, Ainslie et al. 2023), K head width.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from seqlib.core import philox
from seqlib.core.op import (
    Meta,
    Sample,
    VjpContext,
    broadcast_shapes,
    dtype_error,
    fused,
    need_float,
    need_int,
    shape_error,
)
from seqlib.core.ops.blocks import float32_only, same_float, score_scratch
from seqlib.core.ops.create import arange, full, zeros
from seqlib.core.ops.elementwise import equal, exp, greater, less, less_equal, log, logical_and, where
from seqlib.core.ops.index import take
from seqlib.core.ops.matmul import matmul
from seqlib.core.ops.random import need_rate, need_state, random_bits
from seqlib.core.ops.reduce import max, min, sum, sum_to
from seqlib.core.ops.shape import broadcast_to, reshape, slice_, transpose
from seqlib.core.rng import current_generator
from seqlib.core.tensor import Tensor, as_tensor


def packed_stride(keys: int) -> int:
    """The step of the dropout counter from one packed query row to the next: M rounded up to whole Philox
    blocks."""
    return -(-keys // philox.LANES) * philox.LANES


# -- the composition, piece by piece -------------------------------------------------------------------------


def _heads_first(x: Tensor, heads: int) -> Tensor:
    """[B,T,Hk,K] or [N,Hk,K] → [B,H,T,K] (B = 1 for packed rows), each key head repeated for its group."""
    b, t, own, width = x.shape if x.ndim == 4 else (1, *x.shape)
    if own != heads:
        x = broadcast_to(reshape(x, (b, t, own, 1, width)), (b, t, own, heads // own, width))
    return transpose(reshape(x, (b, t, heads, width)), (0, 2, 1, 3))


def _heads_last(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """[B,H,T,K] → `shape` ([B,T,Hk,K] or [N,Hk,K]), summed over the query heads of a group."""
    b, h, t, width = x.shape
    own = shape[-2]
    rows = transpose(x, (0, 2, 1, 3))
    if own != h:
        rows = sum(reshape(rows, (b, t, own, h // own, width)), axis=3)
    return reshape(rows, shape)


def _segments(offsets: Tensor, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """For each packed row: the number of its segment (the count of segments if it is in none), its first row
    and its end."""
    i = reshape(arange(rows), (rows, 1))
    bounds = reshape(offsets, (1, offsets.size))
    ends = slice_(bounds, (0, 1), (1, offsets.size - 1))
    number = sum(less_equal(ends, i), axis=1)
    start = max(where(less_equal(bounds, i), bounds, 0), axis=1)
    end = min(where(greater(bounds, i), bounds, rows), axis=1)
    return number, start, end


def _visible(t: int, s: int, lengths: Any, q_offsets: Any, k_offsets: Any, causal: bool) -> Tensor | None:
    """bool, broadcastable to [B,H,T,S]: which keys a query sees; None for all."""
    conditions: list[Tensor] = []
    if lengths is not None:
        conditions.append(less(reshape(arange(s), (1, 1, 1, s)), reshape(lengths, (lengths.size, 1, 1, 1))))
    if q_offsets is not None:
        q_number, _, q_end = _segments(q_offsets, t)
        k_number, _, k_end = _segments(k_offsets, s)
        q_number, q_end = reshape(q_number, (t, 1)), reshape(q_end, (t, 1))
        conditions.append(logical_and(equal(k_number, q_number), less(q_number, q_offsets.size - 1)))
        if causal:
            conditions.append(less_equal(arange(s) - k_end, reshape(arange(t), (t, 1)) - q_end))
    elif causal:
        conditions.append(less_equal(arange(s), reshape(arange(t), (t, 1)) + (s - t)))
    result = None
    for c in conditions:
        result = c if result is None else logical_and(result, c)
    return result


def _scores(
    q: Tensor, k: Tensor, bias: Any, lengths: Any, q_offsets: Any, k_offsets: Any, causal: bool, scale: float
) -> Tensor:
    """[B,H,T,S]: the scaled products plus bias; -inf where the key is hidden. q and k are [B,H,·,K]."""
    scores = matmul(q, k, False, True) * scale
    if bias is not None:
        scores = scores + bias
    visible = _visible(q.shape[2], k.shape[2], lengths, q_offsets, k_offsets, causal)
    return scores if visible is None else where(visible, scores, -float("inf"))


def _kept(shape: tuple[int, ...], k_offsets: Any, state: Any, rate: float, draw: int, dtype: Any) -> Tensor:
    """The factors of the weights [B,H,T,S]: 0, or the scale of kept ones."""
    _, h, t, s = shape
    if k_offsets is None:
        bits = random_bits(state, shape=shape, draw=draw)
    else:
        _, start, _ = _segments(k_offsets, s)
        bits = reshape(
            take(random_bits(state, shape=(h, t, packed_stride(s)), draw=draw), arange(s) - start, axis=2),
            shape,
        )
    return where(less(bits, philox.keep_threshold(rate)), 0.0, full((), philox.keep_scale(rate), dtype))


# -- the op --------------------------------------------------------------------------------------------------


@fused(outs="y lse", saves="q k v bias lengths q_offsets k_offsets state y lse")
def _attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Any = None,
    lengths: Any = None,
    q_offsets: Any = None,
    k_offsets: Any = None,
    state: Any = None,
    *,
    causal: bool,
    scale: float,
    dropout: float,
    draw: int,
) -> tuple[Tensor, Tensor]:
    heads = q.shape[-2]
    lse_shape = (*q.shape[:-3], heads, q.shape[-3])
    if k.shape[-3] == 0:
        return zeros(q.shape, q.dtype), zeros(lse_shape, q.dtype)
    keys, values = _heads_first(k, heads), _heads_first(v, heads)
    scores = _scores(_heads_first(q, heads), keys, bias, lengths, q_offsets, k_offsets, causal, scale)
    top = max(scores, axis=-1, keepdims=True).detach()
    top = where(equal(top, -float("inf")), 0.0, top)
    weights = exp(scores - top)
    total = sum(weights, axis=-1, keepdims=True)
    blind = equal(total, 0.0)  # a query that sees no key: zeros, and 0 for its lse
    total = where(blind, 1.0, total)
    lse = where(blind, 0.0, top + log(total))
    weights = weights / total
    if dropout:
        weights = weights * _kept(weights.shape, k_offsets, state, dropout, draw, weights.dtype)
    return _heads_last(matmul(weights, values), q.shape), reshape(lse, lse_shape)


@fused(outs="gq gk gv gbias", visible=4, differentiable=False)
def attention_bwd(
    gy: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    y: Tensor,
    lse: Tensor,
    bias: Any = None,
    lengths: Any = None,
    q_offsets: Any = None,
    k_offsets: Any = None,
    state: Any = None,
    *,
    causal: bool,
    scale: float,
    dropout: float,
    draw: int,
    want_bias: bool,
) -> tuple[Tensor, ...]:
    """The gradients of attention (gbias is empty unless `want_bias`). The weights are made again from the
    scores and lse; with P the weights, D the dropout factors and G = gy vᵀ ∘ D: gv = (P ∘ D)ᵀ gy, gs = P ∘ (G
    - Σ gy y), gq = gs k, gk = gsᵀ q."""
    heads = q.shape[-2]
    if k.shape[-3] == 0:
        gbias = zeros(bias.shape if want_bias else (0,), q.dtype)
        return zeros(q.shape, q.dtype), zeros(k.shape, k.dtype), zeros(v.shape, v.dtype), gbias
    queries, keys, values, g = (_heads_first(x, heads) for x in (q, k, v, gy))
    scores = _scores(queries, keys, bias, lengths, q_offsets, k_offsets, causal, scale)
    weights = exp(scores - reshape(lse, (*scores.shape[:3], 1)))
    along = sum(g * _heads_first(y, heads), axis=-1, keepdims=True)
    to_weights = matmul(g, values, False, True)
    dropped = weights
    if dropout:
        kept = _kept(weights.shape, k_offsets, state, dropout, draw, weights.dtype)
        dropped, to_weights = weights * kept, to_weights * kept
    to_scores = weights * (to_weights - along)
    gq = _heads_last(matmul(to_scores, keys) * scale, q.shape)
    gk = _heads_last(matmul(to_scores, queries, True, False) * scale, k.shape)
    gv = _heads_last(matmul(dropped, g, True, False), v.shape)
    return gq, gk, gv, sum_to(to_scores, bias.shape) if want_bias else zeros((0,), q.dtype)


def _check_offsets(q_offsets: Meta | None, k_offsets: Meta | None) -> None:
    if q_offsets is None or k_offsets is None:
        raise shape_error("attention", "k_offsets", "given together with q_offsets", "one without the other")
    for name, m in (("q_offsets", q_offsets), ("k_offsets", k_offsets)):
        need_int("attention", name, m)
        if len(m.shape) != 1 or m.shape[0] < 2 or m.shape != q_offsets.shape:
            raise shape_error("attention", name, "[segments + 1], the same for queries and keys", m.shape)


@_attention.infer
def _(
    q: Meta,
    k: Meta,
    v: Meta,
    bias: Meta | None,
    lengths: Meta | None,
    q_offsets: Meta | None,
    k_offsets: Meta | None,
    state: Meta | None,
    *,
    causal: bool,
    scale: float,
    dropout: float,
    draw: int,
) -> list[Meta]:
    for name, m in (("q", q), ("k", k), ("v", v), ("bias", bias)):
        if m is not None:
            need_float("attention", name, m)
            if m.dtype != q.dtype:
                raise dtype_error("attention", name, f"{q.dtype}, as q", m.dtype)
    packed = q_offsets is not None or k_offsets is not None
    form = "[N, H, K]" if packed else "[B, T, H, K]"
    if len(q.shape) != (3 if packed else 4):
        raise shape_error("attention", "q", f"{form}{' (with offsets)' if packed else ''}", q.shape)
    *_, rows, heads, width = q.shape
    if len(k.shape) != len(q.shape) or k.shape[:-3] != q.shape[:-3] or k.shape[-1] != width:
        raise shape_error("attention", "k", f"{form} with the batch and head width of q {q.shape}", k.shape)
    if k.shape[-2] == 0 or heads % k.shape[-2]:
        raise shape_error("attention", "k", f"with a number of heads that divides the {heads} of q", k.shape)
    if v.shape != k.shape:
        raise shape_error("attention", "v", f"of k's shape {k.shape}", v.shape)
    if packed:
        _check_offsets(q_offsets, k_offsets)
        for name, m in (("bias", bias), ("lengths", lengths)):
            if m is not None:
                raise shape_error(
                    "attention", name, "absent with packed rows, whose offsets bound the keys", m.shape
                )
    elif lengths is not None:
        need_int("attention", "lengths", lengths)
        if lengths.shape != q.shape[:1]:
            raise shape_error("attention", "lengths", f"[B] = {q.shape[:1]}", lengths.shape)
    if bias is not None:
        full = (q.shape[0], heads, rows, k.shape[1])
        if broadcast_shapes("attention", bias.shape, full) != full:
            raise shape_error("attention", "bias", f"broadcastable to [B, H, T, S] = {full}", bias.shape)
    if dropout:
        if state is None:
            raise shape_error("attention", "state", "given when there is dropout", None)
        need_state("attention", state)
    return [q, Meta((*q.shape[:-3], heads, rows), q.dtype)]


@attention_bwd.infer
def _(*metas: Any, want_bias: bool, **attrs: Any) -> list[Meta]:
    _, q, k, v, _, _, bias = metas[:7]
    return [q, k, v, bias if want_bias else Meta((0,), q.dtype)]


def _product_flops(q: Meta, k: Meta) -> int:
    """Of one product over all scores; 0 for packed rows, where it depends on the offsets."""
    return 2 * q.size * k.shape[1] if len(q.shape) == 4 else 0


_attention.flops(lambda q, k, *_, **attrs: 2 * _product_flops(q, k))
attention_bwd.flops(lambda gy, q, k, *_, **attrs: 5 * _product_flops(q, k))  # the scores are made again


@_attention.vjp
def _(ctx: VjpContext, gy: Tensor) -> Sequence[Any]:
    q, k, v, *rest = ctx.inputs
    grads = attention_bwd(gy, q, k, v, *ctx.outputs, *rest, **ctx.attrs, want_bias=ctx.needs[3])
    return *grads[:3], grads[3] if ctx.needs[3] else None, None, None, None, None


_attention.cpu(
    "attention_numpy:forward",
    when=same_float(0, 1, 2, 3),
    scratch=lambda metas, attrs: score_scratch(1, metas[0], metas[1]),  # type: ignore[arg-type]
)
attention_bwd.cpu(
    "attention_numpy:backward",
    when=same_float(0, 1, 2, 3, 6),
    scratch=lambda metas, attrs: score_scratch(2, metas[1], metas[2]),  # type: ignore[arg-type]
)
_attention.cpu(
    "attention_cpu:forward",
    needs="numba",
    when=float32_only(0, 1, 2, 3),
    scratch=lambda metas, attrs: score_scratch(1, metas[0], metas[1]),  # type: ignore[arg-type]
)
attention_bwd.cpu(
    "attention_cpu:backward",
    needs="numba",
    when=float32_only(0, 1, 2, 3, 6),
    scratch=lambda metas, attrs: score_scratch(2, metas[1], metas[2]),  # type: ignore[arg-type]
)

# -- samples -------------------------------------------------------------------------------------------------

_PLAIN = {"causal": False, "scale": 0.4, "dropout": 0.0, "draw": 0}


def _padded(b: int, t: int, s: int, h: int, own: int, k: int, seed: int = 0) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [
        rng.normal(size=shape).astype(np.float32) for shape in ((b, t, h, k), (b, s, own, k), (b, s, own, k))
    ]


def _cases() -> Iterable[tuple[tuple[Any, ...], dict[str, Any]]]:
    rng = np.random.default_rng(7)
    state = np.array([5, 9], np.int64)

    def bias(*shape: int) -> Any:
        return rng.normal(size=shape).astype(np.float32)

    yield tuple(_padded(2, 3, 5, 4, 4, 3)), _PLAIN
    yield (*_padded(2, 5, 5, 3, 3, 7), None, np.array([3, 0], np.int32)), {**_PLAIN, "causal": True}
    yield (
        (*_padded(3, 2, 6, 4, 2, 3), bias(1, 4, 1, 6), np.array([6, 1, 4], np.int32)),
        {**_PLAIN, "causal": True},
    )
    yield (
        (*_padded(2, 4, 3, 2, 1, 5), bias(4, 3), None, None, None, state),
        {**_PLAIN, "dropout": 0.3, "draw": 1},
    )
    yield (*_padded(1, 3, 1023, 2, 2, 5), bias(1, 1, 3, 1023), np.array([1000], np.int32)), _PLAIN
    yield (
        (*_padded(1, 600, 300, 1, 1, 3), None, None, None, None, state),
        {**_PLAIN, "dropout": 0.1, "causal": True},
    )
    yield tuple(_padded(0, 3, 5, 2, 2, 3)), _PLAIN
    yield tuple(_padded(2, 3, 0, 2, 2, 3)), _PLAIN
    q, k, v = (x[0] for x in _padded(1, 11, 13, 4, 2, 3))
    q_offsets, k_offsets = np.array([0, 4, 4, 7, 10], np.int32), np.array([0, 6, 8, 8, 12], np.int32)
    yield (q, k, v, None, None, q_offsets, k_offsets), _PLAIN
    yield (q, k, v, None, None, q_offsets, k_offsets, state), {**_PLAIN, "causal": True, "dropout": 0.4}


@_attention.samples
def _() -> Iterable[Sample]:
    for inputs, attrs in _cases():
        yield Sample((*inputs, *[None] * (8 - len(inputs))), attrs)


@attention_bwd.samples
def _() -> Iterable[Sample]:
    for inputs, attrs in _cases():
        with np.errstate(all="ignore"):
            given = [None if x is None else as_tensor(x) for x in inputs]
            y, lse = (t.numpy() for t in _attention.fn(*given, **attrs))
        gy = np.random.default_rng(8).normal(size=y.shape).astype(np.float32)
        rest = (*inputs[3:], *[None] * (8 - len(inputs)))
        yield Sample((gy, *inputs[:3], y, lse, *rest), {**attrs, "want_bias": rest[0] is not None})


# -- the public function -------------------------------------------------------------------------------------


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None = None,
    lengths: Tensor | None = None,
    q_offsets: Tensor | None = None,
    k_offsets: Tensor | None = None,
    *,
    causal: bool = False,
    scale: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """softmax(scale · q kᵀ + bias) v for each head (Vaswani et al. 2017).

    Padded: q [B,T,H,K], k and v [B,S,Hk,K] → [B,T,H,K]; `lengths` int [B] hides the keys from lengths[b] on;
    `bias` broadcasts to [B,H,T,S]. Packed: q [N,H,K], k and v [M,Hk,K] → [N,H,K], where `q_offsets` and
    `k_offsets` int [segments + 1] start at 0 and rise; row i of a segment sees that segment's keys alone;
    rows after the last offset see nothing. k_offsets defaults to q_offsets. H is a multiple of Hk (query head
    h reads key head h // (H / Hk)). `causal`: key j is visible to query i iff j ≤ i + S - T (for packed rows,
    within the segment and with its lengths), so that the last query sees every key. A query that sees no key
    gives zeros. `scale` defaults to K**-0.5. `dropout` zeroes weights at that rate by the generator in force.

    Raises ShapeError and DtypeError that name the argument; UsageError for a dropout outside [0, 1).
    """
    q = as_tensor(q)
    if q_offsets is not None and k_offsets is None:
        k_offsets = q_offsets
    rate = need_rate("attention", "dropout", dropout)
    state, draw = None, 0
    if philox.keep_threshold(rate) == 0:
        rate = 0.0
    else:
        state, draw = current_generator().draw()
    factor = (
        float(scale) if scale is not None else float(q.shape[-1]) ** -0.5 if q.ndim and q.shape[-1] else 1.0
    )
    attrs = {"causal": bool(causal), "scale": factor, "dropout": rate, "draw": draw}
    return _attention(q, k, v, bias, lengths, q_offsets, k_offsets, state, **attrs)
