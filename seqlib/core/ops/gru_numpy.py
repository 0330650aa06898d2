"""The NumPy kernels of gru and its gradient, and the loops over time that gru_cpu.py shares; see lstm_numpy.py."""

from collections.abc import Callable
from typing import Any

import numpy as np

from seqlib.core.ops.lstm_numpy import Steps, back_weights, limits_of, sigmoid, spread_rows, weights


def forward(
    outs: Any,
    ins: Any,
    scratch: Any,
    *,
    reverse: bool,
    independent: bool = False,
    cell: Callable[..., None] | None = None,
) -> None:
    x, w, b, h0, lengths = ins
    y, h, gates, states = outs
    steps, rows, _ = x.shape
    multiply, w_t = weights(w, scratch[0], steps, rows, independent)
    own, gate_room, room = scratch[1:]
    kept = Steps(states, room[:2]), Steps(gates, gate_room), Steps(y, room[2:])
    limits = limits_of(lengths, steps, rows)
    spread_rows(_forward, rows, 8 * x.size, multiply, x, w_t, b, limits, own, h0, h, kept, reverse, cell or _cell)


def _forward(
    rows: slice,
    multiply: Callable[..., None],
    x: Any,
    w_t: Any,
    b: Any,
    limits: Any,
    own: Any,
    start: Any,
    last: Any,
    kept: Any,
    reverse: bool,
    cell: Any,
) -> None:
    states, gates, y = kept
    order = range(len(x))[::-1] if reverse else range(len(x))
    if not order:
        if last is not None:
            np.copyto(last[rows], start[rows])
        return
    h = states.at(order[0], rows)
    np.copyto(h, start[rows])
    for t in order:
        after = t - 1 if reverse else t + 1
        multiply(h, w_t, own[rows])
        next_h = states.at(after, rows) if 0 <= after < len(x) else states.beyond(after, rows, last)
        cell(t, limits[rows], x[t, rows], own[rows], b, h, gates.at(t, rows), y.at(t, rows), next_h)
        h = next_h


def _cell(t: int, limits: Any, x: Any, own: Any, b: Any, h: Any, gate: Any, y: Any, next_h: Any) -> None:
    """One step: `own` is the product of h with w."""
    width = h.shape[1]
    r, z, n, q = (gate[:, k * width : (k + 1) * width] for k in range(4))
    np.add(own, b, out=own)
    np.add(x[:, : 2 * width], own[:, : 2 * width], out=gate[:, : 2 * width])
    sigmoid(gate[:, : 2 * width])
    np.copyto(q, own[:, 2 * width :])
    np.multiply(r, q, out=n)
    np.add(n, x[:, 2 * width :], out=n)
    np.tanh(n, out=n)
    np.subtract(h, n, out=y)
    np.multiply(y, z, out=y)
    np.add(y, n, out=y)
    np.copyto(next_h, y)
    dead = t >= limits
    if dead.any():
        y[dead] = 0
        next_h[dead] = h[dead]


def backward(outs: Any, ins: Any, scratch: Any, *, reverse: bool, cell: Callable[..., None] | None = None) -> None:
    w, gates, states, lengths, gy, gh = ins
    steps, rows, _ = states.shape
    gx, gown = (np.empty((steps, rows, len(w)), w.dtype) if out is None else out for out in outs[:2])
    limits = limits_of(lengths, steps, rows)
    multiply, w = back_weights(w, steps, rows)
    args = multiply, w, limits, (gates, states), gy, gh, (gx, gown, outs[2]), scratch[0], reverse, cell or _cell_bwd
    spread_rows(_backward, rows, 8 * gates.size, *args)


def _backward(
    rows: slice,
    multiply: Callable[..., None],
    w: Any,
    limits: Any,
    kept: Any,
    gy: Any,
    gh: Any,
    outs: Any,
    room: Any,
    reverse: bool,
    cell: Any,
) -> None:
    gates, states = kept
    gx, gown, first = outs
    dh, sent = room[:, rows]
    np.copyto(dh, 0 if gh is None else gh[rows])
    sent.fill(0)
    nothing = np.zeros_like(dh) if gy is None else None
    for t in range(len(states)) if reverse else reversed(range(len(states))):
        g = nothing if gy is None else gy[t, rows]
        cell(t, limits[rows], gates[t, rows], states[t, rows], g, sent, dh, gx[t, rows], gown[t, rows])
        multiply(gown[t, rows], w, sent)
    if first is not None:
        np.add(dh, sent, out=first[rows])


def _cell_bwd(t: int, limits: Any, gate: Any, h: Any, gy: Any, sent: Any, dh: Any, gx: Any, gown: Any) -> None:
    """One step back: what is sent to h (`dh` past the product, `sent` through it) becomes gx, gown and the next dh."""
    width = h.shape[1]
    r, z, n, q = (gate[:, k * width : (k + 1) * width] for k in range(4))
    dr, dz, dn = (gx[:, k * width : (k + 1) * width] for k in range(3))
    live = (t < limits)[:, None]
    np.add(dh, sent, out=dh)
    d = dh + gy
    np.multiply(d * (1.0 - z), 1.0 - n * n, out=dn)
    np.multiply(d * (h - n), z * (1.0 - z), out=dz)
    np.multiply(dn * q, r * (1.0 - r), out=dr)
    np.copyto(gx, 0, where=~live)
    np.copyto(gown[:, : 2 * width], gx[:, : 2 * width])
    np.multiply(dn, r, out=gown[:, 2 * width :])
    np.copyto(gown[:, 2 * width :], 0, where=~live)
    np.multiply(d, z, out=dh, where=live)
