"""The CUDA kernels of take, gather with its gradient, and update_slice: launches of index.cu."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from seqlib.core import dtypes
from seqlib.core.backends.cuda import Source, cuda, grid, name_of
from seqlib.core.op import Attrs, Layout, Meta, contiguous_layout
from seqlib.core.ops.cache import _update_slice
from seqlib.core.ops.index import _gather, _gather_grad, _take

_WIDTHS = {1: "unsigned char", 2: "u16", 4: "u32", 8: "u64"}
_KERNELS = {
    "take": _WIDTHS.values(),
    "update_slice": _WIDTHS.values(),
    "gather": _WIDTHS.values(),
    "gather_grad": ("float", "double", "bf16", "f16"),
}
_NAMES = [f"{kernel}<{t}, {i}>" for kernel, types in _KERNELS.items() for t in types for i in ("int", "i64")]
_SOURCE = Source("index.cu", _NAMES)


def _launch(kernel: str, out: Any, x: Any, index: Any, total: int, *sizes: int) -> None:
    if total:
        t = name_of(x) if kernel == "gather_grad" else _WIDTHS[x.itemsize]
        name = f"{kernel}<{t}, {name_of(index)}>"
        args = (out, x, index, cuda().flag, *map(np.int64, (total, *sizes)))
        _SOURCE.kernel(name)((min(grid(total, 256)[0], 4096),), (256,), args)


def take(outs: Any, ins: Any, scratch: Any, *, axis: int) -> None:
    """The kernel of take. An index out of range gives 0 and is told at the next look at a result."""
    x, index = ins
    _launch("take", outs[0], x, index, outs[0].size, index.size, x.shape[axis], math.prod(x.shape[axis + 1 :]))


def gather(outs: Any, ins: Any, scratch: Any, *, axis: int) -> None:
    """The kernel of gather. An index out of range gives 0 and is told at the next look at a result."""
    x, index = ins
    sizes = index.shape[axis], x.shape[axis], math.prod(x.shape[axis + 1 :])
    _launch("gather", outs[0], x, index, index.size, *sizes)


def gather_gradient(outs: Any, ins: Any, scratch: Any, *, shape: tuple[int, ...], axis: int) -> None:
    """The kernel of gather's gradient."""
    g, index = ins
    inner = math.prod(shape[axis + 1 :])
    _launch("gather_grad", outs[0], g, index, math.prod(shape[:axis]) * inner, index.shape[axis], shape[axis], inner)


def update_slice(outs: Any, ins: Any, scratch: Any, *, axis: int) -> None:
    """The kernel of update_slice. Nothing is written for an index out of range, which is told later."""
    cache, x, index = ins
    if outs[0].data.ptr != cache.data.ptr:
        outs[0][...] = cache
    inner, pieces = math.prod(x.shape[axis + 1 :]), (max(x.size, 1), 1, 0, 0)
    if x.ndim > 2:
        pieces = math.prod(x.shape[2:]), x.shape[1], x.strides[1] // x.itemsize, x.strides[0] // x.itemsize
    _launch("update_slice", outs[0], x, index, x.size, x.shape[axis], cache.shape[axis], inner, *pieces)


def _pieces(index: int, layout: Layout) -> bool:
    """x may be a slice of a wider product, as long as what follows its second axis lies in one piece."""
    rest = layout.shape[2:]
    return index == 1 and len(layout.shape) > 2 and layout.strides[2:] == contiguous_layout(rest).strides


def _floats(metas: Sequence[Meta | None], attrs: Attrs) -> bool:
    return metas[0] is not None and dtypes.is_float(metas[0].dtype)


_take.cuda(take)
_gather.cuda(gather)
_gather_grad.cuda(gather_gradient, when=_floats)
_update_slice.cuda(update_slice, in_place=((0, 0),), strided=_pieces)
