"""The CUDA kernels of cross_entropy and linear_cross_entropy: launches of cross_entropy.cu around matrix products.

N rows (tokens), D width, V classes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from seqlib.core import dtypes
from seqlib.core.backends.cuda import Source, aligned, cuda, name_of, pointer
from seqlib.core.op import Attrs, Meta
from seqlib.core.ops.cross_entropy import _cross_entropy, _linear_cross_entropy
from seqlib.core.ops.product_cuda import product

_FLOATS = ("float", "bf16", "f16")
_IDS = ("int", "i64")
_SOURCE = Source(
    "cross_entropy.cu",
    [
        *(f"cross_entropy_rows<{t}, {i}, {kind}>" for t in _FLOATS for i in _IDS for kind in range(3)),
        *(f"cross_entropy_total<{i}>" for i in _IDS),
    ],
)
_BLOCK = 512
_LOSS, _GRADIENT, _HELD = range(3)
_LOGITS = 1 << 28
"""Bytes of a block of logits at most: products of more rows are no faster."""
_EVEN = 64
"""Products are slow where a matrix's rows are not whole multiples of 16 bytes: classes are filled up to this."""


def _rows(logits: Any, losses: Any, lses: Any, targets: Any, smoothing: float, ignore: int, gradient: bool) -> None:
    """The losses of rows; with `gradient` the logits become their gradients."""
    rows, classes = logits.shape
    pitch, lanes, nbytes = logits.strides[0] // logits.itemsize, 16 // logits.itemsize, classes * logits.itemsize
    whole = classes // lanes * lanes if pitch % lanes == 0 and aligned(logits) else 0
    kind = _LOSS if not gradient else _HELD if whole and nbytes <= cuda().shared // 2 - 2048 else _GRADIENT
    shared = nbytes if kind == _HELD else 0
    kernel = _SOURCE.kernel(f"cross_entropy_rows<{name_of(logits)}, {name_of(targets)}, {kind}>", shared)
    numbers = (np.int32(classes), np.int32(whole), np.int64(pitch), np.float32(smoothing), np.int64(ignore))
    given = (logits, losses, pointer(lses), targets, cuda().flag)
    kernel((rows,), (_BLOCK,), (*given, *numbers), shared_mem=shared)


def _total(outs: Any, losses: Any, targets: Any, ignore: int) -> None:
    args = (*map(pointer, outs), losses, targets, np.int32(targets.size), np.int64(ignore))
    _SOURCE.kernel(f"cross_entropy_total<{name_of(targets)}>")((1,), (_BLOCK,), args)


def serves(metas: Sequence[Meta | None], attrs: Attrs) -> bool:
    """A kernel's `when`: float32 or 16-bit logits (or x and w), rows, and no weights (the last input)."""
    x = metas[0]
    assert x is not None
    return x.dtype != dtypes.float64 and x.size > 0 and metas[-1] is None


def losses_scratch(metas: Sequence[Meta | None], attrs: Attrs) -> list[Meta]:
    """The losses of rows, [N]."""
    x = metas[0]
    assert x is not None
    return [Meta(x.shape[:1], dtypes.float32)]


def forward(outs: Any, ins: Any, scratch: Any, *, smoothing: float, ignore_index: int) -> None:
    """The kernel of cross_entropy."""
    _rows(ins[0], scratch[0], outs[2], ins[1], smoothing, ignore_index, False)
    _total(outs[:2], scratch[0], ins[1], ignore_index)


def linear_scratch(metas: Sequence[Meta | None], attrs: Attrs) -> list[Meta]:
    """The losses of rows, a block of logits, and w with rows of zeros where its own are not even in number."""
    x, w = metas[:2]
    assert x is not None and w is not None
    n, (classes, width) = x.shape[0], w.shape
    even = -(-classes // _EVEN) * _EVEN if classes * x.dtype.itemsize % 16 else classes
    rows = 1 << max(0, (_LOGITS // (even * x.dtype.itemsize)).bit_length() - 1)
    filled = [Meta((even, width), x.dtype)] if even > classes else []
    return [Meta((n,), dtypes.float32), Meta((min(n, rows), even), x.dtype), *filled]


def linear(
    outs: Any, ins: Any, scratch: Any, *, smoothing: float, ignore_index: int, want_x: bool, want_w: bool
) -> None:
    """The kernel of linear_cross_entropy."""
    x, w, targets, _ = ins
    losses, room, *filled = scratch
    classes = len(w)
    whole = classes // 8 * 8 if filled else classes  # of w's gradient, which has no room for more; then the rest
    for even in filled:
        even[:classes], even[classes:] = w, 0
        w = even
    gx, gw = (outs[2] if want_x else None), (outs[3] if want_w else None)
    for start in range(0, len(x), len(room)):
        piece = slice(start, min(start + len(room), len(x)))
        logits = room[: piece.stop - start]
        product(x[piece], w, logits, transpose_b=True)
        gradient = gx is not None or gw is not None
        _rows(logits[:, :classes], losses[piece], None, targets[piece], smoothing, ignore_index, gradient)
        if gx is not None:
            product(logits, w, gx[piece])
        for part in (slice(0, whole), slice(whole, classes)):
            if gw is not None:
                product(logits[:, part], x[piece], gw[part], transpose_a=True, accumulate=start > 0)
    _total(outs[:2], losses, targets, ignore_index)


_linear_cross_entropy.cuda(linear, when=serves, scratch=linear_scratch)
_cross_entropy.cuda(forward, when=serves, scratch=losses_scratch)
