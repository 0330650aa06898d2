"""The numba kernels of lstm and its gradient, for float32. T steps, B rows, H units.

A thread computes the gates of its own units for all rows, through all steps: so of w it reads its share again and
again, which stays in its cache. The threads wait for each other at every step, without the interpreter. Units are
divided by their number alone, so bits do not depend on who takes them.

The kernels take no slices, each of which would count a reference in memory that the threads share, and index without a
sign, so that compiled code need not ask whether an index counts from the end.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import Any

import numpy as np

from seqlib.core import dtypes
from seqlib.core.backends import onednn_cpu as onednn
from seqlib.core.backends.onednn_library_cpu import check, one_thread
from seqlib.core.backends.threads import spread
from seqlib.core.ops import lstm_numpy
from seqlib.core.ops.jit_cpu import YIELD, bits16, kernel, run_rows, sigmoid32, tanh32, wait_for_all
from seqlib.core.ops.rows_cpu import columns, room_of

_LEAST, _BLOCKS = 64, 8  # units of a block, and blocks at most
ZERO, ONE, TWO, FOUR = map(np.uint64, (0, 1, 2, 4))


def _bounds(width: int) -> Any:
    """Where blocks of units begin and end, at multiples of 16."""
    count = max(1, min(_BLOCKS, width // _LEAST))
    return np.array([width * i // count // 16 * 16 for i in range(count)] + [width], np.uint64)


def _sizes(*sizes: int) -> tuple[Any, ...]:
    return tuple(map(np.uint64, sizes))


@kernel
def _panels(first, last, bounds, turned, w, to):
    """For each block of units a matrix in bfloat16 as onednn_cpu.packed gives it, from the block's first row of `to`
    on: with `turned` the rows of w [4H,H] of its gates as columns, else its columns."""
    depth, width = w.shape[1] if turned else w.shape[0], w.shape[1]
    pairs = (depth + 31) // 32 * 16
    source, words = w.reshape(-1), to.reshape(-1).view(np.int32)
    for block in range(first, last):
        start, size = np.int64(bounds[block]), np.int64(bounds[block + 1] - bounds[block])
        count = 4 * size if turned else size
        begin = np.uint64((4 * start if turned else start) * to.shape[1])
        for i in range(np.uint64((count + 63) // 64 * 64 * pairs)):
            words[begin + i] = 0
        if turned:
            for column in range(count):
                place = begin + np.uint64(column // 64 * pairs * 64 + column % 64)
                near = np.uint64((column // size * width + start + column % size) * width)
                for k in range(np.uint64(depth // 2)):
                    low, high = bits16(source[near + TWO * k]), bits16(source[near + TWO * k + ONE])
                    words[place + k * np.uint64(64)] = low & 0xFFFF | high << 16
                if depth % 2:
                    last_pair = np.uint64(depth // 2)
                    words[place + last_pair * np.uint64(64)] = bits16(source[near + TWO * last_pair]) & 0xFFFF
        else:
            for panel in range(0, count, 64):
                for k in range(depth // 2):
                    place = begin + np.uint64((panel * pairs) + k * 64)
                    near = np.uint64(2 * k * width + start + panel)
                    for c in range(np.uint64(min(64, count - panel))):
                        low, high = bits16(source[near + c]), bits16(source[near + np.uint64(width) + c])
                        words[place + c] = low & 0xFFFF | high << 16


_NONE = np.empty(1, np.float32)


def _flat(*arrays: Any) -> tuple[Any, ...]:
    """Arrays with one axis, something where there is none."""
    return tuple(_NONE if a is None else a.reshape(-1) for a in arrays)


class _Team:
    """Runs `part` for spans of blocks, `arrived` being where those who do so wait for each other. If one fails, also
    before it has begun, nobody waits for it any longer."""

    def __init__(self, part: Callable[..., None], blocks: int) -> None:
        self.part, self.arrived = part, np.zeros((blocks, 8), np.int64)

    def __call__(self, first: int, last: int) -> None:
        self.part(first, last, self.arrived)

    def release(self) -> None:
        self.arrived[:] = np.iinfo(np.int64).max

    def run(self, work: int) -> None:
        try:
            spread(self, len(self.arrived), work)
        except BaseException:
            self.release()
            raise


# -- forward -------------------------------------------------------------------------------------------------


@kernel
def _forward(
    first, last, reverse, bounds, steps, rows, width, x, limits, w, lead, h, wide, c, before, half, inner, table, call,
    bases, kept, wanted, arrived, rest, room,
):  # fmt: skip
    """Steps of the units of blocks first … last - 1, of flat arrays. h [2,B,wide] is what a step starts from and what
    it leaves, c [B,H]; w [4H,lead]; the gates `before` [B,4,size] come a block after another; `half` [2,B,inner] is h
    rounded, when there is a `table`."""
    gates, cells, tanhs, states, y = kept
    fresh, squashed, status = np.empty(width, np.float32), np.empty(width, np.float32), np.int32(0)
    for step in range(steps):
        t = steps - ONE - step if reverse else step
        on = step + ONE < steps
        after = ZERO if not on else t - ONE if reverse else t + ONE
        now, next = step % TWO, (step + ONE) % TWO
        for block in range(first, last):
            start, size = bounds[block], bounds[block + 1] - bounds[block]
            place = FOUR * rows * start
            if len(table):
                bases[0] = half.ctypes.data + TWO * now * rows * inner
                failed = run_rows(table, block - first, block - first + 1, call, bases)
                if failed != 0:
                    status = failed
            else:
                for k in range(FOUR):
                    columns(
                        0, np.int64(size), np.int64(rows), np.int64(width), np.int64(size),
                        np.int64(h.ctypes.data + FOUR * now * rows * wide), np.int64(FOUR * wide),
                        np.int64(w.ctypes.data + FOUR * (k * width + start) * lead), np.int64(FOUR * lead),
                        np.int64(before.ctypes.data + FOUR * (place + k * size)), np.int64(FOUR * FOUR * size), room,
                    )  # fmt: skip
            for r in range(rows):
                i = place + r * FOUR * size
                f, g, o = i + size, i + TWO * size, i + TWO * size + size
                own, given = r * width + start, (t * rows + r) * FOUR * width + start
                at, to = (t * rows + r) * width + start, (after * rows + r) * width + start
                state, stale = (next * rows + r) * wide + start, (now * rows + r) * wide + start
                for k in range(FOUR):
                    near, far = i + k * size, given + k * width
                    for j in range(size):
                        before[near + j] += x[far + j]
                for j in range(TWO * size):  # of few arrays: what the compiler turns into vector instructions
                    before[i + j] = sigmoid32(before[i + j])
                for j in range(size):
                    before[g + j] = tanh32(before[g + j])
                for j in range(size):
                    before[o + j] = sigmoid32(before[o + j])
                if wanted[0]:
                    for k in range(FOUR):
                        near, far = i + k * size, given + k * width
                        for j in range(size):
                            gates[far + j] = before[near + j]
                for j in range(size):
                    fresh[j] = before[f + j] * c[own + j] + before[i + j] * before[g + j]
                for j in range(size):
                    squashed[j] = tanh32(fresh[j])
                live = np.int64(t) < limits[r]
                for j in range(size):
                    before[i + j] = before[o + j] * squashed[j] if live else h[stale + j]
                if live:
                    for j in range(size):
                        c[own + j] = fresh[j]
                if wanted[4]:
                    for j in range(size):
                        y[at + j] = before[i + j] if live else np.float32(0.0)
                for j in range(size):
                    h[state + j] = before[i + j]
                if wanted[2]:
                    for j in range(size):
                        tanhs[at + j] = squashed[j]
                if wanted[1] and on:
                    for j in range(size):
                        cells[to + j] = c[own + j]
                if wanted[3] and on:
                    for j in range(size):
                        states[to + j] = before[i + j]
                if len(table):
                    for j in range(size):
                        half[(next * rows + r) * inner + start + j] = np.int16(bits16(before[i + j]))
        wait_for_all(arrived, first, last, step + ONE, rest)
    return status


def forward(outs: Any, ins: Any, scratch: Any, *, reverse: bool, independent: bool) -> None:
    """The kernel of lstm."""
    x, w, *start, lengths = ins
    y, *final, gates, cells, tanhs, states = outs
    steps, rows, _ = x.shape
    width = w.shape[1]
    w_room, before, h, c = scratch
    matrix = w if steps < lstm_numpy.SHORT else w_room  # where it pays, in rows of whole cache lines
    for to, given, states_of in ((h[0, :, :width], start[0], states), (c, start[1], cells)):
        np.copyto(to, given)
        if states_of is not None and steps:
            np.copyto(states_of[-1 if reverse else 0], given)
    bounds = _bounds(width)
    half = _half(rows, width) if lstm_numpy.rounded(w, rows, steps) else None
    if half is not None:
        half[0, :, :width] = h[0, :, :width].astype(dtypes.bfloat16).view(np.int16)
    kept = gates, cells, tanhs, states, y
    wanted = np.array([a is not None for a in kept])
    limits = lstm_numpy.limits_of(lengths, steps, rows)

    def part(first: int, last: int, arrived: Any) -> None:
        if half is not None:
            _panels(first, last, bounds, True, w, w_room)
        elif matrix is not w:
            own = slice(int(bounds[first]), int(bounds[last]))
            for k in range(0, 4 * width, width):
                np.copyto(w_room[k : k + width][own, :width], w[k : k + width][own])
        blocks = [(4 * start, 4 * (stop - start)) for start, stop in pairwise(map(int, bounds[first : last + 1]))]
        table, call, bases = _calls(half, w_room, before, blocks)
        lead, wide = _sizes(matrix.shape[1], h.shape[2])
        given = *_flat(x), limits, *_flat(matrix), lead, *_flat(h), wide, *_flat(c, before, half)
        rest = table, call, bases, _flat(*kept), wanted, arrived, YIELD, room_of(rows)
        inner = np.uint64(0 if half is None else half.shape[2])
        with _one_thread(half):
            check(_forward(first, last, reverse, bounds, *_sizes(steps, rows, width), *given, inner, *rest))

    _Team(part, len(bounds) - 1).run(steps * rows * w.size)
    for out, found in zip(final, (h[steps % 2, :, :width], c), strict=True):
        if out is not None:
            np.copyto(out, found)


# -- backward ------------------------------------------------------------------------------------------------


@kernel
def _backward(
    first, last, reverse, bounds, steps, rows, width, turned, wide, limits, kept, dh, dc, sent, gx, half, deep, table,
    call, bases, arrived, rest, room,
):  # fmt: skip
    """As _forward, back in time: dh and dc [B,H] are what is sent past the products, `sent` [B,size], of a block after
    another, what comes through those with w, which lies `turned` [H,wide]."""
    gates, cells, tanhs, gy = kept
    one, nothing = np.float32(1.0), np.float32(0.0)
    d, d_cell, status = np.empty(width, np.float32), np.empty(width, np.float32), np.int32(0)
    for step in range(steps):
        t = step if reverse else steps - ONE - step
        now, inner = step % TWO, FOUR * width
        for block in range(first, last):
            start, size = bounds[block], bounds[block + 1] - bounds[block]
            for r in range(rows):
                came, own = rows * start + r * size, r * width + start
                at, i = (t * rows + r) * width + start, (t * rows + r) * inner + start
                f, g, o = i + width, i + TWO * width, i + TWO * width + width
                if np.int64(t) < limits[r]:
                    for j in range(size):
                        squared = tanhs[at + j] * tanhs[at + j]
                        d[j] = dh[own + j] + sent[came + j] + gy[at + j]
                        d_cell[j] = dc[own + j] + d[j] * gates[o + j] * (one - squared)
                    for j in range(size):
                        gx[o + j] = d[j] * tanhs[at + j] * gates[o + j] * (one - gates[o + j])
                    for j in range(size):
                        gx[i + j] = d_cell[j] * gates[g + j] * gates[i + j] * (one - gates[i + j])
                    for j in range(size):
                        gx[g + j] = d_cell[j] * gates[i + j] * (one - gates[g + j] * gates[g + j])
                    for j in range(size):
                        gx[f + j] = d_cell[j] * cells[at + j] * gates[f + j] * (one - gates[f + j])
                    for j in range(size):
                        dc[own + j] = d_cell[j] * gates[f + j]
                        dh[own + j] = nothing
                else:
                    for j in range(size):
                        gx[i + j] = gx[f + j] = gx[g + j] = gx[o + j] = nothing
                        dh[own + j] += sent[came + j]
                if len(table):
                    for k in range(FOUR):
                        near, far = i + k * width, (now * rows + r) * deep + k * width + start
                        for j in range(size):
                            half[far + j] = np.int16(bits16(gx[near + j]))
        wait_for_all(arrived, first, last, step + ONE, rest)
        for block in range(first, last):
            start, size = bounds[block], bounds[block + 1] - bounds[block]
            if len(table):
                bases[0] = half.ctypes.data + TWO * now * rows * deep
                failed = run_rows(table, block - first, block - first + 1, call, bases)
                if failed != 0:
                    status = failed
            else:
                columns(
                    0, np.int64(size), np.int64(rows), np.int64(inner), np.int64(size),
                    np.int64(gx.ctypes.data + FOUR * t * rows * inner), np.int64(FOUR * inner),
                    np.int64(turned.ctypes.data + FOUR * start * wide), np.int64(FOUR * wide),
                    np.int64(sent.ctypes.data + FOUR * rows * start), np.int64(FOUR * size), room,
                )  # fmt: skip
    for block in range(first, last):
        start, size = bounds[block], bounds[block + 1] - bounds[block]
        for r in range(rows):
            came, own = rows * start + r * size, r * width + start
            for j in range(size):
                dh[own + j] += sent[came + j]
    return status


def backward(outs: Any, ins: Any, scratch: Any, *, reverse: bool) -> None:
    """The kernel of lstm_bwd."""
    w, gates, cells, tanhs, lengths, gy, *final = ins
    steps, rows, width = cells.shape
    (dh, dc, sent), turned = scratch
    for d, g in zip((dh, dc), final, strict=True):
        np.copyto(d, 0 if g is None else g)
    sent.fill(0)
    gx = np.empty(gates.shape, gates.dtype) if outs[0] is None else outs[0]
    gy = np.zeros(cells.shape, cells.dtype) if gy is None else gy
    bounds = _bounds(width)
    half = _half(rows, 4 * width) if lstm_numpy.rounded(w, rows, steps) else None
    limits = lstm_numpy.limits_of(lengths, steps, rows)

    def part(first: int, last: int, arrived: Any) -> None:
        if half is None:
            own = slice(int(bounds[first]), int(bounds[last]))
            np.copyto(turned[own, : 4 * width], w[:, own].T)
        else:
            _panels(first, last, bounds, False, w, turned)
        blocks = [(start, stop - start) for start, stop in pairwise(map(int, bounds[first : last + 1]))]
        table, call, bases = _calls(half, turned, sent, blocks)
        given = np.uint64(turned.shape[1]), limits, _flat(gates, cells, tanhs, gy), *_flat(dh, dc, sent, gx, half)
        rest = table, call, bases, arrived, YIELD, room_of(rows)
        inner = np.uint64(0 if half is None else half.shape[2])
        sizes = _sizes(steps, rows, width)
        with _one_thread(half):
            check(_backward(first, last, reverse, bounds, *sizes, *_flat(turned), *given, inner, *rest))

    _Team(part, len(bounds) - 1).run(steps * rows * w.size)
    for out, d in zip(outs[1:], (dh, dc), strict=True):
        if out is not None:
            np.copyto(out, d)


# -- products in bfloat16 ------------------------------------------------------------------------------------


def _half(rows: int, inner: int) -> Any:
    """Room for what is multiplied, rounded, in two steps: [2, rows, inner filled up with zeros to a multiple of 32]."""
    return np.zeros((2, rows, -(-inner // 32) * 32), np.int16)


def _one_thread(half: Any) -> AbstractContextManager[None]:
    """For what runs oneDNN's calls, if any."""
    return nullcontext() if half is None else one_thread()


def _calls(half: Any, w: Any, out: Any, blocks: list[tuple[int, int]]) -> tuple[Any, Any, Any]:
    """Of products of `half` by oneDNN, for blocks that begin in some row of w and of `out` [rows, B], of so many
    columns: a table, addresses, and its bases. None: an empty one, products being float32."""
    bases = np.zeros(5, np.int64)
    if half is None:
        return np.empty((0, 1), np.int64), np.zeros(3, np.int64), bases
    _, rows, inner = half.shape
    near, to = (x.__array_interface__["data"][0] for x in (w, out))
    places = [(near + start * w.strides[0], n, to + 4 * rows * start) for start, n in blocks]
    return *onednn.calls(rows, inner, places), bases
