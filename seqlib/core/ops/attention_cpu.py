"""The numba kernels of attention: those of attention_numpy.py with the steps between the products in one pass
each."""

from typing import Any

import numpy as np

from seqlib.core.backends.threads import spread
from seqlib.core.ops import attention_numpy, packed_cpu
from seqlib.core.ops.attention_numpy import Index, Problem, Steps
from seqlib.core.ops.jit_cpu import exp32, kernel, largest
from seqlib.core.ops.random_cpu import keep_mask

_ALL = np.empty((0, 0), np.bool_)
"""Stands for a mask that keeps everything."""


@kernel
def _exp_rows(rows):
    # All rows as one: rows of a few dozen keys are too short for vector loops of their own.
    flat = rows.reshape(-1)
    for i in range(flat.size):
        flat[i] = exp32(flat[i])


@kernel
def _normalise(first, last, s, scale, lengths, per_sentence, times, shift, kept, keep_scale, lse):
    for r in range(first, last):
        n = max(0, min(lengths[r // per_sentence], r % times + shift))
        row = s[r, :n]
        top = largest(row)
        top = top * scale if top > -np.inf else np.float32(0.0)
        for j in range(n):
            row[j] = row[j] * scale - top
        s[r, n:] = -np.inf
        lse[r] = top
    _exp_rows(s[first:last])
    for r in range(first, last):
        row = s[r]
        total = np.float32(0.0)
        for j in range(row.size):
            total += row[j]
        total = total if total != 0.0 else np.float32(1.0)
        lse[r] += np.log(total)
        factor = keep_scale / total
        if kept.size:
            keep = kept[r]
            for j in range(row.size):
                row[j] *= factor if keep[j] else np.float32(0.0)
        else:
            for j in range(row.size):
                row[j] *= factor


@kernel
def _weights(first, last, s, scale, lengths, per_sentence, times, shift, lse):
    for r in range(first, last):
        n = max(0, min(lengths[r // per_sentence], r % times + shift))
        row, away = s[r, :n], lse[r]
        for j in range(n):
            row[j] = row[j] * scale - away
        s[r, n:] = -np.inf
    _exp_rows(s[first:last])


@kernel
def _drop(first, last, w, kept, keep_scale, out):
    for r in range(first, last):
        row, keep, to = w[r], kept[r], out[r]
        for j in range(row.size):
            to[j] = row[j] * (keep_scale if keep[j] else np.float32(0.0))


@kernel
def _to_scores(first, last, d, w, along, kept, keep_scale):
    for r in range(first, last):
        row, weight, away = d[r], w[r], along[r]
        if kept.size:
            keep = kept[r]
            for j in range(row.size):
                row[j] = weight[j] * (row[j] * (keep_scale if keep[j] else np.float32(0.0)) - away)
        else:
            for j in range(row.size):
                row[j] = weight[j] * (row[j] - away)


def _rows(s: Any) -> Any:
    return s.reshape(-1, s.shape[-1])


def _limits(p: Problem, at: Index, s: Any) -> tuple[Any, ...]:
    """What tells a row how many keys it sees: (scale, lengths, rows a sentence, rows a head, shift). The bias
    is added here."""
    b, keys = at[0], p.dims[4]
    scale = p.scale
    if p.bias is not None or scale < 0.0:  # the kernel takes the largest product for the largest score
        np.multiply(s, scale, out=s)
        scale = 1.0
    if p.bias is not None:
        np.add(s, p.bias[at], out=s)
    lengths = np.full(len(s), keys, np.int64)
    if p.lengths is not None:
        np.minimum(lengths, p.lengths[b], out=lengths, casting="unsafe")
    per_sentence = s[0].size // keys
    shift = at[3].start + keys - p.dims[3] + 1 if p.causal else keys
    return np.float32(scale), lengths, per_sentence, s.shape[3], shift


def _normalise_block(p: Problem, at: Index, s: Any, lse: Any, kept: Any) -> None:
    rows = _rows(s)
    found = np.empty(len(rows), np.float32)
    mask, factor = (_ALL, 1.0) if kept is None else (_rows(kept), p.keep_scale)
    limits = _limits(p, at, s)
    spread(_normalise, len(rows), rows.size, rows, *limits, mask, np.float32(factor), found)
    if lse is not None:
        lse[...] = found.reshape(lse.shape)


def _weights_block(p: Problem, at: Index, w: Any, lse: Any) -> None:
    rows = _rows(w)
    spread(_weights, len(rows), rows.size, rows, *_limits(p, at, w), np.ascontiguousarray(lse).reshape(-1))


def _drop_block(w: Any, kept: Any, keep_scale: float, out: Any) -> None:
    rows = _rows(w)
    spread(_drop, len(rows), rows.size, rows, _rows(kept), np.float32(keep_scale), _rows(out))


def _to_scores_block(d: Any, w: Any, along: Any, kept: Any, keep_scale: float) -> None:
    rows = _rows(d)
    mask = _ALL if kept is None else _rows(kept)
    spread(_to_scores, len(rows), rows.size, rows, _rows(w), along.reshape(-1), mask, np.float32(keep_scale))


STEPS = Steps(_normalise_block, _weights_block, _drop_block, _to_scores_block, keep_mask)


def forward(outs: Any, ins: Any, scratch: Any, **attrs: Any) -> None:
    """The kernel of attention."""
    kernels = attention_numpy if ins[5] is None else packed_cpu
    kernels.forward(outs, ins, scratch, steps=STEPS, **attrs)


def backward(outs: Any, ins: Any, scratch: Any, **attrs: Any) -> None:
    """The kernel of attention_bwd."""
    kernels = attention_numpy if ins[8] is None else packed_cpu
    kernels.backward(outs, ins, scratch, steps=STEPS, **attrs)
