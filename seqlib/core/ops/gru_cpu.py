"""The numba cells of gru, for float32; the loop over time and the products are those of gru_numpy.py."""

from typing import Any

import numpy as np

from seqlib.core.ops import gru_numpy
from seqlib.core.ops.jit_cpu import kernel, sigmoid32, tanh32


@kernel
def _cell(t, limits, x, own, b, h, gate, y, next_h):
    rows, width = h.shape
    for i in range(rows):
        row, given, product, before, out, state = gate[i], x[i], own[i], h[i], y[i], next_h[i]
        r, z, n, q = row[:width], row[width : 2 * width], row[2 * width : 3 * width], row[3 * width :]
        to_n = given[2 * width :]
        for j in range(3 * width):
            product[j] += b[j]
        for j in range(2 * width):
            row[j] = sigmoid32(given[j] + product[j])
        q[:] = product[2 * width :]
        for j in range(width):  # loops of few arrays: what the compiler turns into vector instructions
            n[j] = to_n[j] + r[j] * q[j]
        for j in range(width):
            n[j] = tanh32(n[j])
        for j in range(width):
            out[j] = n[j] + z[j] * (before[j] - n[j])
        if t < limits[i]:
            state[:] = out
        else:
            out[:] = np.float32(0.0)
            state[:] = before


@kernel
def _cell_bwd(t, limits, gate, h, gy, sent, dh, gx, gown):
    rows, width = h.shape
    one = np.float32(1.0)
    for i in range(rows):
        row, out, own, before = gate[i], gx[i], gown[i], h[i]
        r, z, n, q = row[:width], row[width : 2 * width], row[2 * width : 3 * width], row[3 * width :]
        dr, dz, dn = out[:width], out[width : 2 * width], out[2 * width :]
        if t >= limits[i]:
            out[:] = np.float32(0.0)
            own[:] = np.float32(0.0)
            for j in range(width):
                dh[i, j] += sent[i, j]
            continue
        for j in range(width):
            d = dh[i, j] + sent[i, j] + gy[i, j]
            to_n = d * (one - z[j]) * (one - n[j] * n[j])
            dn[j] = to_n
            dz[j] = d * (before[j] - n[j]) * z[j] * (one - z[j])
            dr[j] = to_n * q[j] * r[j] * (one - r[j])
            dh[i, j] = d * z[j]
        own[: 2 * width] = out[: 2 * width]
        to_q = own[2 * width :]
        for j in range(width):
            to_q[j] = dn[j] * r[j]


def forward(outs: Any, ins: Any, scratch: Any, **attrs: Any) -> None:
    """The kernel of gru."""
    gru_numpy.forward(outs, ins, scratch, **attrs, cell=_cell)


def backward(outs: Any, ins: Any, scratch: Any, *, reverse: bool) -> None:
    """The kernel of gru_bwd."""
    gru_numpy.backward(outs, ins, scratch, reverse=reverse, cell=_cell_bwd)
