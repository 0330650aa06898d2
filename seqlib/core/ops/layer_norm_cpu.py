"""The numba kernels of layer_norm, for float32."""

from typing import Any

import numpy as np

from seqlib.core.backends.threads import spread
from seqlib.core.ops.jit_cpu import CHUNKS, copy, kernel


@kernel
def _forward(first, last, eps, x, w, b, y, means, rstds):
    width = x.shape[1]
    out = np.empty(width, np.float32)
    for r in range(first, last):
        row = x[r]
        total = np.float32(0.0)
        for j in range(width):
            total += row[j]
        mean = total / np.float32(width)
        squares = np.float32(0.0)
        for j in range(width):
            squares += (row[j] - mean) * (row[j] - mean)
        rstd = np.float32(1.0) / np.sqrt(squares / np.float32(width) + eps)
        for j in range(width):
            out[j] = (row[j] - mean) * rstd * w[j] + b[j]
        copy(out, y[r])
        means[r] = mean
        rstds[r] = rstd


@kernel
def _backward(first, last, g, x, w, means, rstds, gx, sums):
    """For chunks of rows first … last - 1: gx, and the chunk's part of gw and gb in sums [CHUNKS, 2, D]."""
    n, width = g.shape
    out = np.empty(width, np.float32)
    for c in range(first, last):
        gw, gb = sums[c, 0], sums[c, 1]
        gw[:] = 0.0
        gb[:] = 0.0
        for r in range(n * c // CHUNKS, n * (c + 1) // CHUNKS):
            grad, row, mean, rstd = g[r], x[r], means[r], rstds[r]
            along = np.float32(0.0)
            total = np.float32(0.0)
            for j in range(width):
                h = grad[j] * w[j]
                total += h
                along += h * (row[j] - mean)
            along *= rstd * rstd / np.float32(width)
            total /= np.float32(width)
            for j in range(width):
                shifted = row[j] - mean
                gw[j] += grad[j] * (shifted * rstd)
                gb[j] += grad[j]
                out[j] = rstd * (grad[j] * w[j] - total - shifted * along)
            copy(out, gx[r])


def forward(outs: Any, ins: Any, scratch: Any, *, eps: float) -> None:
    """The kernel of layer_norm."""
    x, w, b = ins
    rows = x.reshape(-1, x.shape[-1])
    y, means, rstds = (
        np.empty(shape, np.float32) if out is None else out.reshape(shape)
        for out, shape in zip(outs, (rows.shape, len(rows), len(rows)), strict=True)
    )
    spread(_forward, len(rows), x.size, np.float32(eps), rows, w, b, y, means, rstds)


def backward(outs: Any, ins: Any, scratch: Any) -> None:
    """The kernel of layer_norm_bwd."""
    g, x, w, means, rstds = ins
    shape = (-1, x.shape[-1])
    gx = np.empty(x.shape, np.float32) if outs[0] is None else outs[0]
    sums = scratch[0]
    args = g.reshape(shape), x.reshape(shape), w, means.reshape(-1), rstds.reshape(-1), gx.reshape(shape)
    spread(_backward, CHUNKS, x.size, *args, sums)
    for out, parts in zip(outs[1:], (sums[:, 0], sums[:, 1]), strict=True):
        if out is not None:
            np.add.reduce(parts, axis=0, out=out)
