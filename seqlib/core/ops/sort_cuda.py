"""The CUDA kernel of top_k: launches of sort.cu."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from seqlib.core.backends.cuda import TYPES, Source, aligned, name_of, pointer
from seqlib.core.op import Attrs, Meta
from seqlib.core.ops.sort import _top_k

_LARGEST = 64  # as in sort.cu
_LANES = {"float32": 4, "bfloat16": 8, "float16": 8}
"""Of a load of 16 bytes."""

_SOURCE = Source("sort.cu", [f"top_k<{TYPES[d]}, {lanes}>" for d, wide in _LANES.items() for lanes in (1, wide)])


def _launch(outs: Any, ins: Any, scratch: Any, *, k: int) -> None:
    (x,) = ins
    width, wide = x.shape[-1], _LANES[x.dtype.name]
    lanes = wide if width % wide == 0 and aligned(x) else 1
    args = (pointer(outs[0]), pointer(outs[1]), x, np.int32(width), np.int32(k))
    _SOURCE.kernel(f"top_k<{name_of(x)}, {lanes}>")((x.size // width,), (256,), args)


def _serves(metas: Sequence[Meta | None], attrs: Attrs) -> bool:
    x = metas[0]
    assert x is not None
    return x.size > 0 and 0 < attrs["k"] <= _LARGEST and x.dtype.name in _LANES


_top_k.cuda(_launch, when=_serves)
