"""The CUDA kernels of layer_norm: launches of layer_norm.cu."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from seqlib.core import dtypes
from seqlib.core.backends.cuda import Source, aligned, grid, name_of, pointer
from seqlib.core.op import Attrs, Meta
from seqlib.core.ops.layer_norm import _layer_norm, layer_norm_bwd

_WARPS = 4
_PAIRS = [(t, w) for t in ("float", "bf16", "f16") for w in (t, "float")] + [("double", "double")]
_LANES = {"float": 4, "bf16": 8, "f16": 8, "double": 2}
_GROUPS = (1, 2, 4, 8)


def _names() -> list[str]:
    names: list[str] = []
    for t, w in dict.fromkeys(_PAIRS):
        for lanes in (1, _LANES[t]):
            names.append(f"layer_norm_forward<{t}, {w}, {lanes}>")
            names += [f"layer_norm_backward<{t}, {w}, {lanes}, {groups}>" for groups in _groups(lanes)]
        names.append(f"layer_norm_sums<{w}, {'double' if t == 'double' else 'float'}>")
    return list(dict.fromkeys(names))


def _groups(lanes: int) -> tuple[int, ...]:
    """How many groups of columns a lane may own: at most 32 values, which fit its registers."""
    return tuple(g for g in (1, 2, 4, 8, 16, 32) if g * lanes <= 32)


_SOURCE = Source("layer_norm.cu", _names())


def _lanes(width: int, *arrays: Any) -> int:
    """Values moved at a time: as many as 16 bytes of x hold, 1 where rows are not aligned to that."""
    lanes = _LANES[name_of(arrays[0])]
    wide = width % lanes == 0 and aligned(*arrays[:2]) and aligned(*arrays[2:], nbytes=lanes * 4)
    return lanes if wide else 1


def serves(metas: Sequence[Meta | None], attrs: Attrs) -> bool:
    """The forward kernel's `when`: weights of x's dtype, or float32 beside 16-bit values."""
    x, w, b = metas[:3]
    assert x is not None and w is not None and b is not None
    return x.size > 0 and w.dtype == b.dtype and _fit(x, w)


def _fit(x: Meta, w: Meta) -> bool:
    return w.dtype == x.dtype or (dtypes.is_half(x.dtype) and w.dtype == dtypes.float32)


def serves_backward(metas: Sequence[Meta | None], attrs: Attrs) -> bool:
    """The backward kernel's `when`: as forward, and a row fits a warp's registers (1,024 values)."""
    g, x, w, mean, rstd = metas
    assert g is not None and x is not None and w is not None and mean is not None and rstd is not None
    statistics = mean.dtype == rstd.dtype == dtypes.sums(x.dtype)
    return x.size > 0 and g.dtype == x.dtype and statistics and _fit(x, w) and w.size <= 1024


def forward(outs: Any, ins: Any, scratch: Any, *, eps: float) -> None:
    """The kernel of layer_norm."""
    x, w, b = ins
    width = x.shape[-1]
    rows = x.size // width
    lanes = _lanes(width, x, outs[0], w, b)
    kernel = _SOURCE.kernel(f"layer_norm_forward<{name_of(x)}, {name_of(w)}, {lanes}>")
    args = (*map(pointer, outs), x, w, b, np.int32(rows), np.int32(width), np.float64(eps))
    kernel(grid(rows, _WARPS), (32 * _WARPS,), args)


def _blocks(rows: int) -> int:
    """Parts that rows are cut into for the sums over rows; a function of the shape alone, so that bits are too."""
    return max(1, min(264, rows // 16))


def backward_scratch(metas: Sequence[Meta | None], attrs: Attrs) -> list[Meta]:
    """The sums of each block of rows, [blocks, 2, D] in the type of computation."""
    x = metas[1]
    assert x is not None
    width = x.shape[-1]
    wide = dtypes.float64 if x.dtype == dtypes.float64 else dtypes.float32
    return [Meta((_blocks(x.size // width), 2, width), wide)]


def backward(outs: Any, ins: Any, scratch: Any) -> None:
    """The kernel of layer_norm_bwd."""
    g, x, w, means, rstds = ins
    width, parts = x.shape[-1], scratch[0]
    rows, blocks = x.size // width, len(parts)
    lanes = _lanes(width, x, outs[0], g, w)
    groups = next(n for n in _groups(lanes) if n * lanes * 32 >= width)
    kernel = _SOURCE.kernel(f"layer_norm_backward<{name_of(x)}, {name_of(w)}, {lanes}, {groups}>")
    args = (pointer(outs[0]), parts, g, x, w, means, rstds, np.int32(rows), np.int32(width))
    kernel((blocks,), (32 * _WARPS,), args, shared_mem=2 * width * parts.itemsize)
    if outs[1] is None and outs[2] is None:
        return
    sums = _SOURCE.kernel(f"layer_norm_sums<{name_of(w)}, {name_of(parts)}>")
    args = (pointer(outs[1]), pointer(outs[2]), parts, np.int32(blocks), np.int32(width))
    sums((*grid(width, 32), 2), (32, 8), args)


_layer_norm.cuda(forward, when=serves, overlap=((0, 0),))
layer_norm_bwd.cuda(backward, when=serves_backward, scratch=backward_scratch)
