"""The numba kernel of products of a few rows with a matrix that lies column after column: it reads the matrix once."""

from typing import Any

import numpy as np

from seqlib.core.backends.threads import spread
from seqlib.core.ops.jit_cpu import kernel


@kernel
def _columns(first, last, a, w, out):
    """Columns first … last - 1 of a [M, K] wᵀ for w [N, K], four at a time: into out [M, N]."""
    whole = last - (last - first) % 4
    for m in range(len(a)):
        row, to = a[m], out[m]
        for n in range(first, whole, 4):
            w0, w1, w2, w3 = w[n], w[n + 1], w[n + 2], w[n + 3]
            s0 = s1 = s2 = s3 = np.float32(0.0)
            for k in range(row.size):
                s0 += row[k] * w0[k]
                s1 += row[k] * w1[k]
                s2 += row[k] * w2[k]
                s3 += row[k] * w3[k]
            to[n], to[n + 1], to[n + 2], to[n + 3] = s0, s1, s2, s3
        for n in range(whole, last):
            column, total = w[n], np.float32(0.0)
            for k in range(row.size):
                total += row[k] * column[k]
            to[n] = total


def product(a: Any, b: Any, out: Any) -> None:
    """out = a @ b for float32 a [M, K] and b [K, N], whose columns are contiguous."""
    spread(_columns, b.shape[1], a.shape[0] * b.size, np.ascontiguousarray(a), b.T, out, multiple=4)
