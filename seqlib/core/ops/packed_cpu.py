"""The numba kernels of attention over short packed segments, for float32: a segment and head at a time, all in
the first-level cache, with products of their own: a call of BLAS for so small a product costs more than it does.

N packed query rows, M packed key rows, H query heads, Hk key heads, K head width; t, s rows and keys of a segment.
Longer segments go through attention_numpy.py. q, k and v may be one buffer: `places` are the numbers of their first
heads in it, so that the kernels see whole arrays, which they are fastest with.
"""

from typing import Any

import numpy as np

from seqlib.core import philox
from seqlib.core.backends.threads import spread
from seqlib.core.op import Attrs
from seqlib.core.ops import attention_numpy
from seqlib.core.ops.attention_numpy import Steps
from seqlib.core.ops.attention_parts import packed_stride
from seqlib.core.ops.jit_cpu import exp32, kernel
from seqlib.core.ops.random import seed_offset

_SHORT = 96
"""Longest side of a segment that is done here."""


@kernel
def _exp(values):
    for i in range(values.size):
        values[i] = exp32(values[i])


@kernel
def _products(scores, a, b, head, of, scale, causal):
    """scores [t,s] = scale · a [t,·,K] b [s,·,K]ᵀ for head `head` of a and `of` of b; what is hidden is -inf."""
    t, s, width = a.shape[0], b.shape[0], a.shape[2]
    shift = s - t
    for i in range(t):
        n = max(0, min(s, i + shift + 1)) if causal else s
        row = scores[i * s : i * s + s]
        whole = n - n % 4
        x = a[i, head]
        for j in range(0, whole, 4):
            b0, b1, b2, b3 = b[j, of], b[j + 1, of], b[j + 2, of], b[j + 3, of]
            c0 = c1 = c2 = c3 = np.float32(0.0)
            for c in range(width):
                c0 += x[c] * b0[c]
                c1 += x[c] * b1[c]
                c2 += x[c] * b2[c]
                c3 += x[c] * b3[c]
            row[j], row[j + 1], row[j + 2], row[j + 3] = c0 * scale, c1 * scale, c2 * scale, c3 * scale
        for j in range(whole, n):
            b0 = b[j, of]
            c0 = np.float32(0.0)
            for c in range(width):
                c0 += x[c] * b0[c]
            row[j] = c0 * scale
        for j in range(n, s):
            row[j] = -np.inf


@kernel
def _combine(out, weights, start, step, rows, head):
    """out [K] += Σ_i weights[start + i·step] rows[i, head]."""
    n, width = rows.shape[0], rows.shape[2]
    whole = n - n % 4
    for i in range(0, whole, 4):
        at = start + i * step
        w0, w1, w2, w3 = weights[at], weights[at + step], weights[at + 2 * step], weights[at + 3 * step]
        r0, r1, r2, r3 = rows[i, head], rows[i + 1, head], rows[i + 2, head], rows[i + 3, head]
        for c in range(width):
            out[c] += w0 * r0[c] + w1 * r1[c] + (w2 * r2[c] + w3 * r3[c])
    for i in range(whole, n):
        w0, r0 = weights[start + i * step], rows[i, head]
        for c in range(width):
            out[c] += w0 * r0[c]


