"""Matrix products through NumPy's BLAS, split over the pool."""

from __future__ import annotations

from typing import Any

import numpy as np

from seqlib.core.backends.threads import blas_controlled, spread

ROWS = 48
"""Bounds of a split are multiples of this many rows: BLAS kernels work on tiles of 4 to 24 rows, and a row's
bits depend on whether its tile is whole."""


def product(a: Any, b: Any, out: Any) -> None:
    """out = a @ b over the last two axes, batched with broadcasting; operands may be transposed views.

    A large single product is split along the longer side of the result, a batch along its first axis.
    """
    work = out.size * a.shape[-1] if blas_controlled() else 0
    if work < _WORTH:
        np.matmul(a, b, out=out)
    elif out.ndim == 2:
        if out.shape[0] >= out.shape[1]:
            spread(_rows, out.shape[0], work, a, b, out, multiple=ROWS)
        else:
            spread(_columns, out.shape[1], work, a, b, out, multiple=ROWS)
    else:
        batch = out.shape[:-2]
        a, b = (np.broadcast_to(x, batch + x.shape[-2:]) for x in (a, b))
        spread(_batch, out.shape[0], work, a, b, out)


_WORTH = 1 << 20  # multiply-adds, about 20 µs on one core


def _rows(first: int, last: int, a: Any, b: Any, out: Any) -> None:
    np.matmul(a[first:last], b, out=out[first:last])


def _columns(first: int, last: int, a: Any, b: Any, out: Any) -> None:
    np.matmul(a, b[:, first:last], out=out[:, first:last])


def _batch(first: int, last: int, a: Any, b: Any, out: Any) -> None:
    np.matmul(a[first:last], b[first:last], out=out[first:last])
