"""The NumPy kernels of rms_norm and its gradient: rows in pieces that stay in the cache."""

from typing import Any

import numpy as np

from seqlib.core.ops.blocks import as_rows, pieces, rows_per_block


def forward(outs: Any, ins: Any, scratch: Any, *, eps: float) -> None:
    (x,), w = as_rows(ins[0]), ins[1]
    width = x.shape[1]
    y = None if outs[0] is None else outs[0].reshape(x.shape)
    rstds = None if outs[1] is None else outs[1].reshape(len(x))
    for rows in pieces(len(x), rows_per_block(len(x), width, x.itemsize)):
        rstd = np.einsum("ij,ij->i", x[rows], x[rows])
        rstd /= width
        rstd += eps
        np.sqrt(rstd, out=rstd)
        np.divide(1.0, rstd, out=rstd)
        if rstds is not None:
            rstds[rows] = rstd
        if y is not None:
            np.multiply(x[rows], rstd[:, None], out=y[rows])
            np.multiply(y[rows], w, out=y[rows])


def backward(outs: Any, ins: Any, scratch: Any) -> None:
    g, x = as_rows(ins[0], ins[1])
    w, rstd = ins[2], ins[3].reshape(-1, 1)
    gx = None if outs[0] is None else outs[0].reshape(g.shape)
    gw = outs[1]
    if gw is not None:
        gw.fill(0)
    for rows in pieces(len(g), len(scratch[0])):
        grad = g[rows]
        unit, product = scratch[0][: len(grad)], scratch[1][: len(grad)]
        np.multiply(x[rows], rstd[rows], out=unit)
        np.multiply(grad, unit, out=product)
        if gw is not None:
            np.add(gw, np.add.reduce(product, axis=0, out=scratch[2]), out=gw)
        if gx is not None:
            along = np.einsum("ij,j->i", product, w)
            along /= -g.shape[1]
            np.multiply(unit, along[:, None], out=unit)
            np.multiply(grad, w, out=product)
            np.add(product, unit, out=product)
            np.multiply(product, rstd[rows], out=gx[rows])
