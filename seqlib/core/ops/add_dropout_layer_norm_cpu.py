"""The numba kernels of add_dropout_layer_norm and its gradient, for float32.

Rows are taken in groups of about GROUP elements: what one step of a group wrote is in the first-level cache for the
next.
"""

from typing import Any

import numpy as np

from seqlib.core import philox
from seqlib.core.backends.threads import spread
from seqlib.core.ops.jit_cpu import CHUNKS, TILE, copy, kernel, philox_tile
from seqlib.core.ops.random import seed_offset

GROUP = 4096
_DRAWS = TILE * philox.LANES


@kernel
def _kept(start, seed, offset, threshold, scale, words, out):
    """The factors 0 or `scale` of elements start … start + out.size - 1."""
    lanes = words.view(np.uint16)
    skip = start % 8
    for at in range(start - skip, start + out.size, _DRAWS):
        philox_tile(np.uint64(at // 8), seed, offset, words)
        first, last = max(start, at), min(start + out.size, at + _DRAWS)
        part, mine = out[first - start : last - start], lanes[first - at : last - at]
        for i in range(part.size):
            part[i] = scale if mine[i] >= threshold else np.float32(0.0)


@kernel
def _forward(first, last, rows, seed, offset, threshold, scale, eps, x, branch, w, b, total, y, means, rstds):
    n, width = x.shape
    words, factors = np.empty(4 * TILE, np.uint32), np.empty(rows * width, np.float32)
    sums, out = np.empty(width, np.float32), np.empty(width, np.float32)
    for group in range(first, last):
        top = group * rows
        height = min(rows, n - top)
        _kept(top * width, seed, offset, threshold, scale, words, factors[: height * width])
        for r in range(top, top + height):
            xs, bs, factor = x[r], branch[r], factors[(r - top) * width : (r - top + 1) * width]
            for j in range(width):
                sums[j] = xs[j] + bs[j] * factor[j]
            whole = np.float32(0.0)
            for j in range(width):  # a loop of its own: see jit_cpu.kernel
                whole += sums[j]
            mean = whole / np.float32(width)
            squares = np.float32(0.0)
            for j in range(width):
                squares += (sums[j] - mean) * (sums[j] - mean)
            rstd = np.float32(1.0) / np.sqrt(squares / np.float32(width) + eps)
            for j in range(width):
                out[j] = (sums[j] - mean) * rstd * w[j] + b[j]
            copy(sums, total[r])
            copy(out, y[r])
            means[r], rstds[r] = mean, rstd


@kernel
def _backward(first, last, seed, offset, threshold, scale, g, h, total, w, means, rstds, gx, gbranch, sums):
    """For chunks of rows first … last - 1; their parts of gw and gb go to sums [CHUNKS, 2, D]."""
    n, width = g.shape
    rows = max(1, GROUP // width)
    words, factors = np.empty(4 * TILE, np.uint32), np.empty(rows * width, np.float32)
    by_x, by_branch = np.empty(width, np.float32), np.empty(width, np.float32)
    for c in range(first, last):
        gw, gb = sums[c, 0], sums[c, 1]
        gw[:] = 0.0
        gb[:] = 0.0
        end = n * (c + 1) // CHUNKS
        for top in range(n * c // CHUNKS, end, rows):
            height = min(rows, end - top)
            _kept(top * width, seed, offset, threshold, scale, words, factors[: height * width])
            for r in range(top, top + height):
                grad, row, other, mean, rstd = g[r], total[r], h[r], means[r], rstds[r]
                factor = factors[(r - top) * width : (r - top + 1) * width]
                along, whole = np.float32(0.0), np.float32(0.0)
                for j in range(width):
                    slope = grad[j] * w[j]
                    whole += slope
                    along += slope * (row[j] - mean)
                along *= rstd * rstd / np.float32(width)
                whole /= np.float32(width)
                for j in range(width):
                    shifted = row[j] - mean
                    gw[j] += grad[j] * (shifted * rstd)
                    gb[j] += grad[j]
                    by_x[j] = other[j] + rstd * (grad[j] * w[j] - whole - shifted * along)
                    by_branch[j] = by_x[j] * factor[j]
                copy(by_x, gx[r])
                copy(by_branch, gbranch[r])


def _draws(state: Any, p: float, draw: int) -> tuple[Any, ...]:
    seed, offset = (np.uint64(n) for n in seed_offset(state, draw))
    return seed, offset, np.uint16(philox.keep_threshold(p)), np.float32(philox.keep_scale(p))


def forward(outs: Any, ins: Any, scratch: Any, *, p: float, draw: int, eps: float) -> None:
    """The kernel of add_dropout_layer_norm."""
    x, branch, state, w, b = ins
    shape = (x.size // x.shape[-1], x.shape[-1])
    total, y, means, rstds = (
        np.empty(s, np.float32) if out is None else out.reshape(s)
        for out, s in zip(outs, (shape, shape, shape[0], shape[0]), strict=True)
    )
    rows = max(1, GROUP // shape[1])
    args = rows, *_draws(state, p, draw), np.float32(eps), x.reshape(shape), branch.reshape(shape)
    spread(_forward, -(-shape[0] // rows), x.size, *args, w, b, total, y, means, rstds)


def backward(outs: Any, ins: Any, scratch: Any, *, p: float, draw: int) -> None:
    """The kernel of add_dropout_layer_norm_bwd."""
    g, h, total, w, means, rstds, state = ins
    shape, sums = (total.size // total.shape[-1], total.shape[-1]), scratch[0]
    gx, gbranch = (np.empty(shape, np.float32) if out is None else out.reshape(shape) for out in outs[:2])
    rows = (a.reshape(shape) for a in (g, h, total))
    args = *_draws(state, p, draw), *rows, w, means.reshape(-1), rstds.reshape(-1), gx, gbranch
    spread(_backward, CHUNKS, total.size, *args, sums)
    for out, parts in zip(outs[2:], (sums[:, 0], sums[:, 1]), strict=True):
        if out is not None:
            np.add.reduce(parts, axis=0, out=out)
