"""The NumPy kernels of glu and its gradient: rows in pieces that stay in the cache."""

from collections.abc import Callable
from typing import Any

import numpy as np

from seqlib.core.backends.threads import spread
from seqlib.core.ops.blocks import CACHE, as_rows, pieces, rows_per_block
from seqlib.core.ops.special_numpy import erf


def _sigmoid(b: Any) -> tuple[Any, Any]:
    y = 1.0 / (1.0 + np.exp(-b))
    return y, y * (1.0 - y)


def _relu(b: Any) -> tuple[Any, Any]:
    return np.maximum(b, 0.0), (b > 0.0).astype(b.dtype)


def _silu(b: Any) -> tuple[Any, Any]:
    s = 1.0 / (1.0 + np.exp(-b))
    return b * s, s * (1.0 + b * (1.0 - s))


def _gelu(b: Any) -> tuple[Any, Any]:
    share = 0.5 * (1.0 + erf(b * 0.7071067811865476))
    return b * share, share + b * (np.exp(b * b * -0.5) * 0.3989422804014327)


def _gelu_tanh(b: Any) -> tuple[Any, Any]:
    t = np.tanh(0.7978845608028654 * (b + 0.044715 * b * b * b))
    slope = 0.7978845608028654 * (1.0 + 0.134145 * b * b)
    return 0.5 * b * (1.0 + t), 0.5 * (1.0 + t) + 0.5 * b * (1.0 - t * t) * slope


_VALUE_AND_SLOPE: dict[str, Callable[[Any], tuple[Any, Any]]] = {
    "sigmoid": _sigmoid,
    "relu": _relu,
    "silu": _silu,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
}


def forward(outs: Any, ins: Any, scratch: Any, *, activation: str) -> None:
    x, y = as_rows(ins[0], outs[0])
    spread(_forward, len(x), x.size, x, y, activation)


def _forward(first: int, last: int, x: Any, y: Any, activation: str) -> None:
    half = y.shape[1]
    for rows in _pieces(first, last, half, x.itemsize):
        value, _ = _VALUE_AND_SLOPE[activation](x[rows, half:])
        np.multiply(x[rows, :half], value, out=y[rows])


def backward(outs: Any, ins: Any, scratch: Any, *, activation: str) -> None:
    g, x, gx = as_rows(*ins, outs[0])
    spread(_backward, len(x), x.size, g, x, gx, activation)


def _backward(first: int, last: int, g: Any, x: Any, gx: Any, activation: str) -> None:
    half = g.shape[1]
    for rows in _pieces(first, last, half, x.itemsize):
        value, slope = _VALUE_AND_SLOPE[activation](x[rows, half:])
        np.multiply(slope, x[rows, :half], out=slope)
        np.multiply(slope, g[rows], out=gx[rows, half:])
        np.multiply(value, g[rows], out=gx[rows, :half])


def _pieces(first: int, last: int, width: int, itemsize: int) -> Any:
    size = rows_per_block(last - first, width, itemsize, 2 * CACHE)
    return (slice(first + p.start, first + p.stop) for p in pieces(last - first, size))
