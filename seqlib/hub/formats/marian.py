"""Marian's binary models, those of Bergamot and Firefox among them, whose matrices are 8-bit (intgemm).

Layout: version 1, number of arrays n (uint64 each); n headers (length of name, type, dimensions, bytes; uint64 each);
the names; the shapes (int32); a padding with its length before it; the data.
"""

import math
import struct
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from seqlib.hub.formats.checkpoint import Checkpoint, Entry, damaged, mapped
from seqlib.hub.formats.npz import MODEL_YML, model_yml

_TYPES = {0x101: "i1", 0x102: "<i2", 0x104: "<i4", 0x108: "<i8", 0x201: "u1", 0x402: "<f2", 0x404: "<f4", 0x408: "<f8"}
_INTGEMM = {0x4101: "i1", 0x4102: "<i2"}  # quantised, for any processor


def looks_like(head: bytes, size: int) -> bool:
    """Whether a file of `size` bytes that begins with `head` is a Marian binary model."""
    return len(head) >= 16 and head[:8] == struct.pack("<Q", 1) and int.from_bytes(head[8:16], "little") < size // 32


def read(path: Path) -> Checkpoint:
    """The arrays of one file, under Marian's names. Quantised matrices come as float32 and, like all others, as
    (inputs, outputs); the embedding is (vocabulary, width). Raises DataError."""
    size = path.stat().st_size
    with open(path, "rb") as file:

        def take(count: int) -> bytes:
            if count > size - file.tell():
                raise damaged(path, "its header ends behind the end of the file")
            return file.read(count)

        _, count = struct.unpack("<2Q", take(16))
        headers = list(struct.iter_unpack("<4Q", take(32 * count)))
        try:
            names = [take(length).rstrip(b"\0").decode("utf-8") for length, *_ in headers]
        except UnicodeDecodeError as error:
            raise damaged(path, f"the name of an array: {error}") from error
        shapes = [struct.unpack(f"<{dims}i", take(4 * dims)) for _, _, dims, _ in headers]
        take(int.from_bytes(take(8), "little"))
        offset = file.tell()
    entries: dict[str, Entry] = {}
    for name, shape, (_, kind, _, nbytes) in zip(names, shapes, headers, strict=True):
        if name in entries:
            raise damaged(path, f"it has two arrays {name!r}")
        entries[name] = _entry(path, name, shape, kind, offset, nbytes)
        offset += nbytes
    yml = entries.pop(MODEL_YML, None)
    metadata = {} if yml is None else model_yml(path, yml.read().tobytes())
    return Checkpoint(path, "marian", entries, metadata)


def _entry(path: Path, name: str, shape: tuple[int, ...], kind: int, offset: int, nbytes: int) -> Entry:
    if kind in _TYPES:
        return mapped(path, name, shape, np.dtype(_TYPES[kind]), offset, nbytes)
    if kind not in _INTGEMM:
        advice = "convert it with marian-conv, or take the float .npz" if kind & 0x4000 else "known are Marian's own"
        raise damaged(path, f"{name!r} has the type {kind:#x}; {advice}")
    quantised = mapped(path, name, shape, np.dtype(_INTGEMM[kind]), offset, nbytes - 4)
    scale = mapped(path, name, (1,), np.dtype("<f4"), offset + math.prod(shape) * quantised.dtype.itemsize, 4)
    return Entry(shape, np.dtype("f4"), partial(_float, name, quantised, scale))


def _float(name: str, quantised: Entry, scale: Entry) -> np.ndarray:
    """Matrices are stored by columns, the embedding by rows."""
    values: Any = quantised.read()
    if name != "Wemb" and values.ndim == 2:
        values = values.reshape(values.shape[::-1]).T
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # a damaged scale is the model's to notice
        return values.astype(np.float32) / scale.read()
