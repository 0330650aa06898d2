"""The CUDA kernels of attention for 16-bit values: launches of attention.cu."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from seqlib.core import dtypes, philox
from seqlib.core.backends.cuda import Source, cuda, name_of, pointer
from seqlib.core.op import Attrs, Layout, Meta
from seqlib.core.ops.attention import _attention, attention_bwd
from seqlib.core.ops.attention_parts import packed_stride, unpacked, unpacked_metas

_TILE = 64
_THREADS = 128
WIDTHS = (32, 64, 128)
_TYPES = ("bf16", "f16")
_BOOL = ("false", "true")


def _names() -> list[str]:
    names: list[str] = []
    for t in _TYPES:
        for k in WIDTHS:
            names.append(f"attention_delta<{t}, {k}>")
            names.append(f"attention_backward_keys<{t}, {k}, false, true>")
            for packed in _BOOL:
                names.append(f"attention_forward<{t}, {k}, {packed}>")
                names.append(f"attention_backward_queries<{t}, {k}, {packed}>")
                names.append(f"attention_backward_keys<{t}, {k}, {packed}, false>")
    return names


_SOURCE = Source("attention.cu", _names())
_SHAPE = np.dtype(
    [
        *((name, "i4") for name in ("batch", "queries", "keys", "heads", "key_heads", "segments", "causal")),
        *((f"{name}_stride", "i8") for name in ("q", "k", "v", "y", "gq", "gk", "gv")),
        ("scale", "f4"),
        ("threshold", "u4"),
        ("keep", "f4"),
        ("draw", "i8"),
        ("random_stride", "i8"),
    ],
    align=True,
)


def _tensor_cores() -> bool:
    """False on a GPU before Ampere. Without one, plans are made for a newer one."""
    return "cupy" not in sys.modules or cuda().capability >= 80


def _serves(q: Any, k: Any, bias: Any, whole: Sequence[Meta | None]) -> bool:
    if not _tensor_cores():
        return False
    ints = all(m is None or m.dtype == dtypes.int32 for m in whole)
    return dtypes.is_half(q.dtype) and q.shape[-1] in WIDTHS and bias is None and ints and q.size > 0 and k.size > 0


def serves(metas: Sequence[Meta | None], attrs: Attrs) -> bool:
    """The forward kernel's `when`: 16-bit values, head widths it is made for, no bias, int32 lengths or offsets."""
    return _serves(*unpacked_metas(*metas[:3], attrs["kv_heads"])[:2], metas[3], metas[4:7])  # type: ignore[arg-type]


def serves_backward(metas: Sequence[Meta | None], attrs: Attrs) -> bool:
    """The backward kernel's `when`, likewise."""
    return _serves(*unpacked_metas(*metas[1:4], attrs["kv_heads"])[:2], metas[6], metas[7:10])  # type: ignore[arg-type]


def _shape(q: Any, k: Any, v: Any, y: Any, offsets: Any, grads: Sequence[Any], attrs: Attrs) -> Any:
    s = np.zeros((), _SHAPE)
    packed = offsets is not None
    s["batch"], s["queries"] = (1, len(q)) if packed else q.shape[:2]
    s["keys"], s["heads"], s["key_heads"] = k.shape[-3], q.shape[-2], k.shape[-2]
    s["causal"] = attrs["causal"]
    s["segments"] = offsets.size - 1 if packed else 0
    for name, x in zip(("q", "k", "v", "y", "gq", "gk", "gv"), (q, k, v, y, *grads), strict=False):
        s[f"{name}_stride"] = 0 if x is None else x.strides[-3] // x.itemsize
    s["scale"] = attrs["scale"]
    if attrs["dropout"]:
        s["threshold"], s["keep"] = (philox.keep_threshold(attrs["dropout"]), philox.keep_scale(attrs["dropout"]))
    s["draw"] = attrs["draw"]
    s["random_stride"] = packed_stride(int(s["keys"])) if packed else s["keys"]
    return s


