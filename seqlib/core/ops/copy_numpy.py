"""The NumPy kernels of ops that move values: full, cast, concatenate, unstack, pad, the gradient of a slice, and
update_slice.
"""

from typing import Any

import numpy as np

from seqlib.core.ops.cache import block
from seqlib.core.ops.shape import block_index


def full(outs: Any, ins: Any, scratch: Any, *, shape: Any, value: float, dtype: Any) -> None:
    """The kernel of full."""
    outs[0].fill(value)


def cast(outs: Any, ins: Any, scratch: Any, *, dtype: Any) -> None:
    """The kernel of cast."""
    np.copyto(outs[0], ins[0], casting="unsafe")


def concatenate(outs: Any, ins: Any, scratch: Any, *, axis: int) -> None:
    """The kernel of concatenate."""
    np.concatenate(ins, axis=axis, out=outs[0], casting="same_kind")


def unstack(outs: Any, ins: Any, scratch: Any, *, axis: int) -> None:
    """The kernel of unstack."""
    for out, part in zip(outs, np.moveaxis(ins[0], axis, 0), strict=True):
        if out is not None:
            np.copyto(out, part)


def pad(outs: Any, ins: Any, scratch: Any, *, widths: Any, value: float) -> None:
    """The kernel of pad."""
    outs[0].fill(value)
    outs[0][tuple(slice(a, a + d) for d, (a, _) in zip(ins[0].shape, widths, strict=True))] = ins[0]


def slice_gradient(outs: Any, ins: Any, scratch: Any, *, shape: Any, starts: Any, steps: Any) -> None:
    """The kernel of slice_grad."""
    outs[0].fill(0)
    outs[0][block_index(ins[0].shape, starts, steps)] = ins[0]


def update_slice(outs: Any, ins: Any, scratch: Any, *, axis: int) -> None:
    """The kernel of update_slice."""
    cache, x, index = ins
    place = block(index, cache.shape, x.shape, axis)
    if not np.may_share_memory(outs[0], cache):  # eager: the result is an array of its own
        np.copyto(outs[0], cache)
    outs[0][place] = x
