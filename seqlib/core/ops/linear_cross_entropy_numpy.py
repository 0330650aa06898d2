"""The NumPy kernel of linear_cross_entropy, a block of rows at a time; the numba one has its own `_losses`."""

from collections.abc import Callable
from typing import Any

import numpy as np

from seqlib.core.backends import onednn_cpu as onednn
from seqlib.core.backends.threads import spread
from seqlib.core.modes import half_products
from seqlib.core.ops.blocks import CACHE, pieces, rows_per_block
from seqlib.core.ops.cross_entropy_numpy import check_targets
from seqlib.core.ops.product_numpy import ROWS, by_onednn
from seqlib.core.ops.product_numpy import product as matrix_product


def run(
    outs: Any,
    ins: Any,
    scratch: Any,
    *,
    smoothing: float,
    ignore_index: int,
    want_x: bool,
    want_w: bool,
    losses: Callable[[Any, Any, Any, float, bool], float],
) -> None:
    """The kernel, for a given function of a block's logits (see `_losses`)."""
    x, w, targets, weights = ins
    gx, gw = outs[2] if want_x else None, outs[3] if want_w else None
    counted = check_targets("linear_cross_entropy", targets, len(w), ignore_index)
    everything = len(counted) == len(x)
    if gx is not None and not everything:
        gx.fill(0)
    if gw is not None and not len(counted):
        gw.fill(0)
    loss = 0.0
    for piece in pieces(len(counted), len(scratch[0])):
        n = piece.stop - piece.start
        rows, logits = counted[piece], scratch[0][:n]
        # Ignored rows (padding) are left out of the products.
        xs = x[piece] if everything else np.take(x, rows, axis=0, out=scratch[1][:n], mode="clip")
        matrix_product(xs, w.T, logits)
        factors = None if weights is None else weights[rows]
        loss += losses(logits, targets[rows], factors, smoothing, gx is not None or gw is not None)
        if gx is not None:
            product = gx[piece] if everything else scratch[2][:n]
            matrix_product(logits, w, product)
            if not everything:
                gx[rows] = product
        if gw is not None:
            _add_weight_gradient(gw, logits, xs, piece.start == 0)
    weight = len(counted) if weights is None else weights[counted].sum(dtype=np.float64)
    for out, value in zip(outs, (loss, weight), strict=False):
        if out is not None:
            out[...] = value


def _losses(logits: Any, targets: Any, factors: Any, smoothing: float, want_grad: bool) -> float:
    """The sum of the losses of a block, times the rows' factors (None: 1); its logits become their gradients if
    wanted, else they are spoilt."""
    classes = logits.shape[1]
    total = 0.0
    for rows in pieces(len(logits), rows_per_block(len(logits), classes, logits.itemsize, 2 * CACHE)):
        a, t = logits[rows], targets[rows]
        at = np.arange(len(t)), t
        np.subtract(a, np.maximum.reduce(a, axis=1, keepdims=True), out=a)
        loss = a[at] * -(1.0 - smoothing)
        if smoothing:
            loss -= np.add.reduce(a, axis=1) * (smoothing / classes)
        np.exp(a, out=a)
        norm = np.add.reduce(a, axis=1)
        loss += np.log(norm)
        if factors is not None:
            loss *= factors[rows]
        total += float(loss.sum(dtype=np.float64))
        if want_grad:
            np.multiply(a, (1.0 / norm)[:, None], out=a)
            if smoothing:
                np.subtract(a, smoothing / classes, out=a)
            a[at] -= 1.0 - smoothing
            if factors is not None:
                np.multiply(a, factors[rows, None], out=a)
    return total


def _add_weight_gradient(gw: Any, g: Any, x: Any, first: bool) -> None:
    """gw = gᵀ x for the first block, gw += gᵀ x for the others."""
    if first:
        matrix_product(g.T, x, gw)
    elif by_onednn(g.T, x, gw):
        onednn.product(g.T, x, gw, half_products(), add=True)
    else:
        spread(_add_rows, len(gw), gw.size, gw, g, x, multiple=ROWS)


def _add_rows(first: int, last: int, gw: Any, g: Any, x: Any) -> None:
    # In pieces of rows that stay in the cache between the product and the addition.
    part = np.empty((rows_per_block(last - first, x.shape[1], x.itemsize), x.shape[1]), x.dtype)
    for rows in pieces(last - first, len(part)):
        start, stop = first + rows.start, first + rows.stop
        product = part[: stop - start]
        np.matmul(g[:, start:stop].T, x, out=product)
        np.add(gw[start:stop], product, out=gw[start:stop])


def forward(outs: Any, ins: Any, scratch: Any, **attrs: Any) -> None:
    """The kernel of linear_cross_entropy."""
    run(outs, ins, scratch, **attrs, losses=_losses)
