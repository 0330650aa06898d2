"""The numba kernels of attention, for float32: sentence by sentence (or packed segment) and head by head, a block of
queries at a time, all in the caches.

Keys and values are copied once a head, turned for products over the width. The scores of a block are made, weighed
and multiplied with the values (backward: with keys, queries and cotangents) while they are there. Letters as in
attention.py. What a query gets does not depend on other queries, nor on keys that it does not see: sums are added up
key by key, or over lanes of which hidden keys have zeros.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from seqlib.core import philox
from seqlib.core.backends.threads import spread
from seqlib.core.ops.attention_parts import packed_stride, unpacked
from seqlib.core.ops.jit_cpu import exact, philox_block
from seqlib.core.ops.packed_numpy import check_offsets
from seqlib.core.ops.random import seed_offset
from seqlib.core.ops.tiles_cpu import ROWS, VECTOR, add_to, deliver, expect, fetch, product, slopes, soften, turn
from seqlib.core.ops.vectors_cpu import LANES

_BLOCK = 4 * ROWS
"""Queries that are done together."""


@exact
def _seen(n, row, shift):
    return max(0, min(n, row + shift))


@exact
def _lines(n):
    """Whole vectors of n numbers, and the bytes of a row of them: not a power of two, or rows would meet in one set of
    the cache."""
    return -(-n // LANES), -(-n // LANES) * VECTOR + 64


@exact
def _draw(rows, keys, at, per_row, seed, offset, blocks, words):
    """The draws of a block's rows, whose elements begin at number `at`; the bytes of a row's."""
    size = (keys + 14) // 8
    for r in range(rows):
        for j in range(size):
            blocks[r * size + j] = (at + r * per_row) // 8 + j
    pairs = words.view(np.uint64)
    for j in range(-(-rows * size // 8) * 8):
        pairs[2 * j], pairs[2 * j + 1] = philox_block(blocks[j], seed, offset)
    return 16 * size


@exact
def _draws_of(words, line, r, at, per_row):
    return words.ctypes.data + r * line + 2 * ((at + r * per_row) % 8) if line else 0


@exact
def _at(x, i, t, h):
    """Where a row lies in an array (address, bytes from sentence to sentence, from row to row, from head to head)."""
    return x[0] + i * x[1] + t * x[2] + h * x[3] if x[0] else 0


@exact
def _forward(first, last, problems, heads, q, k, v, bias, dropout, y, lse, numbers, room, facts, blocks, words):
    """Key heads first … last - 1 of all problems' key heads. Arrays as in _at; rows of `problems`: sentence of queries,
    queries, sentence of keys, keys that are seen at most, keys of the first query, keys."""
    own, group, width = heads
    threshold, seed, offset, per_first, per_row, per_head = dropout
    wide, across = _lines(width)
    top, total, one = facts.ctypes.data, facts.ctypes.data + 4 * _BLOCK, numbers.ctypes.data + 8
    for unit in range(first, last):
        p, o = unit // own, unit % own
        qi, times, ki, n, shift = problems[p, 0], problems[p, 1], problems[p, 2], problems[p, 3], problems[p, 4]
        line = _lines(n)[1]
        turned = room.ctypes.data
        values = turned + wide * LANES * line
        queries = values + n * across
        out = queries + _BLOCK * across
        scores = out + _BLOCK * across
        if n > 0:
            turn(_at(k, ki, 0, o), k[2], n, width, turned, line)
            fetch(_at(v, ki, 0, o), v[2], n, n, width, values, across)
        p = (p + 1) % len(problems)
        next_q, next_k = problems[p, 0], problems[p, 2]
        for h in range(o * group, (o + 1) * group):
            for start in range(0, times, _BLOCK):
                rows = min(_BLOCK, times - start)
                count = -(-rows // ROWS) * ROWS
                fetch(_at(q, qi, start, h), q[2], rows, count, width, queries, across)
                at = qi * per_first + h * per_head + start * per_row
                drawn = np.int64(0)
                if threshold:
                    keys = _seen(n, start + rows - 1, shift)
                    drawn = _draw(rows, keys, at, per_row, seed, offset, blocks, words)
                for tile in range(0, rows, ROWS):
                    end = min(rows, tile + ROWS)
                    most = _seen(n, start + end - 1, shift)
                    vectors = _lines(most)[0]
                    product(ROWS, vectors, width, queries + tile * across, across, 4, turned, line, scores, line, 0)
                    for r in range(tile, end):
                        t = start + r
                        expect(_at(q, next_q, t, h), width)
                        expect(_at(k, next_k, t, o), width)
                        expect(_at(v, next_k, t, o), width)
                        expect(_at(y, next_q, t, h), width)
                        draws = _draws_of(words, drawn, r, at, per_row)
                        soften(
                            scores + (r - tile) * line, vectors, _seen(n, t, shift), numbers.ctypes.data,
                            _at(bias, qi, t, h), draws, threshold, top + 4 * r, total + 4 * r,
                        )  # fmt: skip
                    product(ROWS, wide, most, scores, line, 4, values, across, out + tile * across, across, 0)
                for r in range(rows):
                    if lse[0]:
                        facts[r] += np.log(facts[_BLOCK + r])
                    facts[_BLOCK + r] = numbers[1] / facts[_BLOCK + r]
                deliver(out, across, rows, width, total, 4, _at(y, qi, start, h), y[2])
                if lse[0]:
                    deliver(top, 0, 1, rows, one, 0, _at(lse, qi, start, h), 0)


@exact
def _backward(
    first, last, apart, problems, heads, g, q, k, v, bias, lse, dropout, gq, gk, gv, gbias, numbers, room, facts,
    blocks, words,
):  # fmt: skip
    """As _forward; with `apart` the problems of a head follow each other."""
    own, group, width = heads
    threshold, seed, offset, per_first, per_row, per_head = dropout
    wide, across = _lines(width)
    scale, one = numbers.ctypes.data, numbers.ctypes.data + 8
    for unit in range(first, last):
        p, o = (unit % len(problems), unit // len(problems)) if apart else (unit // own, unit % own)
        qi, times, ki, n, shift = problems[p, 0], problems[p, 1], problems[p, 2], problems[p, 3], problems[p, 4]
        size, line = problems[p, 5], _lines(n)[1]
        turned_k = room.ctypes.data
        turned_v = turned_k + wide * LANES * line
        keys = turned_v + wide * LANES * line
        sums_k = keys + n * across
        sums_v = sums_k + (size + ROWS) * across
        queries = sums_v + (size + ROWS) * across
        cotangents = queries + _BLOCK * across
        out = cotangents + _BLOCK * across
        weights = out + ROWS * across
        d = weights + _BLOCK * line
        if n > 0:
            turn(_at(k, ki, 0, o), k[2], n, width, turned_k, line)
            turn(_at(v, ki, 0, o), v[2], n, width, turned_v, line)
            fetch(_at(k, ki, 0, o), k[2], n, n, width, keys, across)
        room[(sums_k - turned_k) // 4 : (queries - turned_k) // 4] = np.float32(0.0)
        p = (p + 1) % len(problems)
        next_q, next_k = problems[p, 0], problems[p, 2]
        for h in range(o * group, (o + 1) * group):
            for start in range(0, times, _BLOCK):
                rows = min(_BLOCK, times - start)
                count = -(-rows // ROWS) * ROWS
                fetch(_at(q, qi, start, h), q[2], rows, count, width, queries, across)
                fetch(_at(g, qi, start, h), g[2], rows, count, width, cotangents, across)
                at = qi * per_first + h * per_head + start * per_row
                seen = _seen(n, start + rows - 1, shift)
                tiled = -(-seen // ROWS) * ROWS
                drawn = np.int64(0)
                if threshold:
                    drawn = _draw(rows, seen, at, per_row, seed, offset, blocks, words)
                for tile in range(0, rows, ROWS):
                    end = min(rows, tile + ROWS)
                    most = _seen(n, start + end - 1, shift)
                    vectors = _lines(most)[0]
                    w, to = weights + tile * line, d + tile * line
                    product(ROWS, vectors, width, queries + tile * across, across, 4, turned_k, line, w, line, 0)
                    product(ROWS, vectors, width, cotangents + tile * across, across, 4, turned_v, line, to, line, 0)
                    for r in range(tile, end):
                        t = start + r
                        expect(_at(g, next_q, t, h), width)
                        expect(_at(q, next_q, t, h), width)
                        expect(_at(k, next_k, t, o), width)
                        expect(_at(v, next_k, t, o), width)
                        expect(_at(gq, next_q, t, h), width)
                        expect(_at(gk, next_k, t, o), width)
                        expect(_at(gv, next_k, t, o), width)
                        draws = _draws_of(words, drawn, r, at, per_row)
                        slopes(
                            weights + r * line, d + r * line, vectors, _lines(tiled)[0], _seen(n, t, shift), scale,
                            _at(lse, qi, t, h), _at(bias, qi, t, h), draws, threshold,
                        )  # fmt: skip
                        if gbias[0]:
                            add_to(d + r * line, most, _at(gbias, qi, t, h))
                    if gq[0]:
                        product(ROWS, wide, most, to, line, 4, keys, across, out, across, 0)
                        deliver(out, across, end - tile, width, scale, 0, _at(gq, qi, start + tile, h), gq[2])
                if gk[0]:
                    product(tiled, wide, rows, d, 4, line, queries, across, sums_k, across, 1)
                if gv[0]:
                    product(tiled, wide, rows, weights, 4, line, cotangents, across, sums_v, across, 1)
        if gk[0]:
            deliver(sums_k, across, size, width, scale, 0, _at(gk, ki, 0, o), gk[2])
        if gv[0]:
            deliver(sums_v, across, size, width, one, 0, _at(gv, ki, 0, o), gv[2])


# -- from the op's inputs to problems ------------------------------------------------------------------------

_NONE = (0, 0, 0, 0)


class _Task(NamedTuple):
    """What both kernels are told: rows of `problems` and the rest as in _forward."""

    problems: Any
    heads: tuple[int, int, int]
    dropout: tuple[Any, ...]
    numbers: Any
    packed: bool

    def lse(self, lse: Any) -> tuple[int, ...]:
        """lse [B,H,T] or [H,N]; None stays away."""
        if lse is None:
            return _NONE
        return lse.__array_interface__["data"][0], 4 if self.packed else lse.strides[0], 4, lse.strides[-2]

    def run(self, kernel: Callable[..., None], buffers: int, multiple: int, *args: Any) -> None:
        """The kernel over all key heads, with room for so many `buffers` of a kind."""
        own, group, width = self.heads
        most, size = (int(self.problems[:, i].max(initial=0)) for i in (3, 5))
        lanes, line, across = (-(-n // LANES) * LANES + extra for n, extra in ((width, 0), (most, 16), (width, 16)))
        floats = buffers * (lanes * line + across * (size + ROWS + 2 * _BLOCK) + _BLOCK * line) + across * (most + ROWS)
        draws = _BLOCK * ((most + 14) // 8) + 8 if self.dropout[0] else 0

        def run(first: int, last: int) -> None:
            room, facts = np.empty(floats + 16, np.float32), np.zeros(2 * _BLOCK, np.float32)
            room = room[-room.ctypes.data // 4 % 16 :]
            draw = np.zeros(draws, np.uint64), np.empty(4 * draws, np.uint32)
            kernel(first, last, *args, self.numbers, room, facts, *draw)

        work = int((self.problems[:, 1] * self.problems[:, 3]).sum()) * own * group * width
        spread(run, len(self.problems) * own, work, multiple=multiple)


def _dense(x: Any) -> Any:
    return x if x is None or x.strides[-1] == x.itemsize else np.ascontiguousarray(x)


def _place(x: Any) -> tuple[int, ...]:
    """An array [B,T,H,K], or [N,H,K], in which a segment is a sentence that begins at its first row."""
    if x is None:
        return _NONE
    *first, row, head, _ = x.strides
    return x.__array_interface__["data"][0], first[0] if first else row, row, head


def _task(q: Any, k: Any, rest: Any, causal: bool, scale: float, rate: float, draw: int, chosen: Any = None) -> _Task:
    """For the inputs after v `rest`; of padded sentences those `chosen`, or all."""
    _, lengths, q_offsets, k_offsets, state = rest
    *_, heads, width = q.shape
    rows, own, keys = q.shape[-3], k.shape[-2], k.shape[-3]
    if q_offsets is None:
        q_first = k_first = np.arange(len(q)) if chosen is None else chosen
        times, sizes = np.full(len(q_first), rows), np.full(len(q_first), keys)
        seen = sizes if lengths is None else np.clip(lengths[q_first], 0, keys)
        elements = heads * rows * keys, keys, rows * keys
    else:
        check_offsets(q_offsets, k_offsets, rows, keys)
        (q_first, k_first), (times, sizes) = zip(*((x[:-1], np.diff(x)) for x in (q_offsets, k_offsets)), strict=True)
        seen, stride = sizes, packed_stride(keys)
        elements = stride, stride, rows * stride
    shift = sizes - times + 1 if causal else sizes
    problems = np.stack([q_first, times, k_first, seen, shift, sizes], axis=1).astype(np.int64)
    seed, offset = seed_offset(state, draw) if rate else (0, 0)
    dropout = int(philox.keep_threshold(rate)), np.uint64(seed), np.uint64(offset), *elements
    numbers = np.array([scale, philox.keep_scale(rate), 1.0], np.float32)
    return _Task(problems, (own, heads // own, width), dropout, numbers, q_offsets is not None)


def _biases(bias: Any, dims: tuple[int, ...]) -> tuple[Any, tuple[int, ...]]:
    """(the array that holds them, its place) of biases that are broadcast to [B,H,T,S], the last axis in full."""
    if bias is None:
        return None, _NONE
    bias = _dense(
        np.broadcast_to(bias, (*bias.shape[:-1], dims[-1])) if bias.ndim else np.broadcast_to(bias, dims[-1:])
    )
    b, h, t, _ = np.broadcast_to(bias, dims).strides
    return bias, (bias.__array_interface__["data"][0], b, t, h)


def forward(
    outs: Any,
    ins: Any,
    scratch: Any,
    *,
    causal: bool,
    scale: float,
    dropout: float,
    draw: int,
    kv_heads: int = 0,
    chosen: Any = None,
    **_: Any,
) -> None:
    """The kernel of attention; of padded sentences it does those `chosen`, or all."""
    q, k, v = (_dense(x) for x in unpacked(ins[0], ins[1], ins[2], kv_heads))
    (y, lse), rest = outs, ins[3:]
    task = _task(q, k, rest, causal, scale, dropout, draw, chosen)
    if task.packed:  # rows of no segment
        y[rest[2][-1] :] = 0
        if lse is not None:
            lse[:, rest[2][-1] :] = 0
    dims = q.shape[0], q.shape[-2], q.shape[-3], k.shape[-3]
    _held, added = _biases(rest[0], dims)
    arrays = (_place(x) for x in (q, k, v))
    task.run(_forward, 1, 1, task.problems, task.heads, *arrays, added, task.dropout, _place(y), task.lse(lse))


def backward(
    outs: Any,
    ins: Any,
    scratch: Any,
    *,
    causal: bool,
    scale: float,
    dropout: float,
    draw: int,
    want_bias: bool,
    kv_heads: int = 0,
) -> None:
    """The kernel of attention_bwd."""
    gy, q, k, v = _dense(ins[0]), *(_dense(x) for x in unpacked(ins[1], ins[2], ins[3], kv_heads))
    lse, rest = _dense(ins[5]), ins[6:]
    task = _task(q, k, rest, causal, scale, dropout, draw)
    gk, gv = (None if x is None else out for x, out in zip(ins[2:4], outs[1:3], strict=True))
    gq, gk, gv = unpacked(outs[0], gk, gv, kv_heads if ins[2] is None or gk is not None else 0)
    if task.packed:
        for out, offsets in ((gq, rest[2]), (gk, rest[3]), (gv, rest[3])):
            if out is not None:
                out[offsets[-1] :] = 0
    dims = q.shape[0], q.shape[-2], q.shape[-3], k.shape[-3]
    bias, added = _biases(rest[0], dims)
    gbias, wanted, multiple = outs[3] if want_bias else None, _NONE, 1
    if gbias is not None:
        sums = np.zeros(bias.shape, np.float32)
        _, wanted = _biases(sums, dims)
        # What adds to the same gradients is one span: all sentences of a head, or all heads of a sentence, or all.
        multiple = (len(q) if wanted[1] == 0 else 1) * (task.heads[0] if wanted[3] == 0 else 1)
    arrays = (_place(x) for x in (gy, q, k, v))
    found = *(_place(x) for x in (gq, gk, gv)), wanted
    apart = want_bias and wanted[1] == 0
    args = apart, task.problems, task.heads, *arrays, added, task.lse(lse), task.dropout, *found
    task.run(_backward, 2, multiple, *args)
    if gbias is not None:
        gbias[...] = sums if sums.shape == gbias.shape else sums.sum(axis=-1, keepdims=True).reshape(gbias.shape)