@kernel
def _factors(out, t, s, first_row, seed, offset, threshold, keep_scale, stride):
    """The dropout factors [t,s] of a segment and head: a row's counters begin at its number times `stride`."""
    mask, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    lanes = np.empty(8, np.uint16)
    for i in range(t):
        first_block = np.uint64(first_row + i) * np.uint64(stride // 8)
        for block in range((s + 7) // 8):
            b = first_block + np.uint64(block)
            x0, x1, x2, x3 = b & mask, b >> half, offset & mask, offset >> half
            k0, k1 = seed & mask, seed >> half
            for _ in range(10):
                p0, p1 = x0 * np.uint64(0xD2511F53), x2 * np.uint64(0xCD9E8D57)
                x0, x1 = (p1 >> half) ^ x1 ^ k0, p1 & mask
                x2, x3 = (p0 >> half) ^ x3 ^ k1, p0 & mask
                k0, k1 = (k0 + np.uint64(0x9E3779B9)) & mask, (k1 + np.uint64(0xBB67AE85)) & mask
            lanes[0], lanes[1] = np.uint16(x0 & np.uint64(0xFFFF)), np.uint16(x0 >> np.uint64(16))
            lanes[2], lanes[3] = np.uint16(x1 & np.uint64(0xFFFF)), np.uint16(x1 >> np.uint64(16))
            lanes[4], lanes[5] = np.uint16(x2 & np.uint64(0xFFFF)), np.uint16(x2 >> np.uint64(16))
            lanes[6], lanes[7] = np.uint16(x3 & np.uint64(0xFFFF)), np.uint16(x3 >> np.uint64(16))
            at = i * s + block * 8
            for j in range(min(8, s - block * 8)):
                out[at + j] = keep_scale if lanes[j] >= threshold else np.float32(0.0)


@kernel
def _forward(first, last, q, k, v, places, bounds, causal, scale, dropout, seed, offset, y, lse):
    """Segments first … last - 1 of bounds int64 [n,4]: their first and end row of queries and of keys."""
    heads, group, q_at, k_at, v_at = places
    threshold, keep_scale, stride = dropout
    largest = 0
    for number in range(first, last):
        a, b, c, d = bounds[number]
        largest = max(largest, (b - a) * (d - c))
    room, factors = np.empty(largest, np.float32), np.empty(largest if threshold else 0, np.float32)
    for number in range(first, last):
        a, b, c, d = bounds[number]
        t, s = b - a, d - c
        scores = room[: t * s]
        qs, ks, vs = q[a:b], k[c:d], v[c:d]
        for h in range(heads):
            _products(scores, qs, ks, q_at + h, k_at + h // group, scale, causal)
            for i in range(t):
                row = scores[i * s : i * s + s]
                top = np.float32(-np.inf)
                for j in range(s):
                    top = row[j] if row[j] > top else top
                top = top if top > -np.inf else np.float32(0.0)
                for j in range(s):
                    row[j] -= top
                lse[h, a + i] = top
            _exp(scores)
            if threshold:
                row_number = h * q.shape[0] + a
                _factors(factors, t, s, row_number, seed, offset, threshold, keep_scale, stride)
            for i in range(t):
                row = scores[i * s : i * s + s]
                total = np.float32(0.0)
                for j in range(s):
                    total += row[j]
                total = total if total != 0.0 else np.float32(1.0)
                lse[h, a + i] += np.log(total)
                factor = np.float32(1.0) / total
                if threshold:
                    for j in range(s):
                        row[j] *= factor * factors[i * s + j]
                else:
                    for j in range(s):
                        row[j] *= factor
                _combine(y[a + i, h], scores, i * s, 1, vs, v_at + h // group)


@kernel
def _backward(first, last, gy, q, k, v, y, lse, places, bounds, causal, scale, dropout, seed, offset, want, gq, gk, gv):
    heads, group, q_at, k_at, v_at = places
    width = q.shape[2]
    threshold, keep_scale, stride = dropout
    want_q, want_k, want_v = want
    largest = 0
    for number in range(first, last):
        a, b, c, d = bounds[number]
        largest = max(largest, (b - a) * (d - c))
    rooms, factors = np.empty((2, largest), np.float32), np.empty(largest if threshold else 0, np.float32)
    for number in range(first, last):
        a, b, c, d = bounds[number]
        t, s = b - a, d - c
        weights, slopes = rooms[0, : t * s], rooms[1, : t * s]
        gs, qs, ks, vs = gy[a:b], q[a:b], k[c:d], v[c:d]
        for h in range(heads):
            own = h // group
            _products(weights, qs, ks, q_at + h, k_at + own, scale, causal)
            for i in range(t):
                away = lse[h, a + i]
                for j in range(s):
                    weights[i * s + j] -= away
            _exp(weights)
            _products(slopes, gs, vs, h, v_at + own, np.float32(1.0), False)
            if threshold:
                row_number = h * q.shape[0] + a
                _factors(factors, t, s, row_number, seed, offset, threshold, keep_scale, stride)
            for i in range(t):
                along, g, out = np.float32(0.0), gs[i, h], y[a + i, h]
                for c_ in range(width):
                    along += g[c_] * out[c_]
                if threshold:
                    for j in range(i * s, i * s + s):
                        slopes[j] = weights[j] * (slopes[j] * factors[j] - along) * scale
                        weights[j] *= factors[j]
                else:
                    for j in range(i * s, i * s + s):
                        slopes[j] = weights[j] * (slopes[j] - along) * scale
            if want_q:
                for i in range(t):
                    _combine(gq[a + i, q_at + h], slopes, i * s, 1, ks, k_at + own)
            if want_k:
                for j in range(s):
                    _combine(gk[c + j, k_at + own], slopes, j, s, qs, q_at + h)
            if want_v:
                for j in range(s):
                    _combine(gv[c + j, v_at + own], weights, j, s, gs, h)


def _split(q_offsets: Any, k_offsets: Any) -> tuple[Any, Any]:
    """(bounds int64 [n,4] of the short segments, numbers of the long ones); empty ones are left out."""
    a, c = (offsets.astype(np.int64) for offsets in (q_offsets, k_offsets))
    bounds = np.stack([a[:-1], a[1:], c[:-1], c[1:]], axis=1)
    sizes = bounds[:, 1::2] - bounds[:, ::2]
    used = (sizes > 0).all(axis=1)
    short = (sizes <= _SHORT).all(axis=1)
    return bounds[used & short], np.flatnonzero(used & ~short)


def _settings(keys: int, state: Any, attrs: Attrs) -> tuple[Any, ...]:
    """(causal, scale, (threshold, scale of kept, stride), seed, offset) for the kernels."""
    rate = attrs["dropout"]
    seed, offset = seed_offset(state, attrs["draw"]) if rate else (0, 0)
    dropout = philox.keep_threshold(rate), np.float32(philox.keep_scale(rate)), packed_stride(keys)
    return attrs["causal"], np.float32(attrs["scale"]), dropout, np.uint64(seed), np.uint64(offset)


def _buffers(arrays: Any, given: Any, kv_heads: int) -> list[Any]:
    """The arrays that queries, keys and values lie in, where `given` are the op's q, k and v."""
    chosen = (0, 0, 0) if given[1] is None else (0, 1, 1) if kv_heads else (0, 1, 2)
    return [arrays[i] for i in chosen]


def _places(q: Any, k: Any, kv_heads: int) -> tuple[int, int, int, int, int]:
    """Query heads, their number for each key head, and the first head of queries, keys and values."""
    if k is None:
        heads = q.shape[1] - 2 * kv_heads
        return heads, heads // kv_heads, 0, heads, heads + kv_heads
    own = kv_heads or k.shape[1]
    return q.shape[1], q.shape[1] // own, 0, 0, kv_heads


def _work(bounds: Any, size: int) -> int:
    return int(((bounds[:, 1] - bounds[:, 0]) * (bounds[:, 3] - bounds[:, 2])).sum()) * size


def forward(outs: Any, ins: Any, scratch: Any, *, steps: Steps, kv_heads: int, **attrs: Any) -> None:
    """The kernel of attention over packed rows."""
    *arrays, _, _, q_offsets, k_offsets, state = ins
    bounds, long = _split(q_offsets, k_offsets)
    attention_numpy.forward(outs, ins, scratch, steps=steps, segments=long, kv_heads=kv_heads, **attrs)
    places = _places(arrays[0], arrays[1], kv_heads)
    q, k, v = (np.ascontiguousarray(x) for x in _buffers(arrays, arrays, kv_heads))
    lse = np.empty((places[0], len(q)), np.float32) if outs[1] is None else outs[1]
    settings = _settings(len(k), state, attrs)
    spread(_forward, len(bounds), _work(bounds, outs[0][0].size), q, k, v, places, bounds, *settings, outs[0], lse)


def backward(outs: Any, ins: Any, scratch: Any, *, steps: Steps, want_bias: bool, kv_heads: int, **attrs: Any) -> None:
    """The kernel of attention_bwd over packed rows."""
    gy, *arrays, y, lse, _, _, q_offsets, k_offsets, state = ins
    bounds, long = _split(q_offsets, k_offsets)
    attrs["kv_heads"] = kv_heads
    attention_numpy.backward(outs, ins, scratch, steps=steps, segments=long, want_bias=want_bias, **attrs)
    places = _places(arrays[0], arrays[1], kv_heads)
    q, k, v = (np.ascontiguousarray(x) for x in _buffers(arrays, arrays, kv_heads))
    found = _buffers(outs, arrays, kv_heads)
    want = tuple(out is not None for out in found)
    grads = [np.empty((0, 0, 0), np.float32) if out is None else out for out in found]
    gy, y, lse = (np.ascontiguousarray(x) for x in (gy, y, lse))
    settings = _settings(len(k), state, attrs)
    spread(
        _backward, len(bounds), _work(bounds, y[0].size), gy, q, k, v, y, lse, places, bounds, *settings, want, *grads
    )
