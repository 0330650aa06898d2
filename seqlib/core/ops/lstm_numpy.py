"""The NumPy kernels of lstm and its gradient, and what those of gru share with them. T steps, B rows.

Rows don't touch each other, so the pool's threads take groups of rows through all steps: they meet once a launch, not
once a step. Where products round their operands the matrix is rounded once for all steps, in the layout that suits it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from seqlib.core.backends import onednn_cpu as onednn
from seqlib.core.backends.threads import spread
from seqlib.core.modes import half_products
from seqlib.core.ops.product_numpy import ROUNDED, product, row_product

GROUP = 8
"""The fewest rows of a group."""
SHORT = 4  # steps from which on it pays to transpose w first: products of few rows are faster so


def groups_of(rows: int) -> int:
    """How many groups of rows there are, by their number alone: bits do not depend on who takes them."""
    return max(1, min(rows // GROUP, 2 if rows <= 32 else 4))


def spread_rows(fn: Callable[..., None], rows: int, work: int, *args: Any) -> None:
    """fn(slice of rows, *args), for groups of rows on all threads where there is work enough."""
    groups = groups_of(rows)

    def run(first: int, last: int) -> None:
        for i in range(first, last):
            fn(slice(rows * i // groups, rows * (i + 1) // groups), *args)

    spread(run, groups, work)


def transposed(w: Any, room: Any, steps: int) -> Any:
    """wᵀ, contiguous where there are steps enough to make up for it."""
    if steps < SHORT:
        return w.T
    np.copyto(room, w.T)
    return room


def weights(w: Any, room: Any, steps: int, rows: int, independent: bool) -> tuple[Callable[..., None], Any]:
    """How the state is multiplied by wᵀ, and wᵀ as that takes it. `independent`: so that a row's bits depend neither on
    the others nor on the number of steps."""
    if rounded(w, rows, steps):
        return _rounded_product, onednn.packed(w.T)
    return (row_product, w.T) if independent else (product, transposed(w, room, steps))


def back_weights(w: Any, steps: int, rows: int) -> tuple[Callable[..., None], Any]:
    """As `weights`, of w itself."""
    if rounded(w, rows, steps):
        return _rounded_product, onednn.packed(w)
    return product, w


def _rounded_product(a: Any, b: Any, out: Any) -> None:
    onednn.product(a, b, out, half=True)


def rounded(w: Any, rows: int, steps: int) -> bool:
    """Where products round their operands: sequences of some steps and rows, large matrices."""
    large = min(rows, steps) >= ROUNDED and w.dtype == np.float32 and w.size >= 1 << 16
    return large and half_products() and onednn.available()


def limits_of(lengths: Any, steps: int, rows: int) -> Any:
    return np.full(rows, steps, np.int32) if lengths is None else lengths


class Steps:
    """An array's part of each step, [T, …]; for an array that nobody needs, room for the last few steps."""

    def __init__(self, array: Any, room: Any) -> None:
        self.array, self.room = array, room

    def at(self, t: int, rows: slice) -> Any:
        return self.room[t % len(self.room), rows] if self.array is None else self.array[t, rows]

    def beyond(self, t: int, rows: slice, last: Any) -> Any:
        """The place of what follows the last step: `last`, or room when nobody needs it."""
        return self.room[t % len(self.room), rows] if last is None else last[rows]


# -- forward -------------------------------------------------------------------------------------------------


def forward(outs: Any, ins: Any, scratch: Any, *, reverse: bool, independent: bool = False) -> None:
    """The kernel of lstm."""
    x, w, *start, lengths = ins
    y, h, c, gates, cells, tanhs, states = outs
    steps, rows, _ = x.shape
    multiply, w_t = weights(w, scratch[0], steps, rows, independent)
    gate_room, room = scratch[1:]
    kept = (
        Steps(states, room[0:2]),
        Steps(cells, room[2:4]),
        Steps(gates, gate_room[None]),
        Steps(tanhs, room[4:5]),
        Steps(y, room[5:6]),
    )
    limits = limits_of(lengths, steps, rows)
    spread_rows(_forward, rows, 8 * x.size, multiply, x, w_t, limits, start, (h, c), kept, reverse)


