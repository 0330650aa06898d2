"""The NumPy kernels of softmax and log_softmax and their gradients. Rows are [rows, N]."""

from typing import Any

import numpy as np

from seqlib.core.ops.blocks import as_rows, pieces, rows_per_block


def softmax(outs: Any, ins: Any, scratch: Any) -> None:
    x, y = as_rows(ins[0], outs[0])
    if x.size == 0:
        return
    for rows in pieces(len(x), rows_per_block(len(x), x.shape[1], x.itemsize)):
        a, e = x[rows], y[rows]
        np.subtract(a, np.maximum.reduce(a, axis=1, keepdims=True), out=e)
        np.exp(e, out=e)
        np.divide(e, np.add.reduce(e, axis=1, keepdims=True), out=e)


def softmax_gradient(outs: Any, ins: Any, scratch: Any) -> None:
    g, y, gx = as_rows(*ins, outs[0])
    for rows in pieces(len(g), rows_per_block(len(g), g.shape[1], g.itemsize)):
        dots = np.einsum("ij,ij->i", g[rows], y[rows])
        np.subtract(g[rows], dots[:, None], out=gx[rows])
        np.multiply(gx[rows], y[rows], out=gx[rows])


def log_softmax(outs: Any, ins: Any, scratch: Any) -> None:
    x, y = as_rows(ins[0], outs[0])
    if x.size == 0:
        return
    for rows in pieces(len(x), len(scratch[0])):
        a, out = x[rows], y[rows]
        e = scratch[0][: len(a)]
        np.subtract(a, np.maximum.reduce(a, axis=1, keepdims=True), out=out)
        np.exp(out, out=e)
        np.subtract(out, np.log(np.add.reduce(e, axis=1, keepdims=True)), out=out)


def log_softmax_gradient(outs: Any, ins: Any, scratch: Any) -> None:
    g, y, gx = as_rows(*ins, outs[0])
    for rows in pieces(len(g), len(scratch[0])):
        p = scratch[0][: len(g[rows])]
        np.exp(y[rows], out=p)
        np.multiply(p, np.add.reduce(g[rows], axis=1, keepdims=True), out=p)
        np.subtract(g[rows], p, out=gx[rows])
