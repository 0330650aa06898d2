"""The numba kernels of glu with silu and gelu, for float32."""

from typing import Any

import numpy as np

from seqlib.core.backends.threads import spread
from seqlib.core.ops.blocks import as_rows
from seqlib.core.ops.jit_cpu import exp32, kernel, sigmoid32
from seqlib.core.ops.special_cpu import erf32


@kernel
def _forward(first, last, x, y, gelu):
    half = y.shape[1]
    for r in range(first, last):
        a, b, out = x[r, :half], x[r, half:], y[r]
        if gelu:
            for j in range(half):
                share = np.float32(0.5) * (np.float32(1.0) + erf32(b[j] * np.float32(0.70710678)))
                out[j] = a[j] * b[j] * share
        else:
            for j in range(half):
                out[j] = a[j] * b[j] * sigmoid32(b[j])


@kernel
def _backward(first, last, g, x, gx, gelu):
    half = g.shape[1]
    one = np.float32(1.0)
    for r in range(first, last):
        grad, a, b, to_a, to_b = g[r], x[r, :half], x[r, half:], gx[r, :half], gx[r, half:]
        if gelu:
            for j in range(half):
                v = b[j]
                share = np.float32(0.5) * (one + erf32(v * np.float32(0.70710678)))
                density = np.float32(0.39894228) * exp32(np.float32(-0.5) * v * v)
                to_a[j] = grad[j] * v * share
                to_b[j] = grad[j] * a[j] * (share + v * density)
        else:
            for j in range(half):
                v = b[j]
                s = sigmoid32(v)
                to_a[j] = grad[j] * v * s
                to_b[j] = grad[j] * a[j] * (s * (one + v * (one - s)))


def forward(outs: Any, ins: Any, scratch: Any, *, activation: str) -> None:
    """The kernel of glu."""
    x, y = as_rows(ins[0], outs[0])
    spread(_forward, len(x), x.size, x, y, activation == "gelu")


def backward(outs: Any, ins: Any, scratch: Any, *, activation: str) -> None:
    """The kernel of glu_bwd."""
    g, x, gx = as_rows(*ins, outs[0])
    spread(_backward, len(x), x.size, g, x, gx, activation == "gelu")
