"""safetensors files, read by their header: arrays are mapped one by one, so that loading needs no memory of its own.

The safetensors library writes ours; its reader keeps a whole file mapped while any array of it is in use, and has no
bfloat16 for NumPy.
"""

import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from seqlib.hub.formats.checkpoint import Checkpoint, Entry, damaged, mapped

DTYPES: dict[str, np.dtype[Any]] = dict(
    zip(
        "F64 F32 F16 BF16 F8_E4M3 F8_E5M2 I64 I32 I16 I8 U64 U32 U16 U8 BOOL".split(),
        map(np.dtype, "<f8 <f4 <f2 bfloat16 float8_e4m3fn float8_e5m2 <i8 <i4 <i2 i1 <u8 <u4 <u2 u1 ?".split()),
    )
)
_MAX_HEADER = 100_000_000  # bytes, as in the format's own library


class _Tensor(msgspec.Struct):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


def looks_like(head: bytes, size: int) -> bool:
    """Whether a file of `size` bytes that begins with `head` is safetensors."""
    return len(head) >= 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size - 8


def read(path: Path) -> Checkpoint:
    """The arrays of one file. Raises DataError."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(size - 8, _MAX_HEADER):
            raise damaged(path, f"its header should have {length:,} bytes")
        header = file.read(length)
    try:
        raw = msgspec.json.decode(header, type=dict[str, msgspec.Raw])
        metadata = msgspec.json.decode(raw.pop("__metadata__", b"{}"), type=dict[str, str])
        tensors = {name: msgspec.json.decode(value, type=_Tensor) for name, value in raw.items()}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise damaged(path, f"its header: {error}") from error
    entries: dict[str, Entry] = {}
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES:
            raise damaged(path, f"{name!r} has the dtype {tensor.dtype!r}, known: {', '.join(DTYPES)}")
        begin, end = tensor.data_offsets
        shape, dtype = tuple(tensor.shape), DTYPES[tensor.dtype]
        if not 0 <= begin <= end or end - begin != math.prod(shape) * dtype.itemsize:
            raise damaged(path, f"{name!r} of shape {shape} and dtype {tensor.dtype} has bytes {begin} to {end}")
        entries[name] = mapped(path, name, shape, dtype, 8 + length + begin, end - begin)
    return Checkpoint(path, "safetensors", entries, dict(metadata))
