"""The NumPy kernels of take, gather, scatter_add and one_hot."""

from typing import Any

import numpy as np

from seqlib.core.ops.bounds import check_bounds
from seqlib.core.ops.index import flat_positions


def add_rows(out: Any, index: Any, updates: Any) -> None:
    """out[index[i]] += updates[i] for i in order; `index` is 1-d and in range, rows may have any number of
    axes.

    np.add.at is fast for scalars only. Rows are sorted by their index, stably, and each run of equal
    indices summed at once.
    """
    if not updates.size:
        return
    if updates.ndim == 1:
        np.add.at(out, index, updates)
        return
    order = np.argsort(index, kind="stable")
    by_index = index[order]
    first = np.flatnonzero(np.concatenate(([True], by_index[1:] != by_index[:-1])))
    if updates[0].size < 128:
        out[by_index[first]] += np.add.reduceat(updates[order], first, axis=0)
        return
    for start, stop in zip(first.tolist(), [*first[1:].tolist(), len(order)], strict=True):
        row = out[by_index[start]]
        for i in order[start:stop].tolist():
            np.add(row, updates[i], out=row)


def _add_along(out: Any, index: Any, updates: Any, axis: int) -> None:
    """out[..., index, ...] += updates, where `index` replaces `axis` of `out`."""
    flat = index.reshape(-1)
    flat = np.where(flat < 0, flat + out.shape[axis], flat)
    outer = out.shape[:axis]
    rows = np.moveaxis(updates.reshape(*outer, flat.size, *out.shape[axis + 1 :]), axis, 0)
    add_rows(np.moveaxis(out, axis, 0), flat, rows)


def take(outs: Any, ins: Any, scratch: Any, *, axis: int) -> None:
    x, indices = ins
    check_bounds("take", "indices", indices, x.shape[axis])
    if outs[0].size:
        # Any mode but "raise" lets NumPy write without a buffer; "wrap" gives negative indices their meaning.
        np.take(x, indices, axis=axis, out=outs[0], mode="wrap")


def take_gradient(outs: Any, ins: Any, scratch: Any, *, shape: tuple[int, ...], axis: int) -> None:
    outs[0].fill(0)
    _add_along(outs[0], ins[1], ins[0], axis)


def scatter_add(outs: Any, ins: Any, scratch: Any, *, axis: int) -> None:
    x, indices, updates = ins
    check_bounds("scatter_add", "indices", indices, x.shape[axis])
    np.copyto(outs[0], x)
    _add_along(outs[0], indices, updates.astype(x.dtype, copy=False), axis)


def gather(outs: Any, ins: Any, scratch: Any, *, axis: int) -> None:
    x, indices = ins
    check_bounds("gather", "indices", indices, x.shape[axis])
    if outs[0].size:
        np.take(x.reshape(-1), flat_positions(np, indices, x.shape, axis), out=outs[0], mode="clip")


def gather_gradient(outs: Any, ins: Any, scratch: Any, *, shape: tuple[int, ...], axis: int) -> None:
    outs[0].fill(0)
    np.add.at(outs[0].reshape(-1), flat_positions(np, ins[1], shape, axis).reshape(-1), ins[0].reshape(-1))


def one_hot(outs: Any, ins: Any, scratch: Any, *, depth: int, dtype: Any) -> None:
    ids = ins[0].reshape(-1)
    check_bounds("one_hot", "ids", ids, depth, negative=False)
    outs[0].fill(0)
    outs[0].reshape(ids.size, depth)[np.arange(ids.size), ids] = 1
