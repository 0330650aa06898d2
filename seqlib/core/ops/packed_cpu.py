"""The numba kernels of attention over short packed segments, for float32: a segment and head at a time, all in
the first-level cache, with products of their own: a call of BLAS for so small a product costs more than it does.

N packed query rows, M packed key rows, H query heads, Hk key heads, K head width; t, s rows and keys of a segment.
Longer segments go through attention_numpy.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from seqlib.core import philox
from seqlib.core.backends.threads import spread
from seqlib.core.op import Attrs
from seqlib.core.ops import attention_numpy
from seqlib.core.ops.attention import packed_stride
from seqlib.core.ops.attention_numpy import Steps
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
def _forward(first, last, q, k, v, bounds, causal, scale, dropout, seed, offset, y, lse):
    """Segments first … last - 1 of bounds int64 [n,4]: their first and end row of queries and of keys."""
    heads, group = q.shape[1], q.shape[1] // k.shape[1]
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
            _products(scores, qs, ks, h, h // group, scale, causal)
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
                _combine(y[a + i, h], scores, i * s, 1, vs, h // group)


@kernel
def _backward(
    first, last, gy, q, k, v, y, lse, bounds, causal, scale, dropout, seed, offset, want, gq, gk, gv
):
    heads, group, width = q.shape[1], q.shape[1] // k.shape[1], q.shape[2]
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
            _products(weights, qs, ks, h, own, scale, causal)
            for i in range(t):
                away = lse[h, a + i]
                for j in range(s):
                    weights[i * s + j] -= away
            _exp(weights)
            _products(slopes, gs, vs, h, own, np.float32(1.0), False)
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
                    _combine(gq[a + i, h], slopes, i * s, 1, ks, own)
            if want_k:
                for j in range(s):
                    _combine(gk[c + j, own], slopes, j, s, qs, h)
            if want_v:
                for j in range(s):
                    _combine(gv[c + j, own], weights, j, s, gs, h)


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


def forward(outs: Any, ins: Any, scratch: Any, *, steps: Steps, **attrs: Any) -> None:
    """The kernel of attention over packed rows."""
    q, k, v, _, _, q_offsets, k_offsets, state = ins
    bounds, long = _split(q_offsets, k_offsets)
    attention_numpy.forward(outs, ins, scratch, steps=steps, segments=long, **attrs)
    lse = np.empty((q.shape[1], len(q)), np.float32) if outs[1] is None else outs[1]
    work = (
        len(bounds) and int(((bounds[:, 1] - bounds[:, 0]) * (bounds[:, 3] - bounds[:, 2])).sum()) * q[0].size
    )
    spread(_forward, len(bounds), work, q, k, v, bounds, *_settings(len(k), state, attrs), outs[0], lse)


def backward(outs: Any, ins: Any, scratch: Any, *, steps: Steps, want_bias: bool, **attrs: Any) -> None:
    """The kernel of attention_bwd over packed rows."""
    gy, q, k, v, y, lse, _, _, q_offsets, k_offsets, state = ins
    bounds, long = _split(q_offsets, k_offsets)
    attention_numpy.backward(outs, ins, scratch, steps=steps, segments=long, want_bias=want_bias, **attrs)
    want = tuple(out is not None for out in outs[:3])
    grads = [np.empty((0, 0, 0), np.float32) if out is None else out for out in outs[:3]]
    work = (
        len(bounds) and int(((bounds[:, 1] - bounds[:, 0]) * (bounds[:, 3] - bounds[:, 2])).sum()) * q[0].size
    )
    settings = _settings(len(k), state, attrs)
    spread(_backward, len(bounds), work, gy, q, k, v, y, lse, bounds, *settings, want, *grads)
