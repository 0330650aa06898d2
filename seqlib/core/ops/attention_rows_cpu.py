"""The numba kernel of attention without gradients, for float32: steps of decoding are done here, other sentences as
with gradients; see attention_rows_numpy.py."""

from typing import Any

import numpy as np

from seqlib.core.backends.threads import spread
from seqlib.core.ops import attention_cpu
from seqlib.core.ops import vectors_cpu as v_
from seqlib.core.ops.jit_cpu import exp32, kernel

_NO_BIAS, _NO_LSE = np.empty((0, 0, 0, 0), np.float32), np.empty((0, 0, 0), np.float32)


_STEP = 8
"""With fewer queries than this and than keys, as in a step of decoding, keys are read where they lie, those alone that
a query sees. Never so over a sentence itself, which has as many queries as keys or more: however it is padded, its
products add up in one order."""


@v_.function
def _eight(b, query, width, keys, step, which, out):
    """The products of a query with 8 keys, `step` bytes apart, by their numbers `which`."""
    to, vector = v_.places(b, v_.FLOATS, 8), 4 * v_.LANES
    rows = [v_.at(b, keys, (v_.load(b, v_.at(b, which, (i, 8)), v_.LONG), step)) for i in range(8)]
    for place in to:
        b.store(v_.zeros(v_.FLOATS), place)

    def add(i: Any, mask: Any = None) -> None:
        left = v_.load(b, v_.at(b, query, (i, vector)), v_.FLOATS, mask)
        for row, place in zip(rows, to, strict=True):
            v_.multiply_add(b, left, v_.load(b, v_.at(b, row, (i, vector)), v_.FLOATS, mask), place)

    v_.over(b, width, add)
    v_.store(b, v_.sums(b, [b.load(place) for place in to]), out)


@kernel
def _visible(added, n, which):
    """The keys below n whose bias is not -inf into `which`, the last once more until there are 8 more; how many."""
    count, one = 0, added.size == 1
    for j in range(n):
        which[count] = j
        count += 1 if added[0 if one else j] != -np.inf else 0
    which[count : count + 8] = which[max(count - 1, 0)]
    return count


@kernel
def _weigh(row, v, b, own, which, factor, out):
    """The sum of the values v[b, which, own] [n, K] by the weights row [n] · factor, into out [K]."""
    n, width = row.size, out.size
    out[:] = 0.0
    whole = n - n % 4
    for j in range(0, whole, 4):
        w0, w1, w2, w3 = row[j] * factor, row[j + 1] * factor, row[j + 2] * factor, row[j + 3] * factor
        v0, v1 = v[b, which[j], own], v[b, which[j + 1], own]
        v2, v3 = v[b, which[j + 2], own], v[b, which[j + 3], own]
        for c in range(width):
            out[c] += w0 * v0[c] + w1 * v1[c] + w2 * v2[c] + w3 * v3[c]
    for j in range(whole, n):
        w0, v0 = row[j] * factor, v[b, which[j], own]
        for c in range(width):
            out[c] += w0 * v0[c]


@kernel
def _heads(first, last, sentences, q, k, k_head, v, v_head, own_heads, bias, lengths, shift, scale, y, lse):
    """Key heads first … last - 1 of all key heads of some `sentences`; key j is hidden from query t when
    j >= t + shift. The queries are the first heads of q, keys start at k_head, values at v_head."""
    times, heads, width = y.shape[1], y.shape[2], y.shape[3]
    group = heads // own_heads
    room = np.empty(k.shape[1] + 8, np.float32)
    every, some = np.minimum(np.arange(k.shape[1] + 8), k.shape[1] - 1), np.empty(k.shape[1] + 8, np.int64)
    end_b, end_h, end_t, end_s = bias.shape[0] - 1, bias.shape[1] - 1, bias.shape[2] - 1, bias.shape[3] - 1
    for i in range(first, last):
        b, own = sentences[i // own_heads], i % own_heads
        key = k[b, 0, k_head + own]
        for h in range(own * group, (own + 1) * group):
            for t in range(times):
                n, which, query = max(0, min(lengths[b], t + shift)), every, q[b, t, h]
                added = bias[min(b, end_b), min(h, end_h), min(t, end_t)] if bias.size else room[:0]
                if bias.size:
                    n, which = _visible(added, n, some), some
                row = room[:n]
                for j in range(0, n, 8):
                    _eight(
                        query.ctypes.data, width, key.ctypes.data, k.strides[1],
                        which[j:].ctypes.data, room[j:].ctypes.data,
                    )  # fmt: skip
                top = np.float32(-np.inf)
                if bias.size:
                    for j in range(n):
                        row[j] = row[j] * scale + added[min(which[j], end_s)]
                else:
                    for j in range(n):
                        row[j] *= scale
                for j in range(n):
                    top = row[j] if row[j] > top else top
                top = top if top > -np.inf else np.float32(0.0)
                total = np.float32(0.0)
                for j in range(n):
                    row[j] = exp32(row[j] - top)
                for j in range(n):
                    total += row[j]
                total = total if total != 0.0 else np.float32(1.0)
                _weigh(row, v, b, v_head + own, which, np.float32(1.0) / total, y[b, t, h])
                if lse.size:
                    lse[b, h, t] = top + np.log(total)


def forward(outs: Any, ins: Any, scratch: Any, *, causal: bool, scale: float, kv_heads: int = 0, **_: Any) -> None:
    """The kernel of attention over padded rows, without dropout."""
    q, k, v, bias, lengths = ins[:5]
    y, lse = outs
    b, t, s = len(q), q.shape[1], ins[0 if ins[1] is None else 1].shape[1]
    lengths = np.full(b, s, np.int32) if lengths is None else np.minimum(lengths, s)
    step = t < np.minimum(lengths, _STEP)
    if not step.all():
        attrs = {"causal": causal, "scale": scale, "kv_heads": kv_heads, "dropout": 0.0, "draw": 0}
        attention_cpu.forward(outs, ins, scratch, **attrs, chosen=np.flatnonzero(~step))
    if not step.any():
        return
    sentences = np.flatnonzero(step)
    k_head, v_head, own = 0, 0, kv_heads
    if kv_heads == 0:
        own = k.shape[2]
    elif k is None:
        k, v = q, q
        k_head, v_head = q.shape[2] - 2 * kv_heads, q.shape[2] - kv_heads
    else:
        v, v_head = k, kv_heads
    bias = _NO_BIAS if bias is None else bias.reshape((1,) * (4 - bias.ndim) + bias.shape)
    shift = s - t + 1 if causal else s
    lse = _NO_LSE if lse is None else lse
    heads = q, k, k_head, v, v_head, own
    work = y[0].size * s * len(sentences) // 4
    spread(_heads, len(sentences) * own, work, sentences, *heads, bias, lengths, shift, np.float32(scale), y, lse)
