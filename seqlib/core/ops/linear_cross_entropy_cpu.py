"""The numba kernel of linear_cross_entropy, for float32: the NumPy one with the softmax of a block in one
function."""

from typing import Any

import numpy as np

from seqlib.core.backends.threads import spread
from seqlib.core.ops.jit_cpu import exp32, kernel, largest
from seqlib.core.ops.linear_cross_entropy_numpy import run


@kernel
def _rows(first, last, logits, targets, smoothing, want_grad, costs):
    classes = logits.shape[1]
    for r in range(first, last):
        row, t = logits[r], targets[r]
        top = largest(row)
        cost = (np.float32(1.0) - smoothing) * (top - row[t])
        if smoothing != 0.0:
            total = np.float64(0.0)
            for j in range(classes):
                total += row[j] - top
            cost -= smoothing * np.float32(total / classes)
        norm = np.float32(0.0)
        for j in range(classes):
            row[j] = exp32(row[j] - top)
            norm += row[j]
        costs[r] = cost + np.log(norm)
        if want_grad:
            inverse, share = np.float32(1.0) / norm, smoothing / np.float32(classes)
            for j in range(classes):
                row[j] = row[j] * inverse - share
            row[t] -= np.float32(1.0) - smoothing


@kernel
def _scale(first, last, logits, factors, want_grad, costs):
    for r in range(first, last):
        costs[r] *= factors[r]
        if want_grad:
            for j in range(logits.shape[1]):
                logits[r, j] *= factors[r]


def _losses(logits: Any, targets: Any, factors: Any, smoothing: float, want_grad: bool) -> float:
    costs = np.empty(len(logits), np.float32)
    spread(_rows, len(logits), logits.size, logits, targets, np.float32(smoothing), want_grad, costs)
    if factors is not None:
        spread(_scale, len(logits), logits.size, logits, factors, want_grad, costs)
    return float(costs.sum(dtype=np.float64))


def forward(outs: Any, ins: Any, scratch: Any, **attrs: Any) -> None:
    """The kernel of linear_cross_entropy."""
    run(outs, ins, scratch, **attrs, losses=_losses)
