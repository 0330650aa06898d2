"""The CUDA kernels of layer_norm, rms_norm, add_(dropout_)layer_norm and of their gradients: launches of norm.cu."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from seqlib.core import dtypes, philox
from seqlib.core.backends.cuda import Source, aligned, grid, name_of, pointer
from seqlib.core.op import Attrs, Meta
from seqlib.core.ops.norm import (
    _layer_norm,
    _rms_norm,
    add_dropout_layer_norm,
    add_dropout_layer_norm_bwd,
    add_layer_norm,
    add_layer_norm_bwd,
    layer_norm_bwd,
    rms_norm_bwd,
)

_PAIRS = list(dict.fromkeys([(t, w) for t in ("float", "bf16", "f16") for w in (t, "float")] + [("double", "double")]))
_LANES = {"float": 4, "bf16": 8, "f16": 8, "double": 2}
_WARP, _BLOCK = 32, 256
_GROUPS = {
    (_WARP, 8): (1, 2, 3, 4),
    (_WARP, 4): (1, 2, 4, 6, 8),
    (_WARP, 2): (4, 16),
    (_WARP, 1): (2, 8, 32),
    (_BLOCK, 8): (1, 2, 4),
    (_BLOCK, 4): (2, 4, 8),
    (_BLOCK, 2): (4, 16),
    (_BLOCK, 1): (8, 32),
}
"""How many groups of columns a thread may own, by the threads of a row and the columns of a group; up to 32 columns."""
_WIDEST = 32 * _BLOCK


def _names() -> list[str]:
    names: list[str] = []
    for t, w in _PAIRS:
        for lanes in (_LANES[t], 1):
            for n in (_WARP, _BLOCK):
                rests = [f"{lanes}, {g}, {n}, {kind}" for kind in range(3) for g in _GROUPS[n, lanes]]
                names += [f"norm_{way}<{t}, {w}, {rest}>" for way in ("forward", "backward") for rest in rests]
    sums = [(w, "double" if t == "double" else "float") for t, w in _PAIRS]
    return names + [f"norm_sums<{w}, {a}>" for w, a in dict.fromkeys(sums)]


_SOURCE = Source("norm.cu", _names())
_LAYER, _RMS, _ADD = range(3)
_DROPOUT = np.dtype([("draw", "u8"), ("keep", "f8"), ("threshold", "u4")], align=True)


def _dropout(p: float, draw: int) -> Any:
    return np.array((draw, philox.keep_scale(p), philox.keep_threshold(p)), _DROPOUT)


_NO_DROPOUT = np.zeros((), _DROPOUT)


def _instance(way: str, kind: int, x: Any, w: Any, arrays: Sequence[Any]) -> tuple[Any, int]:
    """The kernel for rows like x, and the threads that own one. Values move 16 bytes at a time where rows allow it."""
    width, t = x.shape[-1], name_of(x)
    lanes = _LANES[t] if width % _LANES[t] == 0 and aligned(*arrays) else 1
    group = _WARP if width <= 32 * _WARP else _BLOCK
    groups = next(g for g in _GROUPS[group, lanes] if g * lanes * group >= width)
    name = f"norm_{way}<{t}, {name_of(w)}, {lanes}, {groups}, {group}, {kind}>"
    return _SOURCE.kernel(name), group


def _threads(group: int) -> int:
    return 4 * _WARP if group == _WARP else group


def _forward(kind: int, y: Any, total: Any, mean: Any, rstd: Any, x: Any, branch: Any, w: Any, b: Any, state: Any,
             eps: float, dropout: Any) -> None:  # fmt: skip
    rows, width = x.size // x.shape[-1], x.shape[-1]
    kernel, group = _instance("forward", kind, x, w, (y, total, x, branch, w, b))
    blocks = min(grid(rows, _threads(group) // group)[0], 2112)
    given = (*map(pointer, (y, total, mean, rstd)), x, *map(pointer, (branch,)), w, *map(pointer, (b, state)))
    kernel((blocks,), (_threads(group),), (*given, np.int32(rows), np.int32(width), np.float64(eps), dropout))


def _blocks(rows: int, width: int) -> int:
    """Parts that rows are cut into for the sums over rows; a function of the shape alone, so that bits are too. As many
    as run at once on 132 multiprocessors, where a thread keeps up to 16, 24 or 32 columns.
    """
    most = 396 if 512 < width <= 768 else 264 if 768 < width <= 1024 else 528
    return max(1, min(most, rows // 16))


def _backward(kind: int, gx: Any, gbranch: Any, gw: Any, gb: Any, parts: Any, g: Any, more: Any, x: Any, w: Any,
              mean: Any, rstd: Any, state: Any, dropout: Any) -> None:  # fmt: skip
    rows, width, blocks = x.size // x.shape[-1], x.shape[-1], len(parts)
    kernel, group = _instance("backward", kind, x, w, (gx, gbranch, g, more, x, w))
    given = (*map(pointer, (gx, gbranch)), parts, g, pointer(more), x, w, pointer(mean), rstd, pointer(state))
    shared = 2 * width * parts.itemsize if group == _WARP else 0
    args = (*given, np.int32(rows), np.int32(width), dropout)
    kernel((blocks,), (_threads(group),), args, shared_mem=shared)
    if gw is not None or gb is not None:
        sums = _SOURCE.kernel(f"norm_sums<{name_of(w)}, {name_of(parts)}>")
        args = (pointer(gw), pointer(gb), parts, np.int32(blocks), np.int32(width))
        sums((*grid(width, 32), parts.shape[1]), (32, 32), args)


def _parts(index: int, sums: int) -> Any:
    """The scratch of a gradient: the sums of each block of rows, [blocks, sums, D], for rows in input `index`."""

    def scratch(metas: Sequence[Meta | None], attrs: Attrs) -> list[Meta]:
        x = metas[index]
        assert x is not None
        return [Meta((_blocks(x.size // x.shape[-1], x.shape[-1]), sums, x.shape[-1]), dtypes.sums(x.dtype))]

    return scratch


def _fits(rows: Sequence[int], weights: Sequence[int], statistics: Sequence[int] = ()) -> Any:
    """A kernel's `when`: rows of one shape and dtype, at most 8,192 values; weights of that dtype, or float32 beside
    16-bit rows; statistics in the dtype of sums."""

    def when(metas: Sequence[Meta | None], attrs: Attrs) -> bool:
        xs, ws, ss = ([m for i in of if (m := metas[i]) is not None] for of in (rows, weights, statistics))
        t, w = xs[0].dtype, ws[0].dtype
        same = all(x == xs[0] for x in xs) and all(m.dtype == w for m in ws) and ws[0].size <= _WIDEST
        right = w == t or (dtypes.is_half(t) and w == dtypes.float32)
        return xs[0].size > 0 and same and right and all(s.dtype == dtypes.sums(t) for s in ss)

    return when


def layer_norm(outs: Any, ins: Any, scratch: Any, *, eps: float) -> None:
    """The kernel of layer_norm."""
    y, mean, rstd = outs
    x, w, b = ins
    _forward(_LAYER, y, None, mean, rstd, x, None, w, b, None, eps, _NO_DROPOUT)


def layer_norm_gradient(outs: Any, ins: Any, scratch: Any) -> None:
    """The kernel of layer_norm_bwd."""
    gx, gw, gb = outs
    g, x, w, mean, rstd = ins
    _backward(_LAYER, gx, None, gw, gb, scratch[0], g, None, x, w, mean, rstd, None, _NO_DROPOUT)


def rms_norm(outs: Any, ins: Any, scratch: Any, *, eps: float) -> None:
    """The kernel of rms_norm."""
    _forward(_RMS, outs[0], None, None, outs[1], ins[0], None, ins[1], None, None, eps, _NO_DROPOUT)


def rms_norm_gradient(outs: Any, ins: Any, scratch: Any) -> None:
    """The kernel of rms_norm_bwd."""
    g, x, w, rstd = ins
    _backward(_RMS, outs[0], None, outs[1], None, scratch[0], g, None, x, w, None, rstd, None, _NO_DROPOUT)


def add_norm(outs: Any, ins: Any, scratch: Any, *, p: float, draw: int, eps: float) -> None:
    """The kernel of add_dropout_layer_norm. The norm is of `total` as it is stored."""
    total, y, mean, rstd = outs
    x, branch, state, w, b = ins
    _forward(_ADD, y, total, mean, rstd, x, branch, w, b, state, eps, _dropout(p, draw))


def add_norm_gradient(outs: Any, ins: Any, scratch: Any, *, p: float, draw: int) -> None:
    """The kernel of add_dropout_layer_norm_bwd."""
    gx, gbranch, gw, gb = outs
    g, more, total, w, mean, rstd, state = ins
    _backward(_ADD, gx, gbranch, gw, gb, scratch[0], g, more, total, w, mean, rstd, state, _dropout(p, draw))


def plain_add_norm(outs: Any, ins: Any, scratch: Any, *, eps: float) -> None:
    """The kernel of add_layer_norm."""
    total, y, mean, rstd = outs
    x, branch, w, b = ins
    _forward(_ADD, y, total, mean, rstd, x, branch, w, b, None, eps, _NO_DROPOUT)


def plain_add_norm_gradient(outs: Any, ins: Any, scratch: Any) -> None:
    """The kernel of add_layer_norm_bwd."""
    gx, gw, gb = outs
    g, more, total, w, mean, rstd = ins
    _backward(_ADD, gx, None, gw, gb, scratch[0], g, more, total, w, mean, rstd, None, _NO_DROPOUT)


_layer_norm.cuda(layer_norm, when=_fits((0,), (1, 2)), overlap=((0, 0),))
layer_norm_bwd.cuda(
    layer_norm_gradient, when=_fits((0, 1), (2,), (3, 4)), scratch=_parts(1, 2), overlap=((0, 0), (0, 1))
)
_rms_norm.cuda(rms_norm, when=_fits((0,), (1,)), overlap=((0, 0),))
rms_norm_bwd.cuda(rms_norm_gradient, when=_fits((0, 1), (2,), (3,)), scratch=_parts(1, 1), overlap=((0, 0), (0, 1)))
_both = ((0, 0), (0, 1), (1, 0), (1, 1))
add_dropout_layer_norm.cuda(add_norm, when=_fits((0, 1), (3, 4)), overlap=_both)
add_dropout_layer_norm_bwd.cuda(
    add_norm_gradient, when=_fits((0, 1, 2), (3,), (4, 5)), scratch=_parts(2, 2), overlap=(*_both, (0, 2), (1, 2))
)
add_layer_norm.cuda(plain_add_norm, when=_fits((0, 1), (2, 3)), overlap=_both)
add_layer_norm_bwd.cuda(
    plain_add_norm_gradient, when=_fits((0, 1, 2), (3,), (4, 5)), scratch=_parts(2, 2), overlap=((0, 0), (0, 1), (0, 2))
)
