"""The CUDA kernels that add at positions given by indices: launches of scatter.cu."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from seqlib.core import dtypes
from seqlib.core.backends.cuda import Source, cuda, grid, name_of, pointer
from seqlib.core.op import Attrs, Meta
from seqlib.core.ops.index import _gather_grad, _scatter_add, _take_grad

_FLOATS = ("float", "double", "bf16", "f16")
_SOURCE = Source(
    "scatter.cu", [f"scatter<{t}, {i}, {own}>" for t in _FLOATS for i in ("int", "i64") for own in ("false", "true")]
)
_MOST = 1 << 34  # comparisons


def _scatter(out: Any, x: Any, g: Any, ids: Any, axis: int, own: bool) -> None:
    if not out.size:
        return
    size, inner = out.shape[axis], prod(out.shape[axis + 1 :])
    count = ids.shape[axis] if own else ids.size
    kernel = _SOURCE.kernel(f"scatter<{name_of(out)}, {name_of(ids)}, {'true' if own else 'false'}>")
    numbers = (np.int64(out.size), np.int32(size), np.int32(count), np.int64(inner))
    kernel(grid(out.size, 256), (256,), (out, pointer(x), g, ids, cuda().flag, *numbers))


def take_gradient(outs: Any, ins: Any, scratch: Any, *, shape: tuple[int, ...], axis: int) -> None:
    """The kernel of take_grad."""
    _scatter(outs[0], None, ins[0], ins[1], axis, False)


def gather_gradient(outs: Any, ins: Any, scratch: Any, *, shape: tuple[int, ...], axis: int) -> None:
    """The kernel of gather_grad."""
    _scatter(outs[0], None, ins[0], ins[1], axis, True)


def scatter_add(outs: Any, ins: Any, scratch: Any, *, axis: int) -> None:
    """The kernel of scatter_add."""
    _scatter(outs[0], ins[0], ins[2], ins[1], axis, False)


def _serves(ids: int, along: bool) -> Any:
    """A kernel's `when`: floating values, and not too many comparisons of the indices with every element's place."""

    def when(metas: Sequence[Meta | None], attrs: Attrs) -> bool:
        x, index = metas[0], metas[ids]
        assert x is not None and index is not None
        shape = attrs.get("shape", x.shape)
        return dtypes.is_float(x.dtype) and prod(shape) * (index.shape[attrs["axis"]] if along else index.size) < _MOST

    return when


_take_grad.cuda(take_gradient, when=_serves(1, False))
_gather_grad.cuda(gather_gradient, when=_serves(1, True))
_scatter_add.cuda(scatter_add, when=_serves(1, False), overlap=((0, 0),))
