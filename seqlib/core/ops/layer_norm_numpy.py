"""The NumPy kernels of layer_norm and its gradient: rows in pieces that stay in the cache."""

from typing import Any

import numpy as np

from seqlib.core.ops.blocks import as_rows, pieces, rows_per_block


def forward(outs: Any, ins: Any, scratch: Any, *, eps: float) -> None:
    (x,) = as_rows(ins[0])
    y = None if outs[0] is None else outs[0].reshape(x.shape)
    w, b = ins[1], ins[2]
    width = x.shape[1]
    means, rstds = (None if o is None else o.reshape(-1) for o in outs[1:])
    for rows in pieces(len(x), rows_per_block(len(x), width, x.itemsize)):
        out = np.empty_like(x[rows]) if y is None else y[rows]
        center = np.einsum("ij->i", x[rows])
        center /= width
        np.subtract(x[rows], center[:, None], out=out)
        rstd = np.einsum("ij,ij->i", out, out)
        rstd /= width
        rstd += eps
        np.sqrt(rstd, out=rstd)
        np.divide(1.0, rstd, out=rstd)
        np.multiply(out, rstd[:, None], out=out)
        np.multiply(out, w, out=out)
        np.add(out, b, out=out)
        if means is not None:
            means[rows] = center
        if rstds is not None:
            rstds[rows] = rstd


def backward(outs: Any, ins: Any, scratch: Any) -> None:
    g, x = as_rows(ins[0], ins[1])
    w, center, rstd = ins[2], ins[3].reshape(-1), ins[4].reshape(-1)
    gx = None if outs[0] is None else outs[0].reshape(g.shape)
    gw, gb = outs[1], outs[2]
    width, column = g.shape[1], scratch[2]
    for total in (gw, gb):
        if total is not None:
            total.fill(0)
    for rows in pieces(len(g), len(scratch[0])):
        grad = g[rows]
        unit, product = scratch[0][: len(grad)], scratch[1][: len(grad)]
        np.subtract(x[rows], center[rows][:, None], out=unit)
        np.multiply(unit, rstd[rows][:, None], out=unit)
        if gb is not None:
            np.add(gb, np.add.reduce(grad, axis=0, out=column), out=gb)
        if gw is not None:
            np.multiply(grad, unit, out=product)
            np.add(gw, np.add.reduce(product, axis=0, out=column), out=gw)
        if gx is None:
            continue
        np.multiply(grad, w, out=product)
        along = np.einsum("ij,ij->i", product, unit)
        along /= -width
        offset = np.einsum("ij->i", product)
        offset /= width
        np.multiply(unit, along[:, None], out=unit)
        np.add(product, unit, out=product)
        np.subtract(product, offset[:, None], out=product)
        np.multiply(product, rstd[rows][:, None], out=gx[rows])
