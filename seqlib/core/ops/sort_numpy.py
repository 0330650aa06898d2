"""The NumPy kernel of top_k, which decoding calls, too: the best of wide rows without sorting them.

R rows, V columns (vocabulary).
"""

from typing import Any

import numpy as np

from seqlib.core.ops.sort import stable_order

_BLOCK = 64
_WIDE = 8192  # narrower matrices use blocks of half the size
_FEW = 64  # more are found by sorting


def top_k(outs: Any, ins: Any, scratch: Any, *, k: int) -> None:
    rows = ins[0].reshape(-1, ins[0].shape[-1]) if ins[0].size else ins[0].reshape(0, max(ins[0].shape[-1], 1))
    indices = np.empty((len(rows), k), np.int64)
    odd = np.ones(len(rows), bool)  # rows to sort as a whole: with NaN, or with fewer than k values above -inf
    if 0 < k <= _FEW and len(rows) and rows.dtype.kind == "f":
        values, indices = top_k_rows(rows, k)
        odd = ~(values > -np.inf).all(axis=1)
    indices[odd] = stable_order(np, rows[odd], -1, True)[:, :k]
    if outs[0] is not None:
        np.copyto(outs[0].reshape(len(rows), k), np.take_along_axis(rows, indices, axis=-1))
    if outs[1] is not None:
        np.copyto(outs[1].reshape(len(rows), k), indices)


def top_k_rows(x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k largest of each row of x [R, V], floats: (values [R, k], columns int64 [R, k]), best first; equal values
    go to the lower column.

    One pass keeps the maximum of every block of 64 columns. The k largest lie in the k blocks of largest maxima (of
    equals the leftmost): were one outside, each of those k blocks would hold an element that comes before it. So the
    k rounds of the tournament read 64·k columns a row. argmax takes the first of equals, hence the order is that of a
    stable sort by falling value. Columns are distinct as long as a row has k values above -inf.
    """
    rows, width = x.shape
    if not 0 < k <= width:
        raise ValueError(f"top_k_rows: k must be between 1 and {width}, got {k}")
    row = np.arange(rows)
    if k == 1:
        best = x.argmax(axis=1)
        return x[row, best][:, None], best[:, None]
    block = _BLOCK if width >= _WIDE else _BLOCK // 2
    starts = np.arange(0, width, block)
    if len(starts) <= k:
        return _rounds(x.copy(), k)
    maxima = np.maximum(np.maximum.reduceat(x, starts, axis=1), np.finfo(x.dtype).min)  # used-up blocks lie below
    blocks = np.sort(_rounds(maxima, k)[1], axis=1)
    flat = (row[:, None] * width + starts[blocks])[:, :, None] + np.arange(block)
    items = x.reshape(-1).take(flat.reshape(rows, -1), mode="clip")
    if width % block:  # a short last block was read beyond the row's end
        items[blocks[:, -1] == len(starts) - 1, (k - 1) * block + width % block :] = -np.inf
    values, best = _rounds(items, k)
    return values, starts[blocks[row[:, None], best // block]] + best % block


def _rounds(x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """k times the first maximum of each row of x, which is used up."""
    row = np.arange(len(x))
    columns = np.empty((len(x), k), np.int64)
    values = np.empty((len(x), k), x.dtype)
    for j in range(k):
        best = columns[:, j] = x.argmax(axis=1)
        values[:, j] = x[row, best]
        x[row, best] = -np.inf
    return values, columns
