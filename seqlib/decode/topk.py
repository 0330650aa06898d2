"""The k best of each row of a wide matrix without sorting it; equal values go to the lower column.

R rows, V columns (vocabulary).
"""

from __future__ import annotations

import numpy as np

_BLOCK = 64


def top_k_rows(x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k largest of each row of x [R, V]: (values [R, k], columns int64 [R, k]), best first.

    A tournament: one pass keeps the maximum of every block of 64 columns, then each of the k rounds reads only the
    block maxima and one block, R*V + k*R*(V/64 + 64) reads in all. Blocks are contiguous and argmax takes the first
    of equals, so the order is that of a stable sort by falling value. x must be writable: winners are taken out
    while the rounds run and put back. Columns are distinct as long as a row has k values above -inf.
    """
    rows, width = x.shape
    if not 0 < k <= width:
        raise ValueError(f"top_k_rows: k must be between 1 and {width}, got {k}")
    row = np.arange(rows)
    if k == 1:
        best = x.argmax(axis=1)
        return x[row, best][:, None], best[:, None]
    starts = np.arange(0, width, _BLOCK)
    maxima = np.maximum.reduceat(x, starts, axis=1)
    lane = np.arange(_BLOCK)
    values = np.empty((rows, k), x.dtype)
    columns = np.empty((rows, k), np.int64)
    for j in range(k):
        block = maxima.argmax(axis=1)
        inside = np.minimum(
            starts[block][:, None] + lane, width - 1
        )  # the last block repeats the last column
        best = inside[row, x[row[:, None], inside].argmax(axis=1)]
        values[:, j] = x[row, best]
        columns[:, j] = best
        x[row, best] = -np.inf
        maxima[row, block] = x[row[:, None], inside].max(axis=1)
    for j in reversed(range(k)):
        x[row, columns[:, j]] = values[:, j]
    return values, columns
