"""The CUDA kernel of attention of few queries without gradients, as in decoding: launches of attention_few.cu."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from seqlib.core import dtypes
from seqlib.core.backends.cuda import TYPES, Source, name_of, pointer
from seqlib.core.op import Attrs, Layout, Meta
from seqlib.core.ops.attention import _attention
from seqlib.core.ops.attention_cuda import _rows
from seqlib.core.ops.attention_parts import unpacked, unpacked_metas

_THREADS = 128
_MOST = 16  # queries of a sentence
_SHARED = 48 * 1024  # bytes that a block has without asking
_WIDTHS = (32, 64, 128)
_DTYPES = ("float32", "bfloat16", "float16")

_SOURCE = Source("attention_few.cu", [f"attention_few<{TYPES[d]}, {w}>" for d in _DTYPES for w in _WIDTHS])
_SHAPE = np.dtype(
    [
        *((name, "i4") for name in ("queries", "keys", "heads", "key_heads")),
        *((f"{name}_stride", "i8") for name in ("q", "k", "v")),
        *((f"bias_{name}", "i8") for name in ("sentence", "head", "query", "key")),
        ("length_stride", "i8"),
        ("scale", "f4"),
    ],
    align=True,
)


def _floats(queries: int, keys: int, width: int) -> int:
    """Of shared memory: the queries, their scores, and a sum of values a warp."""
    return queries * (width + keys + _THREADS // 32 * width)


def _launch(outs: Any, ins: Any, scratch: Any, *, scale: float, kv_heads: int, **attrs: Any) -> None:
    bias, lengths = ins[3:5]
    q, k, v = unpacked(ins[0], ins[1], ins[2], kv_heads)
    (sentences, queries, heads, width), keys = q.shape, k.shape[1]
    s = np.zeros((), _SHAPE)
    s["queries"], s["keys"], s["heads"], s["key_heads"], s["scale"] = queries, keys, heads, k.shape[2], scale
    for name, array in (("q", q), ("k", k), ("v", v)):
        s[f"{name}_stride"] = array.strides[1] // array.itemsize
    if lengths is not None:
        s["length_stride"] = lengths.strides[0] // lengths.itemsize
    if bias is not None:
        full = (1,) * (4 - bias.ndim) + bias.shape
        steps = (0,) * (4 - bias.ndim) + tuple(n // bias.itemsize for n in bias.strides)
        for name, size, step in zip(("sentence", "head", "query", "key"), full, steps, strict=True):
            s[f"bias_{name}"] = step if size > 1 else 0
    args = (outs[0], q, k, v, pointer(bias), pointer(lengths), s)
    shared = 4 * _floats(queries, keys, width)
    kernel = _SOURCE.kernel(f"attention_few<{name_of(q)}, {width}>")
    kernel((sentences, heads), (_THREADS,), args, shared_mem=shared)


def _serves(metas: Sequence[Meta | None], attrs: Attrs) -> bool:
    q, k, _ = unpacked_metas(*metas[:3], attrs["kv_heads"])  # type: ignore[arg-type]
    lengths = metas[4]
    apart = attrs["independent"] and not attrs["dropout"] and metas[5] is None
    if not apart or q.size == 0 or k.size == 0 or q.dtype.name not in _DTYPES or q.shape[-1] not in _WIDTHS:
        return False
    few = q.shape[1] <= _MOST and 4 * _floats(q.shape[1], k.shape[1], q.shape[-1]) <= _SHARED
    whole = not attrs["causal"] or q.shape[1] == 1  # then the one query is the last, which sees every key
    return few and whole and (lengths is None or lengths.dtype == dtypes.int32)


_apart = _rows((0, 1, 2))


def _strided(index: int, layout: Layout) -> bool:
    """Rows as the other kernel takes them; lengths may be one number for all."""
    return index == 4 or _apart(index, layout)


_attention.cuda(_launch, when=_serves, strided=_strided)
