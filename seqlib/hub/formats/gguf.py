"""GGUF files (llama.cpp): keys and values, then tensors, most of them quantised.

The header is read here, because the gguf package's reader trusts the counts in it; that package (extra `gguf`) has the
formulas of the quantised formats, which are written down nowhere else.
"""

import struct
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from seqlib.hub.formats.checkpoint import Checkpoint, Entry, damaged, mapped
from seqlib.util.errors import UsageError

MAGIC = b"GGUF"
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_BLOCKS = 4096  # that are dequantised at once
_PLAIN = {0: "<f4", 1: "<f2", 24: "i1", 25: "<i2", 26: "<i4", 27: "<i8", 28: "<f8", 30: "bfloat16"}


class _Reader:
    """The file's header from its beginning, never behind its end."""

    def __init__(self, path: Path) -> None:
        self.path, self.position = path, 4
        self.data = np.memmap(path, "u1", "r").data

    def bytes(self, count: int) -> bytes:
        if count > len(self.data) - self.position:
            raise damaged(self.path, "its header ends behind the end of the file")
        self.position += count
        return self.data[self.position - count : self.position].tobytes()

    def number(self, kind: str) -> Any:
        return struct.unpack("<" + kind, self.bytes(struct.calcsize("<" + kind)))[0]

    def string(self) -> str:
        return self.bytes(self.number("Q")).decode("utf-8", "surrogateescape")

    def value(self, kind: int, depth: int = 0) -> Any:
        if kind == _STRING:
            return self.string()
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind != _ARRAY or depth > 3:
            raise damaged(self.path, f"a value of type {kind}")
        inner, count = self.number("I"), self.number("Q")
        if inner in _SCALARS:
            code = "<" + _SCALARS[inner]
            return np.frombuffer(self.bytes(count * struct.calcsize(code)), code).tolist()
        if count > len(self.data):
            raise damaged(self.path, f"an array of {count:,} values")
        return [self.value(inner, depth + 1) for _ in range(count)]


class _Fresh(np.ndarray):
    """Memory that nobody else holds: a parameter may take it as it takes a private map of a file."""

    mode = "c"


def read(path: Path) -> Checkpoint:
    """The tensors of one file in NumPy's order of dimensions, (out, in) for matrices, and its keys as metadata.
    Quantised tensors come as float32; reading one needs the extra `gguf`. Raises DataError."""
    reader = _Reader(path)
    version, count, keys = reader.number("I"), reader.number("Q"), reader.number("Q")
    if version not in (2, 3):
        raise damaged(path, f"its version is {version}, known are 2 and 3")
    if count + keys > len(reader.data):
        raise damaged(path, f"it should have {count:,} tensors and {keys:,} keys")
    metadata = {reader.string(): reader.value(reader.number("I")) for _ in range(keys)}
    headers: list[tuple[str, tuple[int, ...], int, int]] = []
    for _ in range(count):
        name, dims = reader.string(), reader.number("I")
        if dims > 4:
            raise damaged(path, f"{name!r} has {dims} dimensions")
        shape = tuple(reader.number("Q") for _ in range(dims))[::-1]
        headers.append((name, shape, reader.number("I"), reader.number("Q")))
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or alignment <= 0:
        raise damaged(path, f"its alignment is {alignment!r}")
    base = -(-reader.position // alignment) * alignment
    entries: dict[str, Entry] = {}
    for name, shape, kind, offset in headers:
        if name in entries:
            raise damaged(path, f"it has two tensors {name!r}")
        room = len(reader.data) - base - offset
        if kind in _PLAIN:
            entries[name] = mapped(path, name, shape, np.dtype(_PLAIN[kind]), base + offset, room)
        else:
            entries[name] = _quantised(path, name, shape, kind, base + offset, room)
    return Checkpoint(path, "gguf", entries, metadata)


def _quantised(path: Path, name: str, shape: tuple[int, ...], kind: int, offset: int, room: int) -> Entry:
    try:
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
    except ImportError as error:
        raise UsageError(
            f"{path}: {name!r} is quantised; reading it needs the gguf package: the extra `gguf`"
        ) from error
    try:
        quantisation = GGMLQuantizationType(kind)
    except ValueError as error:
        raise damaged(path, f"{name!r} has the type {kind}") from error
    block, nbytes = GGML_QUANT_SIZES[quantisation]
    if not shape or shape[-1] % block or 0 in shape:
        raise damaged(path, f"{name!r} of shape {shape} is not in blocks of {block}")
    raw = mapped(path, name, (*shape[:-1], shape[-1] // block * nbytes), np.dtype("u1"), offset, room)
    return Entry(shape, np.dtype("f4"), partial(_dequantised, path, name, shape, raw, quantisation, nbytes))


def _dequantised(
    path: Path, name: str, shape: tuple[int, ...], raw: Entry, quantisation: Any, nbytes: int
) -> np.ndarray:
    """In few calls, each of a row of many blocks: the package takes short rows one by one, and slowly."""
    from gguf.quants import dequantize

    flat, out, at = raw.read().reshape(-1), np.asarray(_Fresh(shape, np.float32)), 0
    try:
        with np.errstate(all="ignore"):
            for begin in range(0, len(flat), _BLOCKS * nbytes):
                part = dequantize(flat[None, begin : begin + _BLOCKS * nbytes], quantisation)
                out.reshape(-1)[at : at + part.size] = part[0]
                at += part.size
            return out
    except NotImplementedError as error:
        raise UsageError(
            f"{path}: {name!r} is quantised as {quantisation.name}, which the gguf package can't read"
        ) from error
