"""The numba cells of lstm, for float32; the loop over time and the products are those of lstm_numpy.py."""

from typing import Any

import numpy as np

from seqlib.core.ops import lstm_numpy
from seqlib.core.ops.jit_cpu import kernel, sigmoid32, tanh32


@kernel
def _cell(t, limits, x, gate, h, c, tanh, y, next_h, next_c):
    rows, width = h.shape
    for r in range(rows):
        row, given, out, kept = gate[r], x[r], y[r], tanh[r]
        i, f, g, o = row[:width], row[width : 2 * width], row[2 * width : 3 * width], row[3 * width :]
        for j in range(4 * width):
            row[j] += given[j]
        for j in range(width):  # from 0 and of few arrays: what the compiler turns into vector instructions
            i[j] = sigmoid32(i[j])
        for j in range(width):
            f[j] = sigmoid32(f[j])
        for j in range(width):
            g[j] = tanh32(g[j])
        for j in range(width):
            o[j] = sigmoid32(o[j])
        before, cell, state = c[r], next_c[r], next_h[r]
        for j in range(width):
            cell[j] = f[j] * before[j] + i[j] * g[j]
        for j in range(width):
            kept[j] = tanh32(cell[j])
        for j in range(width):
            out[j] = o[j] * kept[j]
        if t < limits[r]:
            state[:] = out
        else:
            out[:] = np.float32(0.0)
            state[:] = h[r]
            cell[:] = before


@kernel
def _cell_bwd(t, limits, gate, c, tanh, gy, sent, dh, dc, gx):
    rows, width = c.shape
    one = np.float32(1.0)
    for r in range(rows):
        row, out = gate[r], gx[r]
        i, f, g, o = row[:width], row[width : 2 * width], row[2 * width : 3 * width], row[3 * width :]
        di, df, dg, do = out[:width], out[width : 2 * width], out[2 * width : 3 * width], out[3 * width :]
        if t >= limits[r]:
            out[:] = np.float32(0.0)
            for j in range(width):
                dh[r, j] += sent[r, j]
            continue
        for j in range(width):
            d = dh[r, j] + sent[r, j] + gy[r, j]
            squashed = tanh[r, j]
            d_cell = dc[r, j] + d * o[j] * (one - squashed * squashed)
            di[j] = d_cell * g[j] * i[j] * (one - i[j])
            df[j] = d_cell * c[r, j] * f[j] * (one - f[j])
            dg[j] = d_cell * i[j] * (one - g[j] * g[j])
            do[j] = d * squashed * o[j] * (one - o[j])
            dc[r, j] = d_cell * f[j]
            dh[r, j] = np.float32(0.0)


def forward(outs: Any, ins: Any, scratch: Any, **attrs: Any) -> None:
    """The kernel of lstm."""
    lstm_numpy.forward(outs, ins, scratch, **attrs, cell=_cell)


def backward(outs: Any, ins: Any, scratch: Any, *, reverse: bool) -> None:
    """The kernel of lstm_bwd."""
    lstm_numpy.backward(outs, ins, scratch, reverse=reverse, cell=_cell_bwd)
