"""The CUDA kernels of additive_scores and its gradient: launches of additive_scores.cu."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from seqlib.core import dtypes
from seqlib.core.backends.cuda import Source, grid, name_of, pointer
from seqlib.core.op import Attrs, Meta
from seqlib.core.ops.additive_scores import _additive_scores, additive_scores_bwd

_SOURCE = Source(
    "additive_scores.cu",
    [
        name
        for t in ("float", "double", "bf16", "f16")
        for name in (
            f"additive_scores<{t}>",
            f"additive_back<{t}, false>",
            f"additive_back<{t}, true>",
            f"additive_sums<{t}>",
        )
    ],
)


def _sizes(q: Any, k: Any) -> tuple[Any, ...]:
    return tuple(np.int32(n) for n in (q.shape[1], k.shape[1], q.shape[2]))


def forward(outs: Any, ins: Any, scratch: Any) -> None:
    """The kernel of additive_scores."""
    q, k, _ = ins
    _SOURCE.kernel(f"additive_scores<{name_of(q)}>")((q.shape[0] * q.shape[1],), (256,), (outs[0], *ins, *_sizes(q, k)))


def backward(outs: Any, ins: Any, scratch: Any) -> None:
    """The kernel of additive_scores_bwd."""
    gq, gk, gv = outs
    _, q, k, v = ins
    t, parts = name_of(q), scratch[0]
    wanted = ((gq, q, "false", gq is not None or gv is not None), (gk, k, "true", gk is not None))
    for out, x, keys, needed in wanted:
        if needed:
            blocks = (x.shape[0] * x.shape[1], *grid(v.size, 128))
            args = (pointer(out), parts, *ins, *_sizes(q, k))
            _SOURCE.kernel(f"additive_back<{t}, {keys}>")(blocks, (128,), args)
    if gv is not None:
        args = (gv, parts, np.int32(len(parts)), np.int32(v.size))
        _SOURCE.kernel(f"additive_sums<{t}>")(grid(v.size, 32), (32, 32), args)


def _fits(metas: Sequence[Meta | None], attrs: Attrs) -> bool:
    return all(m is not None and m.size > 0 for m in metas)


def _scratch(metas: Sequence[Meta | None], attrs: Attrs) -> list[Meta]:
    """The sums of each query for gv, [B T, A]."""
    q = metas[1]
    assert q is not None
    return [Meta((q.shape[0] * q.shape[1], q.shape[2]), dtypes.sums(q.dtype))]


_additive_scores.cuda(forward, when=_fits)
additive_scores_bwd.cuda(backward, when=_fits, scratch=_scratch)
