"""The numba kernels of additive_scores and its gradient, for float32; batch rows are spread over the threads."""

from typing import Any

import numpy as np

from seqlib.core.backends.threads import spread
from seqlib.core.ops.jit_cpu import kernel, tanh32


@kernel
def _forward(first, last, q, k, v, y):
    for b in range(first, last):
        for t in range(q.shape[1]):
            for s in range(k.shape[1]):
                query, key = q[b, t], k[b, s]
                total = np.float32(0.0)
                for j in range(v.size):
                    total += v[j] * tanh32(query[j] + key[j])
                y[b, t, s] = total


@kernel
def _backward(first, last, g, q, k, v, gq, gk, sums):
    """For batch rows first … last - 1: gq, gk, and the row's part of gv in sums [B, 0]; sums [B, 1] is room."""
    for b in range(first, last):
        gv, hidden = sums[b, 0], sums[b, 1]
        gv[:] = np.float32(0.0)
        gq[b] = np.float32(0.0)
        gk[b] = np.float32(0.0)
        for t in range(q.shape[1]):
            for s in range(k.shape[1]):
                query, key, to_query, to_key, slope = q[b, t], k[b, s], gq[b, t], gk[b, s], g[b, t, s]
                for j in range(v.size):  # loops of few arrays: what the compiler turns into vector instructions
                    hidden[j] = tanh32(query[j] + key[j])
                for j in range(v.size):
                    gv[j] += slope * hidden[j]
                for j in range(v.size):
                    hidden[j] = slope * v[j] * (np.float32(1.0) - hidden[j] * hidden[j])
                for j in range(v.size):
                    to_query[j] += hidden[j]
                for j in range(v.size):
                    to_key[j] += hidden[j]


def forward(outs: Any, ins: Any, scratch: Any) -> None:
    """The kernel of additive_scores."""
    q, k, v = ins
    spread(_forward, len(q), q.size * k.shape[1], q, k, v, outs[0])


def backward(outs: Any, ins: Any, scratch: Any) -> None:
    """The kernel of additive_scores_bwd."""
    g, q, k, v = ins
    gq, gk = (np.empty_like(x) if out is None else out for out, x in zip(outs, (q, k), strict=False))
    spread(_backward, len(q), q.size * k.shape[1], g, q, k, v, gq, gk, scratch[0])
    if outs[2] is not None:
        np.add.reduce(scratch[0][:, 0], axis=0, out=outs[2])
