"""The CUDA kernels of attention for 16-bit values: launches of attention.cu."""

import sys
from collections.abc import Sequence
from functools import cache
from itertools import product
from typing import Any

import numpy as np

from seqlib.core import dtypes, philox
from seqlib.core.backends.cuda import Source, cuda, name_of, pointer
from seqlib.core.op import Attrs, Layout, Meta
from seqlib.core.ops.attention import _attention, attention_bwd
from seqlib.core.ops.attention_parts import packed_stride, unpacked, unpacked_metas

_TILE = 64
_THREADS = 128
WIDTHS = (16, 32, 48, 64, 80, 96, 112, 128)
_TYPES = ("bf16", "f16")
_BOOL = ("false", "true")
_FORWARD = {64: (1, 128, 3), 128: (2, 128, 1)}
_KEYS = {64: (1, 128, 2), 128: (2, 64, 1)}
_QUERIES = {64: (1, 64, 4), 128: (2, 64, 1)}
"""For Hopper, by head width: warp groups of a block (each has 64 rows), rows of a tile of the other side, blocks on a
multiprocessor. Found by trying."""


def _tile_bytes(width: int) -> int:
    return _TILE * (width + 8) * 2


def _names() -> dict[str, int]:
    names: dict[str, int] = {}
    for t in _TYPES:
        for k in WIDTHS:
            tile = _tile_bytes(k)
            names[f"attention_delta<{t}, {k}>"] = 0
            names[f"attention_forward<{t}, {k}, false, true>"] = 3 * tile
            names[f"attention_backward_short<{t}, {k}>"] = 4 * tile
            for packed in _BOOL:
                names[f"attention_forward<{t}, {k}, {packed}, false>"] = 4 * tile
                names[f"attention_backward_queries<{t}, {k}, {packed}>"] = 4 * tile
                names[f"attention_backward_keys<{t}, {k}, {packed}>"] = 4 * tile
    return names


def _hopper_names() -> dict[str, int]:
    names: dict[str, int] = {}
    kinds = (("forward", _FORWARD, 1), ("backward_keys", _KEYS, 2), ("backward_queries", _QUERIES, 2))
    for kernel, table, own in kinds:
        for k, (groups, rows, blocks) in table.items():
            tiles = (own * groups * 64 + 4 * rows) * k * 2
            statistics = 4 * rows * 4 if kernel == "backward_keys" else 0
            kept = groups * 64 * rows // 8
            for t, packed, dropout in product(_TYPES, _BOOL, _BOOL):
                name = f"attention_{kernel}_hopper<{t}, {k}, {packed}, {dropout}, {groups}, {rows}, {blocks}>"
                names[name] = tiles + statistics + (kept if dropout == "true" else 0)
    return names


_SOURCE = Source("attention.cu", _names(), oldest=80)
_HOPPER = Source("attention_hopper.cu", _hopper_names(), oldest=90, target="sm_90a")
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


def _serves(q: Any, k: Any, bias: Any, whole: Sequence[Meta | None], scale: float) -> bool:
    if not _tensor_cores() or scale <= 0:
        return False
    ints = all(m is None or m.dtype == dtypes.int32 for m in whole)
    return dtypes.is_half(q.dtype) and q.shape[-1] in WIDTHS and bias is None and ints and q.size > 0 and k.size > 0


def serves(metas: Sequence[Meta | None], attrs: Attrs) -> bool:
    """The forward kernel's `when`: 16-bit values, head widths it is made for, no bias, int32 lengths or offsets."""
    return _serves(*unpacked_metas(*metas[:3], attrs["kv_heads"])[:2], metas[3], metas[4:7], attrs["scale"])  # type: ignore[arg-type]


def serves_backward(metas: Sequence[Meta | None], attrs: Attrs) -> bool:
    """The backward kernel's `when`, likewise."""
    return _serves(*unpacked_metas(*metas[1:4], attrs["kv_heads"])[:2], metas[6], metas[7:10], attrs["scale"])  # type: ignore[arg-type]


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


