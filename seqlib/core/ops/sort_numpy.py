"""The NumPy kernel of top_k."""

from __future__ import annotations

from typing import Any

import numpy as np

from seqlib.core.ops.sort import stable_order


def top_k(outs: Any, ins: Any, scratch: Any, *, k: int) -> None:
    rows = ins[0].reshape(-1, ins[0].shape[-1]) if ins[0].size else ins[0].reshape(0, max(ins[0].shape[-1], 1))
    indices = _top_indices(rows, k)
    if outs[0] is not None:
        np.copyto(outs[0].reshape(len(rows), k), np.take_along_axis(rows, indices, axis=-1))
    if outs[1] is not None:
        np.copyto(outs[1].reshape(len(rows), k), indices)


_BLOCK = 128


def _top_indices(rows: Any, k: int) -> Any:
    """[R, k] indices of the greatest of each row [R, V].

    The k-th greatest of the maxima of blocks is a lower bound for the k-th greatest element, so only the few elements
    that reach it are sorted: by row, then by value downwards, then by index. A row with NaN is sorted as a whole.
    """
    size = rows.shape[1]
    blocks = size // _BLOCK
    if k == 0 or blocks < 2 * k:
        return stable_order(np, rows, -1, True)[:, :k]
    whole = rows[:, : blocks * _BLOCK].reshape(len(rows), blocks, _BLOCK).max(axis=-1)
    bound = np.partition(whole, blocks - k, axis=-1)[:, blocks - k, None]
    row, column = np.divmod(np.flatnonzero(rows >= bound), size)  # np.nonzero of two axes is 20 times slower
    values = rows[row, column]
    order = np.lexsort((column, -(values if values.dtype.kind == "f" else values.astype(np.int64)), row))
    first = np.searchsorted(row, np.arange(len(rows)))
    odd = np.isnan(rows.max(axis=-1)) if rows.dtype.kind == "f" else np.zeros(len(rows), bool)
    indices = np.empty((len(rows), k), np.int64)
    indices[~odd] = column[order[first[~odd, None] + np.arange(k)]]
    indices[odd] = stable_order(np, rows[odd], -1, True)[:, :k]
    return indices