def _blocks(rows: int, shape: Any) -> int:
    """How many tiles of queries (or keys) there may be: for packed rows one more for every segment."""
    if shape["segments"]:
        return rows // _TILE + int(shape["segments"])
    return int(shape["batch"]) * -(-rows // _TILE)


def _launch(name: str, blocks: tuple[int, int], shared: int, args: tuple[Any, ...]) -> None:
    _SOURCE.kernel(name, shared)(blocks, (_THREADS,), args, shared_mem=shared)


def forward(outs: Any, ins: Any, scratch: Any, **attrs: Any) -> None:
    """The kernel of attention."""
    _, lengths, q_offsets, k_offsets, state = ins[3:]
    q, k, v = unpacked(ins[0], ins[1], ins[2], attrs["kv_heads"])
    y, lse = outs[0], scratch[0] if outs[1] is None else outs[1]
    shape = _shape(q, k, v, y, q_offsets, (), attrs)
    width = q.shape[-1]
    args = (y, lse, q, k, v, *map(pointer, (lengths, q_offsets, k_offsets, state)), shape)
    blocks = (_blocks(q.shape[-3], shape), q.shape[-2])
    _launch(
        f"attention_forward<{name_of(q)}, {width}, {_BOOL[q_offsets is not None]}>",
        blocks,
        4 * _tile_bytes(width),
        args,
    )


def _tile_bytes(width: int) -> int:
    return _TILE * (width + 8) * 2


def lse_scratch(metas: Sequence[Meta | None], attrs: Attrs) -> list[Meta]:
    """Room for lse, which the forward kernel always writes (backward: for delta, of the same shape)."""
    first = int("want_bias" in attrs)  # after gy in the backward op
    q = unpacked_metas(*metas[first : first + 3], attrs["kv_heads"])[0]  # type: ignore[arg-type]
    return [Meta((*q.shape[:-3], q.shape[-2], q.shape[-3]), dtypes.float32)]


def _unpacked_grads(outs: Any, ins: Any, kv_heads: int) -> tuple[Any, Any, Any]:
    """The gradients as views of what they are packed in, None where nobody needs them."""
    gq, gk, gv = outs[:3]
    if not kv_heads:
        return gq, gk, gv
    if ins[2] is None:
        return unpacked(gq, None, None, kv_heads)
    return gq, *unpacked(None, gk, None, kv_heads)[1:]


def backward(outs: Any, ins: Any, scratch: Any, *, want_bias: bool, **attrs: Any) -> None:
    """The kernel of attention_bwd."""
    gy, y, lse, _, lengths, q_offsets, k_offsets, state = (ins[0], *ins[4:])
    q, k, v = unpacked(ins[1], ins[2], ins[3], attrs["kv_heads"])
    gq, gk, gv = _unpacked_grads(outs, ins, attrs["kv_heads"])
    delta, t, width = scratch[0], name_of(q), q.shape[-1]
    heads, packed = q.shape[-2], q_offsets is not None
    rows = q.size // (heads * width)
    threads = rows * heads * (width // 8)
    args = (delta, gy, y, np.int32(rows), np.int32(heads), np.int32(q.shape[-3]))
    _launch(f"attention_delta<{t}, {width}>", (-(-threads // _THREADS), 1), 0, args)
    shape = _shape(q, k, v, gy, q_offsets, (gq, gk, gv), attrs)
    places = tuple(map(pointer, (lengths, q_offsets, k_offsets, state)))
    short = not packed and q.shape[1] <= _TILE and k.shape[1] <= _TILE
    args = (*map(pointer, (gq, gk, gv)), gy, q, k, v, lse, delta, *places, shape)
    blocks, shared = (_blocks(k.shape[-3], shape), k.shape[-2]), (3 if short else 4) * _tile_bytes(width)
    name = f"attention_backward_keys<{t}, {width}, {_BOOL[packed]}, {_BOOL[short]}>"
    _launch(name, blocks, shared, args)
    if not short and gq is not None:
        name = f"attention_backward_queries<{t}, {width}, {_BOOL[packed]}>"
        args = (gq, gy, q, k, v, lse, delta, *places, shape)
        _launch(name, (_blocks(q.shape[-3], shape), heads), 4 * _tile_bytes(width), args)


def _rows(strided: Sequence[int]) -> Any:
    """Inputs that may be rows [..., H, K] at any distance from each other, such as slices of a packed projection."""

    def takes(index: int, layout: Layout) -> bool:
        if index not in strided:
            return False
        in_row = layout.strides[-2:] == (layout.shape[-1], 1)
        batch = len(layout.shape) == 3 or layout.strides[0] == layout.shape[1] * layout.strides[1]
        eights = all(s % 8 == 0 for s in (layout.offset, layout.strides[-3]))
        return in_row and batch and eights

    return takes


_attention.cuda(forward, when=serves, scratch=lse_scratch, strided=_rows((0, 1, 2)))
attention_bwd.cuda(backward, when=serves_backward, scratch=lse_scratch, strided=_rows((1, 2, 3)))
