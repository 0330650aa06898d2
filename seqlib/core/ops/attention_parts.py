"""The pieces of attention's composition, and how its arguments may be packed. Letters as in attention.py."""

from typing import Any

from seqlib.core import philox
from seqlib.core.op import Meta
from seqlib.core.ops.create import arange, full
from seqlib.core.ops.elementwise import equal, greater, less, less_equal, logical_and, where
from seqlib.core.ops.index import take
from seqlib.core.ops.matmul import matmul
from seqlib.core.ops.random import random_bits
from seqlib.core.ops.reduce import max, min, sum
from seqlib.core.ops.shape import broadcast_to, reshape, slice_, transpose
from seqlib.core.tensor import Tensor


def unpacked(q: Any, k: Any, v: Any, kv_heads: int) -> tuple[Any, Any, Any]:
    """Views of queries, keys and values, of arrays or tensors as attention takes them: without k and v they lie in
    one buffer q [..., H + 2 Hk, K], without v alone keys and values lie in k [..., 2 Hk, K]. None stays None."""
    if kv_heads == 0:
        return q, k, v
    if k is None:
        first = 0 if q is None else q.shape[-2] - 2 * kv_heads
        bounds = ((q, 0, first), (q, first, first + kv_heads), (q, first + kv_heads, None))
    else:
        bounds = ((q, 0, None), (k, 0, kv_heads), (k, kv_heads, None))
    q, k, v = (x if x is None or (a, b) == (0, None) else x[..., a:b, :] for x, a, b in bounds)
    return q, k, v


def unpacked_metas(q: Meta, k: Meta | None, v: Meta | None, kv_heads: int) -> tuple[Meta, Meta, Meta]:
    """The same for shapes. Without enough heads a part has none."""

    def heads(x: Meta, n: int) -> Meta:
        return Meta((*x.shape[:-2], n, x.shape[-1]), x.dtype)

    if kv_heads == 0 or len(q.shape) < 2:
        assert k is not None and v is not None
        return q, k, v
    if k is None:
        own = heads(q, kv_heads)
        return heads(q, q.shape[-2] - 2 * kv_heads), own, own
    own = heads(k, kv_heads)
    return q, own, own


def packed_stride(keys: int) -> int:
    """The step of the dropout counter from one packed query row to the next: M rounded up to whole Philox
    blocks."""
    return -(-keys // philox.LANES) * philox.LANES


# -- the composition, piece by piece -------------------------------------------------------------------------


def heads_first(x: Tensor, heads: int) -> Tensor:
    """[B,T,Hk,K] or [N,Hk,K] → [B,H,T,K] (B = 1 for packed rows), each key head repeated for its group."""
    b, t, own, width = x.shape if x.ndim == 4 else (1, *x.shape)
    if own != heads:
        x = broadcast_to(reshape(x, (b, t, own, 1, width)), (b, t, own, heads // own, width))
    return transpose(reshape(x, (b, t, heads, width)), (0, 2, 1, 3))


def heads_last(x: Tensor, shape: tuple[int, ...]) -> Tensor:
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


def score_matrix(
    q: Tensor, k: Tensor, bias: Any, lengths: Any, q_offsets: Any, k_offsets: Any, causal: bool, scale: float
) -> Tensor:
    """[B,H,T,S]: the scaled products plus bias; -inf where the key is hidden. q and k are [B,H,·,K]."""
    scores = matmul(q, k, False, True) * scale
    if bias is not None:
        scores = scores + bias
    visible = _visible(q.shape[2], k.shape[2], lengths, q_offsets, k_offsets, causal)
    return scores if visible is None else where(visible, scores, -float("inf"))


def kept_factors(shape: tuple[int, ...], k_offsets: Any, state: Any, rate: float, draw: int, dtype: Any) -> Tensor:
    """The factors of the weights [B,H,T,S]: 0, or the scale of kept ones."""
    _, h, t, s = shape
    if k_offsets is None:
        bits = random_bits(state, shape=shape, draw=draw)
    else:
        _, start, _ = _segments(k_offsets, s)
        bits = reshape(
            take(random_bits(state, shape=(h, t, packed_stride(s)), draw=draw), arange(s) - start, axis=2), shape
        )
    return where(less(bits, philox.keep_threshold(rate)), 0.0, full((), philox.keep_scale(rate), dtype))
