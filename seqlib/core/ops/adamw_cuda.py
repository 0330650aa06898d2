"""The CUDA kernels of adamw and global_norm: launches of adamw.cu, each over several tensors."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from seqlib.core import dtypes
from seqlib.core.backends.base import Bound
from seqlib.core.backends.cuda import Source, name_of
from seqlib.core.backends.stream_cuda import merge, pieces, place
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


def _chunks(size: int) -> int:
    return -(-size // _CHUNK)


def forward(outs: Any, ins: Any, scratch: Any, **attrs: Any) -> None:
    """The kernel of adamw and adamw_copy, float32."""
    several([(forward, outs, ins, scratch, attrs, False)])


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
        for piece in pieces(found, _TENSORS):
            struct = np.zeros((), _UPDATES)
            for i, (_, outs, ins, _, attrs, _) in enumerate(piece):
                for name, x in zip(_NAMES, (*outs, *[None] * (4 - len(outs)), *ins[:4]), strict=True):
                    struct[name][i] = 0 if x is None else x.data.ptr
                struct["decay"][i] = attrs["weight_decay"]
            blocks = place(struct, [launch[2][0].size for launch in piece], _CHUNK)
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
        for some in pieces(xs, _SQUARES):
            struct = np.zeros((), _SEVERAL)
            struct["at"][: len(some)] = [x.data.ptr for x in some]
            blocks = place(struct, [x.size for x in some], _CHUNK)
            _SOURCE.kernel(f"squares<{t}>")((blocks,), (_BLOCK,), (parts[row:], struct))
            row += blocks
    _SOURCE.kernel("root_of_sum")((1,), (1024,), (outs[0], parts, np.int32(row)))


def _all_float32(metas: Sequence[Meta | None], attrs: Attrs) -> bool:
    half = dtypes.is_half(attrs.get("copy", dtypes.bfloat16))
    return half and all(m is not None and m.dtype == dtypes.float32 for m in metas)


_adamw.cuda(forward, when=_all_float32, overlap=((0, 0), (1, 2), (2, 3)))
adamw_copy.cuda(forward, when=_all_float32, overlap=((0, 0), (1, 2), (2, 3)))
_global_norm.cuda(global_norm, scratch=norm_scratch)
merge(forward, several)
