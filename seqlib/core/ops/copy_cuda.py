"""The CUDA kernels of ops that move values or make them from nothing: cast, concatenate, unstack, pad, full, iota."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from seqlib.core import dtypes
from seqlib.core.backends.base import Bound
from seqlib.core.backends.cuda import Source, grid, name_of
from seqlib.core.backends.stream_cuda import merge, pieces, place
from seqlib.core.op import Attrs, Meta
from seqlib.core.ops import create, join
from seqlib.core.ops import shape as shape_


def cast(outs: Any, ins: Any, scratch: Any, *, dtype: Any) -> None:
    """The kernel of cast."""
    outs[0][...] = ins[0]


def slice_gradient(outs: Any, ins: Any, scratch: Any, *, shape: Any, starts: Any, steps: Any) -> None:
    """The kernel of slice_grad."""
    outs[0].fill(0)
    outs[0][shape_.block_index(ins[0].shape, starts, steps)] = ins[0]


def pad(outs: Any, ins: Any, scratch: Any, *, widths: Any, value: float) -> None:
    """The kernel of pad."""
    outs[0].fill(value)
    outs[0][tuple(slice(before, before + n) for (before, _), n in zip(widths, ins[0].shape, strict=True))] = ins[0]


def full(outs: Any, ins: Any, scratch: Any, *, shape: Any, value: float, dtype: Any) -> None:
    """The kernel of full."""
    outs[0].fill(value)


def concatenate(outs: Any, ins: Any, scratch: Any, *, axis: int) -> None:
    """The kernel of concatenate."""
    several([(concatenate, outs, ins, scratch, {"axis": axis}, False)])


def unstack(outs: Any, ins: Any, scratch: Any, *, axis: int) -> None:
    """The kernel of unstack: one copy for each part that is needed."""
    for i, out in enumerate(outs):
        if out is not None:
            out[...] = ins[0][(slice(None),) * axis + (i,)]


def several(launches: Sequence[Bound]) -> None:
    """Several joins: what is one stretch in both arrays is copied by one launch for all."""
    stretches: list[tuple[int, int, int]] = []
    for _, (out, *_), ins, _, attrs, _ in launches:
        axis, start = attrs["axis"], 0
        for x in ins:
            stop = start + x.shape[axis]
            part = out[(slice(None),) * axis + (slice(start, stop),)]
            start = stop
            if part.flags.c_contiguous and x.flags.c_contiguous and x.dtype == part.dtype:
                stretches += [(part.data.ptr, x.data.ptr, x.nbytes)] if x.size else []
            else:
                part[...] = x
    for some in pieces(stretches, _COPIES):
        struct = np.zeros((), _STRETCHES)
        struct["to"][: len(some)], struct["from"][: len(some)] = ([s[i] for s in some] for i in (0, 1))
        _SOURCE.kernel("copies")((place(struct, [s[2] for s in some], _CHUNK),), (256,), (struct,))


_COPIES, _CHUNK = 64, 16384  # as in create.cu
_STRETCHES = np.dtype(
    [("to", "u8", _COPIES), ("from", "u8", _COPIES), ("size", "i8", _COPIES), ("first", "i4", _COPIES)], align=True
)
_WIDE = {"float": "double", "double": "double", "int": "i64", "i64": "i64"}
_SOURCE = Source("create.cu", [*(f"iota<{t}, {wide}>" for t, wide in _WIDE.items()), "copies"])


def iota(outs: Any, ins: Any, scratch: Any, *, start: float, step: float, size: int, dtype: Any) -> None:
    """The kernel of iota."""
    y = outs[0]
    t = name_of(y)
    number = np.float64 if _WIDE[t] == "double" else np.int64
    if size:
        kernel = _SOURCE.kernel(f"iota<{t}, {_WIDE[t]}>")
        kernel(grid(size, 256), (256,), (y, number(start), number(step), np.int64(size)))


def _not_half(metas: Sequence[Meta | None], attrs: Attrs) -> bool:
    return not dtypes.is_half(dtypes.canonical(attrs["dtype"]))


create.iota.cuda(iota, when=_not_half)
shape_._slice_grad.cuda(slice_gradient, strided=True)
shape_._cast.cuda(cast, strided=True)
create._full.cuda(full)
join._pad.cuda(pad, strided=True)
join._concatenate.cuda(concatenate, strided=True)
join._unstack.cuda(unstack, strided=True)
merge(concatenate, several)
