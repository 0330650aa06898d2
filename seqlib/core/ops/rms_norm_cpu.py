"""The numba kernels of rms_norm, for float32."""

from typing import Any

import numpy as np

from seqlib.core.backends.threads import spread
from seqlib.core.ops.jit_cpu import CHUNKS, copy, kernel


@kernel
def _forward(first, last, eps, x, w, y, rstds):
    width = x.shape[1]
    out = np.empty(width, np.float32)
    for r in range(first, last):
        row = x[r]
        squares = np.float32(0.0)
        for j in range(width):
            squares += row[j] * row[j]
        rstd = np.float32(1.0) / np.sqrt(squares / np.float32(width) + eps)
        for j in range(width):
            out[j] = row[j] * rstd * w[j]
        copy(out, y[r])
        rstds[r] = rstd


@kernel
def _backward(first, last, g, x, w, rstds, gx, sums):
    """For chunks of rows first … last - 1: gx, and the chunk's part of gw in sums [CHUNKS, D]."""
    n, width = g.shape
    out = np.empty(width, np.float32)
    for c in range(first, last):
        gw = sums[c]
        gw[:] = 0.0
        for r in range(n * c // CHUNKS, n * (c + 1) // CHUNKS):
            grad, row, rstd = g[r], x[r], rstds[r]
            along = np.float32(0.0)
            for j in range(width):
                along += grad[j] * w[j] * row[j]
            along *= rstd * rstd / np.float32(width)
            for j in range(width):
                gw[j] += grad[j] * (row[j] * rstd)
            for j in range(width):
                out[j] = rstd * (grad[j] * w[j] - row[j] * along)
            copy(out, gx[r])


def forward(outs: Any, ins: Any, scratch: Any, *, eps: float) -> None:
    """The kernel of rms_norm."""
    x, w = ins
    rows = x.reshape(-1, x.shape[-1])
    y, rstds = (
        np.empty(shape, np.float32) if out is None else out.reshape(shape)
        for out, shape in zip(outs, (rows.shape, len(rows)), strict=True)
    )
    spread(_forward, len(rows), x.size, np.float32(eps), rows, w, y, rstds)


def backward(outs: Any, ins: Any, scratch: Any) -> None:
    """The kernel of rms_norm_bwd."""
    g, x, w, rstds = ins
    shape = (-1, x.shape[-1])
    gx = np.empty(x.shape, np.float32) if outs[0] is None else outs[0]
    args = g.reshape(shape), x.reshape(shape), w, rstds.reshape(-1), gx.reshape(shape)
    spread(_backward, CHUNKS, x.size, *args, scratch[0])
    if outs[1] is not None:
        np.add.reduce(scratch[0], axis=0, out=outs[1])
