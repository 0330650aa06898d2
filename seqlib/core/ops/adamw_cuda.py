"""The CUDA kernels of adamw and global_norm: launches of adamw.cu, each over several tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from seqlib.core import dtypes
from seqlib.core.backends.base import Bound
from seqlib.core.backends.cuda import Source, merge, name_of
from seqlib.core.op import Attrs, Meta
from seqlib.core.ops.adamw import _adamw, _global_norm, adamw_copy

_FLOATS = ("float", "double", "bf16", "f16")
_SOURCE = Source(
    "adamw.cu", [*(f"adamw<{t}>" for t in ("bf16", "f16")), *(f"squares<{t}>" for t in _FLOATS), "root_of_sum"]
)
_BLOCK, _CHUNK, _TENSORS, _SQUARES = 256, 8192, 40, 160  # as in adamw.cu
_NAMES = ("p_new", "m_new", "v_new", "copy", "p", "g", "m", "v")
_UPDATES = np.dtype(
    [*((name, "u8", _TENSORS) for name in _NAMES), ("size", "i8", _TENSORS), ("decay", "f4", _TENSORS),
     ("first", "i4", _TENSORS)], align=True,
)  # fmt: skip
_SEVERAL = np.dtype([("at", "u8", _SQUARES), ("size", "i8", _SQUARES), ("first", "i4", _SQUARES)], align=True)


def _pieces(items: Sequence[Any], size: int) -> Iterator[list[Any]]:
    left = iter(items)
    while piece := list(islice(left, size)):
        yield piece


def _chunks(size: int) -> int:
    return -(-size // _CHUNK)


def _placed(struct: Any, sizes: Sequence[int]) -> int:
    """Fill in sizes and where each tensor's blocks begin; the number of blocks."""
    blocks = np.cumsum([0, *map(_chunks, sizes)])
    struct["size"][: len(sizes)] = sizes
    struct["first"] = blocks[-1]
    struct["first"][: len(sizes)] = blocks[:-1]
    return int(blocks[-1])


def forward(outs: Any, ins: Any, scratch: Any, **attrs: Any) -> None:
    """The kernel of adamw and adamw_copy, float32."""
    several([(forward, outs, ins, scratch, attrs, False)])


def _independent(launches: Sequence[Bound]) -> Iterator[list[Bound]]:
    """The launches in runs in which none needs what another writes."""
    some: list[Bound] = []
    read, written = np.empty((0, 2), np.int64), np.empty((0, 2), np.int64)
    for launch in launches:
        ins, outs = _extents(launch[2]), _extents(launch[1])
        if some and (_overlap(ins, written) or _overlap(outs, written) or _overlap(outs, read)):
            yield some
            some, read, written = [], read[:0], written[:0]
        some.append(launch)
        read, written = np.concatenate([read, ins]), np.concatenate([written, outs])
    yield some


def _extents(arrays: Sequence[Any]) -> Any:
    """Where contiguous arrays begin and end, [arrays, 2]."""
    found = [(a.data.ptr, a.data.ptr + a.nbytes) for a in arrays if a is not None and a.size]
    return np.array(found, np.int64).reshape(-1, 2)


def _overlap(a: Any, b: Any) -> bool:
    return bool(((a[:, None, 0] < b[None, :, 1]) & (b[None, :, 0] < a[:, None, 1])).any())


def merged(launches: Sequence[Bound]) -> None:
    """Launches of `forward` that follow one another, together."""
    for some in _independent(launches):
        several(some)


def several(launches: Sequence[Bound]) -> None:
    """Several independent updates in as few launches as there is room for."""
    alike: dict[Any, list[Bound]] = {}
    for launch in launches:
        _, _, ins, _, attrs, _ = launch
        if ins[0].size:
            key = (attrs["beta1"], attrs["beta2"], attrs["eps"], attrs.get("copy"), *(x.data.ptr for x in ins[4:]))
            alike.setdefault(key, []).append(launch)
    for (beta1, beta2, eps, copy, *_), found in alike.items():
        kernel = _SOURCE.kernel(f"adamw<{'f16' if copy == dtypes.float16 else 'bf16'}>")
        for piece in _pieces(found, _TENSORS):
            struct = np.zeros((), _UPDATES)
            for i, (_, outs, ins, _, attrs, _) in enumerate(piece):
                for name, x in zip(_NAMES, (*outs, *[None] * (4 - len(outs)), *ins[:4]), strict=True):
                    struct[name][i] = 0 if x is None else x.data.ptr
                struct["decay"][i] = attrs["weight_decay"]
            blocks = _placed(struct, [launch[2][0].size for launch in piece])
            kernel(
                (blocks,), (_BLOCK,), (struct, *piece[0][2][4:], np.float64(beta1), np.float64(beta2), np.float32(eps))
            )


def norm_scratch(metas: Sequence[Meta | None], attrs: Attrs) -> list[Meta]:
    """A sum of squares for each block, float64."""
    return [Meta((max(1, sum(_chunks(m.size) for m in metas if m is not None)),), dtypes.float64)]


def global_norm(outs: Any, ins: Any, scratch: Any) -> None:
    """The kernel of global_norm."""
    parts, row = scratch[0], 0
    by_type: dict[str, list[Any]] = {}
    for x in ins:
        if x.size:
            by_type.setdefault(name_of(x), []).append(x)
    for t, xs in by_type.items():
        for some in _pieces(xs, _SQUARES):
            struct = np.zeros((), _SEVERAL)
            struct["at"][: len(some)] = [x.data.ptr for x in some]
            blocks = _placed(struct, [x.size for x in some])
            _SOURCE.kernel(f"squares<{t}>")((blocks,), (_BLOCK,), (parts[row:], struct))
            row += blocks
    _SOURCE.kernel("root_of_sum")((1,), (1024,), (outs[0], parts, np.int32(row)))


def _all_float32(metas: Sequence[Meta | None], attrs: Attrs) -> bool:
    half = dtypes.is_half(attrs.get("copy", dtypes.bfloat16))
    return half and all(m is not None and m.dtype == dtypes.float32 for m in metas)


_adamw.cuda(forward, when=_all_float32, overlap=((0, 0), (1, 2), (2, 3)))
adamw_copy.cuda(forward, when=_all_float32, overlap=((0, 0), (1, 2), (2, 3)))
_global_norm.cuda(global_norm, scratch=norm_scratch)
merge(forward, merged)
