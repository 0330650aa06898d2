"""The NumPy kernels of cross_entropy and its gradient. N rows (tokens), V classes."""

from typing import Any

import numpy as np

from seqlib.core.ops.blocks import pieces
from seqlib.core.ops.bounds import check_bounds


def check_targets(op: str, targets: Any, classes: int, ignore_index: int) -> Any:
    """The numbers of the rows that count. Raises IndexRangeError for a target that is neither a class nor
    ignored."""
    rows = np.flatnonzero(targets != ignore_index)
    check_bounds(op, "targets", targets[rows], classes, negative=False)
    return rows


def forward(outs: Any, ins: Any, scratch: Any, *, smoothing: float, ignore_index: int) -> None:
    logits, targets, weights = ins
    counted = check_targets("cross_entropy", targets, logits.shape[1], ignore_index)
    top, lse = np.empty(len(logits), logits.dtype), outs[2]
    lse = np.empty_like(top) if lse is None else lse
    for rows in pieces(len(logits), len(scratch[0])):
        e = scratch[0][: rows.stop - rows.start]
        np.maximum.reduce(logits[rows], axis=1, out=top[rows])
        np.copyto(top[rows], 0, where=np.isneginf(top[rows]))
        np.subtract(logits[rows], top[rows, None], out=e)
        np.exp(e, out=e)
        np.add.reduce(e, axis=1, out=lse[rows])
    np.log(lse, out=lse)
    np.add(lse, top, out=lse)
    loss = lse[counted] - (1.0 - smoothing) * logits[counted, targets[counted]]
    if smoothing:
        loss -= smoothing * np.add.reduce(logits, axis=1)[counted] / logits.shape[1]
    weight = len(counted) if weights is None else weights[counted].sum(dtype=np.float64)
    if weights is not None:
        loss *= weights[counted]
    for out, value in zip(outs, (loss.sum(dtype=np.float64), weight), strict=False):
        if out is not None:
            out[...] = value


def backward(outs: Any, ins: Any, scratch: Any, *, smoothing: float, ignore_index: int) -> None:
    g, logits, targets, lse, weights = ins
    out, classes = outs[0], logits.shape[1]
    for i, target in enumerate(targets.tolist()):  # a row is long enough to be a piece of its own
        row = out[i]
        if target == ignore_index:
            row.fill(0)
            continue
        np.subtract(logits[i], lse[i], out=row)
        np.exp(row, out=row)
        if smoothing:
            np.subtract(row, smoothing / classes, out=row)
        row[target] -= 1.0 - smoothing
        np.multiply(row, g if weights is None else g * weights[i], out=row)
