"""The CUDA kernel of cross_entropy_bwd: a launch of cross_entropy_bwd.cu."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from seqlib.core import dtypes
from seqlib.core.backends.cuda import Source, aligned, name_of, pointer
from seqlib.core.op import Attrs, Meta
from seqlib.core.ops.cross_entropy import cross_entropy_bwd

_LANES = {"float": 4, "double": 2, "bf16": 8, "f16": 8}
_SOURCE = Source(
    "cross_entropy_bwd.cu",
    [f"cross_entropy_bwd<{t}, {i}, {n}>" for t, most in _LANES.items() for i in ("int", "i64") for n in (1, most)],
)


def backward(outs: Any, ins: Any, scratch: Any, *, smoothing: float, ignore_index: int) -> None:
    """The kernel of cross_entropy_bwd."""
    g, logits, targets, lse, weights = ins
    classes, t = logits.shape[1], name_of(logits)
    lanes = _LANES[t] if classes % _LANES[t] == 0 and aligned(outs[0], logits) else 1
    args = (outs[0], g, logits, targets, lse, pointer(weights), np.int32(classes))
    kernel = _SOURCE.kernel(f"cross_entropy_bwd<{t}, {name_of(targets)}, {lanes}>")
    kernel((len(logits),), (256,), (*args, np.float64(smoothing), np.int64(ignore_index)))


def _fits(metas: Sequence[Meta | None], attrs: Attrs) -> bool:
    g, logits, _, lse, weights = metas
    assert g is not None and logits is not None and lse is not None
    sums = dtypes.sums(logits.dtype)
    return logits.size > 0 and g.dtype == lse.dtype == sums and (weights is None or weights.dtype == logits.dtype)


cross_entropy_bwd.cuda(backward, when=_fits, overlap=((0, 1),))
