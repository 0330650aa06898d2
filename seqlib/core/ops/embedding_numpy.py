"""The NumPy kernels of embedding and its gradient."""

from typing import Any

import numpy as np

from seqlib.core.ops.bounds import check_bounds


def forward(outs: Any, ins: Any, scratch: Any) -> None:
    ids, table = ins
    check_bounds("embedding", "ids", ids, table.shape[0], negative=False)
    if ids.size:
        np.take(table, ids, axis=0, out=outs[0], mode="clip")  # checked above; "raise" would buffer the output


def gradient(outs: Any, ins: Any, scratch: Any, *, size: int) -> None:
    g, ids = ins
    out = outs[0]
    out.fill(0)
    check_bounds("embedding_grad", "ids", ids, size, negative=False)
    rows = g.reshape(ids.size, g.shape[-1])
    # A row at a time, in order: faster than np.add.at and np.add.reduceat along axis 0, and nothing to sort.
    for i, row in zip(ids.reshape(-1).tolist(), rows, strict=True):
        target = out[i]
        np.add(target, row, target)
