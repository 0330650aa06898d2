"""The CUDA kernel of top_k: launches of sort.cu."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from seqlib.core.backends.cuda import TYPES, Source, name_of, pointer
from seqlib.core.op import Attrs, Meta
from seqlib.core.ops.sort import _top_k

_DTYPES = ("float32", "bfloat16", "float16")
_LARGEST = 64  # as in sort.cu
_SOURCE = Source("sort.cu", [f"top_k<{TYPES[dtype]}>" for dtype in _DTYPES])


def _launch(outs: Any, ins: Any, scratch: Any, *, k: int) -> None:
    (x,) = ins
    args = (pointer(outs[0]), pointer(outs[1]), x, np.int32(x.shape[-1]), np.int32(k))
    _SOURCE.kernel(f"top_k<{name_of(x)}>")((x.size // x.shape[-1],), (256,), args)


def _serves(metas: Sequence[Meta | None], attrs: Attrs) -> bool:
    x = metas[0]
    assert x is not None
    return x.size > 0 and 0 < attrs["k"] <= _LARGEST and x.dtype.name in _DTYPES


_top_k.cuda(_launch, when=_serves)