def _forward(
    rows: slice,
    multiply: Callable[..., None],
    x: Any,
    w_t: Any,
    limits: Any,
    start: Any,
    last: Any,
    kept: Any,
    reverse: bool,
) -> None:
    states, cells, gates, tanhs, y = kept
    order = range(len(x))[::-1] if reverse else range(len(x))
    if not order:
        for out, begin in zip(last, start, strict=True):
            if out is not None:
                np.copyto(out[rows], begin[rows])
        return
    h, c = states.at(order[0], rows), cells.at(order[0], rows)
    np.copyto(h, start[0][rows])
    np.copyto(c, start[1][rows])
    for t in order:
        gate, after = gates.at(t, rows), t - 1 if reverse else t + 1
        multiply(h, w_t, gate)
        if 0 <= after < len(x):
            next_h, next_c = states.at(after, rows), cells.at(after, rows)
        else:
            next_h, next_c = states.beyond(after, rows, last[0]), cells.beyond(after, rows, last[1])
        _cell(t, limits[rows], x[t, rows], gate, h, c, tanhs.at(t, rows), y.at(t, rows), next_h, next_c)
        h, c = next_h, next_c


def sigmoid(x: Any) -> None:
    """1 / (1 + exp(-x)), in place."""
    np.negative(x, out=x)
    np.exp(x, out=x)
    x += 1.0
    np.divide(1.0, x, out=x)


def _cell(t: int, limits: Any, x: Any, gate: Any, h: Any, c: Any, tanh: Any, y: Any, next_h: Any, next_c: Any) -> None:
    """One step: `gate` comes as the product of h with w and leaves as the gates."""
    width = h.shape[1]
    np.add(gate, x, out=gate)
    i, f, g, o = (gate[:, k * width : (k + 1) * width] for k in range(4))
    sigmoid(gate[:, : 2 * width])
    np.tanh(g, out=g)
    sigmoid(o)
    np.multiply(f, c, out=next_c)
    np.multiply(i, g, out=tanh)
    np.add(next_c, tanh, out=next_c)
    np.tanh(next_c, out=tanh)
    np.multiply(o, tanh, out=y)
    np.copyto(next_h, y)
    dead = t >= limits
    if dead.any():
        y[dead] = 0
        next_h[dead], next_c[dead] = h[dead], c[dead]


# -- backward ------------------------------------------------------------------------------------------------


def backward(outs: Any, ins: Any, scratch: Any, *, reverse: bool) -> None:
    """The kernel of lstm_bwd."""
    w, gates, cells, tanhs, lengths, gy, gh, gc = ins
    steps, rows, _ = cells.shape
    gx = np.empty(gates.shape, gates.dtype) if outs[0] is None else outs[0]
    kept, limits = (gates, cells, tanhs), limits_of(lengths, steps, rows)
    multiply, w = back_weights(w, steps, rows)
    args = multiply, w, limits, kept, (gy, gh, gc), (gx, *outs[1:]), scratch[0], reverse
    spread_rows(_backward, rows, 8 * gates.size, *args)


def _backward(
    rows: slice,
    multiply: Callable[..., None],
    w: Any,
    limits: Any,
    kept: Any,
    given: Any,
    outs: Any,
    room: Any,
    reverse: bool,
) -> None:
    gates, cells, tanhs = kept
    (gy, *last), (gx, *first) = given, outs
    dh, dc, sent = room[:, rows]
    for d, g in zip((dh, dc), last, strict=True):
        if g is None:
            d.fill(0)
        else:
            np.copyto(d, g[rows])
    sent.fill(0)
    nothing = np.zeros_like(dh) if gy is None else None
    for t in range(len(cells)) if reverse else reversed(range(len(cells))):
        g = nothing if gy is None else gy[t, rows]
        _cell_bwd(t, limits[rows], gates[t, rows], cells[t, rows], tanhs[t, rows], g, sent, dh, dc, gx[t, rows])
        multiply(gx[t, rows], w, sent)
    np.add(dh, sent, out=dh)
    for out, d in zip(first, (dh, dc), strict=True):
        if out is not None:
            np.copyto(out[rows], d)


def _cell_bwd(t: int, limits: Any, gate: Any, c: Any, tanh: Any, gy: Any, sent: Any, dh: Any, dc: Any, gx: Any) -> None:
    """One step back: what is sent to h (`dh` past the product, `sent` through it) becomes gx; dh is 0 after a step."""
    width = c.shape[1]
    i, f, g, o = (gate[:, k * width : (k + 1) * width] for k in range(4))
    di, df, dg, do = (gx[:, k * width : (k + 1) * width] for k in range(4))
    live = (t < limits)[:, None]
    np.add(dh, sent, out=dh)
    d_out = dh + gy
    d_cell = 1.0 - tanh * tanh
    d_cell *= d_out * o
    d_cell += dc
    np.multiply(d_cell * g, i * (1.0 - i), out=di)
    np.multiply(d_cell * c, f * (1.0 - f), out=df)
    np.multiply(d_cell * i, 1.0 - g * g, out=dg)
    np.multiply(d_out * tanh, o * (1.0 - o), out=do)
    np.copyto(gx, 0, where=~live)
    np.multiply(d_cell, f, out=dc, where=live)
    np.copyto(dh, 0, where=live)
