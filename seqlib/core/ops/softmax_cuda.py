"""The CUDA kernels of softmax and log_softmax, of their gradients, and of logsumexp: launches of softmax.cu."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from seqlib.core.backends.cuda import Source, aligned, grid, name_of
from seqlib.core.op import Attrs, Meta
from seqlib.core.ops.softmax import _log_softmax, _softmax, log_softmax_bwd, softmax_bwd
from seqlib.core.ops.statistics import _logsumexp

_LANES = {"float": 4, "bf16": 8, "f16": 8, "double": 2}
"""Of a load of 16 bytes."""

_SOURCE = Source(
    "softmax.cu",
    [
        f"{kernel}<{t}, {group}, {log}>"
        for kernel in ("softmax", "softmax_gradient")
        for t in ("float", "bf16", "f16", "double")
        for group in (32, 256)
        for log in ("false", "true")
    ]
    + [f"logsumexp<{t}, {lanes}>" for t, wide in _LANES.items() for lanes in (1, wide)],
)


def _launch(kernel: str, log: bool, outs: Any, ins: Any, scratch: Any) -> None:
    width = outs[0].shape[-1]
    rows, group = outs[0].size // width, 32 if width <= 1024 else 256
    name = f"{kernel}<{name_of(outs[0])}, {group}, {'true' if log else 'false'}>"
    blocks = grid(rows, 8) if group == 32 else (rows,)
    _SOURCE.kernel(name)(blocks, (256,), (outs[0], *ins, np.int64(rows), np.int32(width)))


def _serves(metas: Sequence[Meta | None], attrs: Attrs) -> bool:
    """The kernels' `when`: something to do, of one dtype."""
    given = [m for m in metas if m is not None]
    return given[0].size > 0 and all(m.dtype == given[0].dtype for m in given)


for _op, _kernel, _log in (
    (_softmax, "softmax", False),
    (_log_softmax, "softmax", True),
    (softmax_bwd, "softmax_gradient", False),
    (log_softmax_bwd, "softmax_gradient", True),
):
    _op.cuda(partial(_launch, _kernel, _log), when=_serves, overlap=((0, 0),))


def _logsumexp_launch(outs: Any, ins: Any, scratch: Any, **attrs: Any) -> None:
    (x,) = ins
    name, width = name_of(x), x.shape[-1]
    lanes = _LANES[name] if width % _LANES[name] == 0 and aligned(x) else 1
    _SOURCE.kernel(f"logsumexp<{name}, {lanes}>")((outs[0].size,), (256,), (outs[0], x, np.int32(width)))


def _along_rows(metas: Sequence[Meta | None], attrs: Attrs) -> bool:
    x = metas[0]
    return x is not None and x.size > 0 and attrs["axis"] == (len(x.shape) - 1,)


_logsumexp.cuda(_logsumexp_launch, when=_along_rows)
