"""The numba kernel of embedding_grad, for float32."""

from typing import Any

from seqlib.core.backends.threads import spread
from seqlib.core.ops.bounds import check_bounds
from seqlib.core.ops.jit_cpu import kernel


@kernel
def _add_rows(first, last, g, ids, out):
    """Columns first … last - 1 of all rows, in order: so each sum is made in one order whatever the
    threads."""
    for r in range(out.shape[0]):
        out[r, first:last] = 0.0
    for i in range(ids.size):
        row, target = g[i, first:last], out[ids[i], first:last]
        for j in range(row.size):
            target[j] += row[j]


def gradient(outs: Any, ins: Any, scratch: Any, *, size: int) -> None:
    """The kernel of embedding_grad."""
    g, ids = ins
    check_bounds("embedding_grad", "ids", ids, size, negative=False)
    rows = g.reshape(ids.size, g.shape[-1])
    spread(_add_rows, rows.shape[1], rows.size, rows, ids.reshape(-1), outs[0])