def _blocks(rows: int, shape: Any, tile: int = _TILE) -> int:
    """How many tiles of queries (or keys) there may be: for packed rows one more for every segment."""
    if shape["segments"]:
        return rows // tile + int(shape["segments"])
    return int(shape["batch"]) * -(-rows // tile)


def _launch(name: str, rows: int, heads: int, shape: Any, args: tuple[Any, ...]) -> None:
    blocks = (_blocks(rows, shape), heads)
    _SOURCE.kernel(name)(blocks, (_THREADS,), (*args, shape), shared_mem=_SOURCE.names[name])


def _launch_hopper(
    kernel: str, table: dict[int, Any], t: str, width: int, rows: int, heads: int, shape: Any, args: tuple[Any, ...]
) -> None:
    groups, tile, resident = table[width]
    packed, dropout = _BOOL[int(shape["segments"]) > 0], _BOOL[int(shape["threshold"]) > 0]
    name = f"attention_{kernel}_hopper<{t}, {width}, {packed}, {dropout}, {groups}, {tile}, {resident}>"
    blocks = (_blocks(rows, shape, 64 * groups), heads)
    _HOPPER.kernel(name)(blocks, (128 * groups,), (*args, shape), shared_mem=_HOPPER.names[name])


@cache
def _wgmma() -> bool:
    """Whether this is a Hopper, and NVRTC new enough (12.9) to be told the target twice: by us, then by CuPy."""
    return cuda().capability == 90 and cuda().xp.cuda.nvrtc.getVersion() >= (12, 9)


def _for_hopper(width: int, shape: Any) -> bool:
    """Whether the kernels for Hopper are faster: for rows that fill their larger tiles."""
    parts = int(shape["segments"]) or 1
    long = min(int(shape["queries"]), int(shape["keys"])) >= 128 * parts
    return width in _FORWARD and long and _wgmma()


def forward(outs: Any, ins: Any, scratch: Any, **attrs: Any) -> None:
    """The kernel of attention."""
    _, lengths, q_offsets, k_offsets, state = ins[3:]
    q, k, v = unpacked(ins[0], ins[1], ins[2], attrs["kv_heads"])
    y, lse = outs[0], scratch[0] if outs[1] is None else outs[1]
    shape = _shape(q, k, v, y, q_offsets, (), attrs)
    t, width, rows, heads = name_of(q), q.shape[-1], q.shape[-3], q.shape[-2]
    args = (y, lse, q, k, v, *map(pointer, (lengths, q_offsets, k_offsets, state)))
    if _for_hopper(width, shape):
        _launch_hopper("forward", _FORWARD, t, width, rows, heads, shape, args)
        return
    packed = q_offsets is not None
    short = not packed and k.shape[1] <= _TILE
    name = f"attention_forward<{t}, {width}, {_BOOL[packed]}, {_BOOL[short]}>"
    _launch(name, rows, heads, shape, args)


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
    shape = _shape(q, k, v, gy, q_offsets, (gq, gk, gv), attrs)
    to_keys, keys, key_heads, queries = tuple(map(pointer, (gk, gv))), k.shape[-3], k.shape[-2], q.shape[-3]
    if not packed and queries <= _TILE and keys <= _TILE:
        args = (pointer(gq), *to_keys, gy, q, k, v, y, lse, pointer(lengths), pointer(state))
        _launch(f"attention_backward_short<{t}, {width}>", keys, key_heads, shape, args)
        return
    hopper = _for_hopper(width, shape)
    whole = tuple(map(pointer, (lengths, q_offsets, k_offsets, state)))
    if hopper and gq is not None:  # makes delta as well
        args = (gq, delta, y, gy, q, k, v, lse, *whole)
        _launch_hopper("backward_queries", _QUERIES, t, width, queries, heads, shape, args)
    else:
        rows = q.size // (heads * width)
        threads = rows * heads * (1 << (width // 8 - 1).bit_length())  # eight values each, lanes of a row a power of 2
        args = (delta, gy, y, np.int32(rows), np.int32(heads), np.int32(queries))
        _SOURCE.kernel(f"attention_delta<{t}, {width}>")((-(-threads // _THREADS),), (_THREADS,), args)
    given = (gy, q, k, v, lse, delta, *whole)
    if hopper:
        _launch_hopper("backward_keys", _KEYS, t, width, keys, key_heads, shape, (*to_keys, *given))
        return
    name = f"<{t}, {width}, {_BOOL[packed]}>"
    _launch(f"attention_backward_keys{name}", keys, key_heads, shape, (*to_keys, *given))
    if gq is not None:
        _launch(f"attention_backward_queries{name}", queries, heads, shape, (gq, *given))


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
