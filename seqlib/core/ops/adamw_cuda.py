"""The CUDA kernels of adamw and global_norm: launches of adamw.cu."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from seqlib.core import dtypes
from seqlib.core.backends.cuda import Source, name_of, pointer
from seqlib.core.op import Attrs, Meta
from seqlib.core.ops.adamw import _adamw, _global_norm, adamw_copy

_FLOATS = ("float", "double", "bf16", "f16")
_SOURCE = Source(
    "adamw.cu", [*(f"adamw<{t}>" for t in ("bf16", "f16")), *(f"squares<{t}>" for t in _FLOATS), "root_of_sum"]
)
_BLOCK = 512
_SEVERAL = 64
_BLOCKS = 64  # of one tensor, for its sum of squares
_TENSORS = np.dtype([("at", "u8", (_SEVERAL,)), ("size", "i8", (_SEVERAL,))], align=True)


def forward(
    outs: Any, ins: Any, scratch: Any, *, beta1: float, beta2: float, eps: float, weight_decay: float, copy: Any = None
) -> None:
    """The kernel of adamw and adamw_copy, float32."""
    size = ins[0].size
    if not size:
        return
    numbers = (np.float64(beta1), np.float64(beta2), np.float32(eps), np.float32(weight_decay))
    outs = [*outs, None][:4]
    args = (*map(pointer, outs), *ins, np.int64(size), *numbers)
    blocks = min(-(-size // 256), 132 * 16)
    _SOURCE.kernel(f"adamw<{'f16' if copy == dtypes.float16 else 'bf16'}>")((blocks,), (256,), args)


def norm_scratch(metas: Sequence[Meta | None], attrs: Attrs) -> list[Meta]:
    """A sum of squares for each block of each tensor, float64."""
    return [Meta((max(1, len(metas)), _BLOCKS), dtypes.float64)]


def global_norm(outs: Any, ins: Any, scratch: Any) -> None:
    """The kernel of global_norm."""
    parts = scratch[0]
    by_type: dict[str, list[Any]] = {}
    for x in ins:
        by_type.setdefault(name_of(x), []).append(x)
    row = 0
    for t, xs in by_type.items():
        for start in range(0, len(xs), _SEVERAL):
            some = xs[start : start + _SEVERAL]
            tensors = np.zeros((), _TENSORS)
            tensors["at"][: len(some)] = [x.data.ptr for x in some]
            tensors["size"][: len(some)] = [x.size for x in some]
            _SOURCE.kernel(f"squares<{t}>")((_BLOCKS, len(some)), (_BLOCK,), (parts[row:], tensors))
            row += len(some)
    if not row:
        parts.fill(0)
    _SOURCE.kernel("root_of_sum")((1,), (_BLOCK,), (outs[0], parts, np.int32(parts.size)))


def _all_float32(metas: Sequence[Meta | None], attrs: Attrs) -> bool:
    half = dtypes.is_half(attrs.get("copy", dtypes.bfloat16))
    return half and all(m is not None and m.dtype == dtypes.float32 for m in metas)


_adamw.cuda(forward, when=_all_float32, overlap=((0, 0), (1, 2), (2, 3)))
adamw_copy.cuda(forward, when=_all_float32, overlap=((0, 0), (1, 2), (2, 3)))
_global_norm.cuda(global_norm, scratch=norm_scratch)
