"""The CUDA kernels of lstm, gru and their gradients: launches of recurrent.cu.

Where the recurrent weights fit the shared memory of all multiprocessors, all steps are one launch; otherwise each step
is a product and a launch. T steps, B rows, H width, G gates (4 or 3).
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from seqlib.core import dtypes
from seqlib.core.backends.cuda import Source, cuda, grid, name_of
from seqlib.core.op import Attrs, Meta
from seqlib.core.ops.product_cuda import product
from seqlib.core.ops.recurrent import _gru, _lstm, gru_bwd, lstm_bwd

_WARPS, _THREADS = 8, 256
_TALL, _WIDE = (1, 3), (1, 3, 4)
"""Tiles of 16 rows of weights that a block may keep, and tiles of 8 rows of the batch that it multiplies at once."""
_MOST_ROWS = 64
_LEAST_STEPS = 4
_MOST_STATES = 1 << 23
"""Values of a state in all steps: backward takes 24 bytes for each."""
_BOTH = ("forward", "backward")


def _names() -> list[str]:
    gates = (4, 3)
    names = [f"cell_{way}<{t}, {g}>" for way in _BOTH for t in ("float", "double", "bf16", "f16") for g in gates]
    return names + [
        f"recurrent_{way}<{t}, {g}, {tall}, {wide}>"
        for way in _BOTH
        for t in ("bf16", "f16")
        for g in gates
        for tall in _TALL
        for wide in _WIDE
    ]


_SOURCE = Source("recurrent.cu", _names())
_SIZES = [(name, "i4") for name in ("steps", "rows", "width", "reverse")]
_FORWARD = np.dtype(
    [(n, "u8") for n in "x w b h0 c0 lengths y h c gates cells tanhs states".split()] + _SIZES, align=True
)
_BACKWARD = np.dtype(
    [(n, "u8") for n in "w gates cells tanhs states lengths gy gh gc gx gown gh0 gc0".split()] + _SIZES, align=True
)


class _Split(NamedTuple):
    """How blocks share the work of all steps: `tall` and `wide` tiles at once, `tiles` of the batch, `units` of a block
    (of a group of blocks in backward), bytes of `shared` memory, words that are `exchanged` in all steps."""

    blocks: int
    tall: int
    wide: int
    tiles: int
    units: int
    shared: int
    exchanged: int


def _device() -> tuple[int, int]:
    """The number of multiprocessors and the bytes of shared memory of a block; without a GPU those of an H100. No
    multiprocessors where there are no tensor cores for it."""
    if "cupy" not in sys.modules:
        return 132, 227 << 10
    backend = cuda()
    return backend.processors if backend.capability >= 80 else 0, backend.shared


def _split(rows: int, width: int, gates: int, steps: int, dtype: Any, backward: bool) -> _Split | None:
    """The split for a layer, None where each step is a product of its own."""
    processors, most = _device()
    if not dtypes.is_half(dtype) or rows > _MOST_ROWS or steps < _LEAST_STEPS:
        return None
    turns = -(-rows // (8 * _WIDE[-1]))
    wide = next(wide for wide in _WIDE if 8 * wide * turns >= rows)
    tiles, chunks = turns * wide, -(-width // 32)
    for tall in _TALL:
        units = 16 * tall if backward else 16 * tall // gates
        blocks = -(-width // units) * (gates if backward else 1)
        kept = 2 * 8 * tiles * (-(-units // gates) if backward else units)
        shared = chunks * tall * 1024 + 4 * (_WARPS * 16 * tall * (8 * wide + 1) + kept)
        exchanged = steps * (gates if backward else 1) * chunks * tiles * 128
        if blocks <= processors and shared <= most and steps * rows * width <= _MOST_STATES:
            return _Split(blocks, tall, wide, tiles, units, shared, exchanged)
    return None


def _address(array: Any) -> int:
    return array.data.ptr


def _struct(kind: Any, arrays: Mapping[Any, Any], sizes: Sequence[int]) -> Any:
    """The arguments of a kernel: addresses by name, 0 for an array that is not there."""
    held: Any = np.zeros((), kind)
    for name, array in arrays.items():
        held[name] = 0 if array is None else _address(array)
    for (name, _), size in zip(_SIZES, sizes, strict=True):
        held[name] = size
    return held


# -- forward ---------------------------------------------------------------------------------------------------


def _forward(arrays: Mapping[Any, Any], scratch: Any, reverse: bool) -> None:
    x, w, h0 = (arrays[name] for name in ("x", "w", "h0"))
    (steps, rows, _), width, t = x.shape, w.shape[1], name_of(x)
    gates = len(w) // width
    given = _struct(_FORWARD, arrays, (steps, rows, width, reverse))
    split = _split(rows, width, gates, steps, x.dtype, False)
    if split is not None:
        (exchange,) = scratch
        exchange.fill(-1)
        kernel = _SOURCE.kernel(f"recurrent_forward<{t}, {gates}, {split.tall}, {split.wide}>", split.shared)
        args = (given, exchange, np.int32(split.units), np.int32(split.tiles))
        kernel((split.blocks,), (_THREADS,), args, shared_mem=split.shared)
        return
    own, cell, states = scratch
    kernel = _SOURCE.kernel(f"cell_forward<{t}, {gates}>")
    order = range(steps)[::-1] if reverse else range(steps)
    state = h0
    for i, at in enumerate(order):
        following = states[i % 2]
        product(state, w, own, transpose_b=True)
        args = (given, own, state, following, cell, np.int32(at), np.int32(i == 0), np.int32(i == steps - 1))
        kernel(grid(rows * width, 256), (256,), args)
        state = following


def lstm(outs: Any, ins: Any, scratch: Any, *, reverse: bool, independent: bool) -> None:
    """The kernel of lstm. That rows are `independent` of their neighbours to the bit is promised on the CPU alone."""
    arrays = dict(zip("x w h0 c0 lengths y h c gates cells tanhs states".split(), (*ins, *outs), strict=True))
    _forward(arrays, scratch, reverse)


def gru(outs: Any, ins: Any, scratch: Any, *, reverse: bool, independent: bool) -> None:
    """The kernel of gru, likewise."""
    arrays = dict(zip("x w b h0 lengths y h gates states".split(), (*ins, *outs), strict=True))
    _forward(arrays, scratch, reverse)


def _forward_scratch(metas: Sequence[Meta | None], attrs: Attrs) -> list[Meta]:
    """In one launch: the states of all steps. Otherwise a step's product, the running c, two states."""
    x, w = metas[:2]
    assert x is not None and w is not None
    (steps, rows, _), width = x.shape, w.shape[1]
    split = _split(rows, width, w.shape[0] // width, steps, x.dtype, False)
    if split is not None:
        return [Meta((split.exchanged,), dtypes.int32)]
    wide = dtypes.sums(x.dtype)
    return [Meta((rows, w.shape[0]), wide), Meta((rows, width), wide), Meta((2, rows, width), x.dtype)]


# -- backward --------------------------------------------------------------------------------------------------


def _backward(arrays: Mapping[Any, Any], scratch: Any, reverse: bool) -> None:
    w, kept = arrays["w"], arrays["gates"]
    (steps, rows, _), width, t = kept.shape, w.shape[1], name_of(w)
    gates = len(w) // width
    given = _struct(_BACKWARD, arrays, (steps, rows, width, reverse))
    split = _split(rows, width, gates, steps, w.dtype, True)
    if split is not None:
        (room,) = scratch
        room.fill(-1)
        kernel = _SOURCE.kernel(f"recurrent_backward<{t}, {gates}, {split.tall}, {split.wide}>", split.shared)
        args = (given, room, room[split.exchanged :], np.int32(split.tiles))
        kernel((split.blocks,), (_THREADS,), args, shared_mem=split.shared)
        return
    own, sent, past, cells = scratch
    kernel = _SOURCE.kernel(f"cell_backward<{t}, {gates}>")
    for i, at in enumerate((*(range(steps) if reverse else range(steps)[::-1]), -1)):
        args = (given, own, sent, past, cells, np.int32(at), np.int32(i == 0))
        kernel(grid(rows * width, 256), (256,), args)
        if at >= 0:
            product(own, w, sent)


def lstm_gradient(outs: Any, ins: Any, scratch: Any, *, reverse: bool) -> None:
    """The kernel of lstm_bwd."""
    names = "w gates cells tanhs lengths gy gh gc gx gh0 gc0".split()
    _backward(dict(zip(names, (*ins, *outs), strict=True)), scratch, reverse)


def gru_gradient(outs: Any, ins: Any, scratch: Any, *, reverse: bool) -> None:
    """The kernel of gru_bwd."""
    names = "w gates states lengths gy gh gx gown gh0".split()
    _backward(dict(zip(names, (*ins, *outs), strict=True)), scratch, reverse)


def _backward_scratch(metas: Sequence[Meta | None], attrs: Attrs) -> list[Meta]:
    """In one launch: gradients of the gates of all steps, and the parts of sums. Otherwise a step's gradients of the
    gates, their product, and what goes past it from step to step."""
    w, kept = metas[:2]
    assert w is not None and kept is not None
    (steps, rows, _), (height, width) = kept.shape, w.shape
    gates, wide = height // width, dtypes.sums(w.dtype)
    split = _split(rows, width, gates, steps, w.dtype, True)
    if split is None:
        return [Meta((rows, height), w.dtype), *[Meta((rows, width), wide)] * 3]
    return [Meta((split.exchanged + steps * split.blocks * rows * split.units,), dtypes.int32)]


def _fits(floats: Sequence[int], lengths: int) -> Any:
    """A kernel's `when`: the inputs at `floats` that are present have one dtype, there is a step and a row, and lengths
    are int32."""

    def when(metas: Sequence[Meta | None], attrs: Attrs) -> bool:
        found = [m for i in floats if (m := metas[i]) is not None]
        limits = metas[lengths]
        same = all(m.dtype == found[0].dtype and m.size > 0 for m in found)
        return same and (limits is None or limits.dtype == dtypes.int32)

    return when


_lstm.cuda(lstm, when=_fits((0, 1, 2, 3), 4), scratch=_forward_scratch)
_gru.cuda(gru, when=_fits((0, 1, 2, 3), 4), scratch=_forward_scratch)
lstm_bwd.cuda(lstm_gradient, when=_fits((0, 1, 2, 3, 5, 6, 7), 4), scratch=_backward_scratch)
gru_bwd.cuda(gru_gradient, when=_fits((0, 1, 2, 4, 5), 3), scratch=_backward_scratch)
