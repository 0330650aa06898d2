"""NumPy's .npz: plain archives of arrays, and Marian's, which carry their configuration as an array of bytes."""

import zipfile
import zlib
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import yaml

from seqlib.hub.formats.checkpoint import Checkpoint, Entry, damaged, mapped, size_of

MODEL_YML = "special:model.yml"
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, ValueError, NotImplementedError, RuntimeError, EOFError, OverflowError)
"""What the standard library raises on damaged archives."""
_DEFLATE = 1032  # no deflated byte gives more
_MAX_YML = 100_000


def members(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The members by name. Raises DataError where one would lie outside of the file."""
    for info in archive.infolist():
        if info.header_offset < 0 or info.header_offset + info.compress_size > path.stat().st_size:
            raise damaged(path, f"member {info.filename!r} lies outside of the file")
    return {info.filename: info for info in archive.infolist()}


def stored_at(path: Path, file: IO[bytes], info: zipfile.ZipInfo) -> int:
    """Where the bytes of an uncompressed member begin. Raises DataError when they reach behind the end."""
    file.seek(info.header_offset)
    header = file.read(30)
    if len(header) < 30 or header[:4] != b"PK\x03\x04":
        raise damaged(path, f"member {info.filename!r} has no header")
    begin = info.header_offset + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    if begin + info.file_size > path.stat().st_size:
        raise damaged(path, f"member {info.filename!r} ends behind the end of the file")
    return begin


def read(path: Path) -> Checkpoint:
    """The arrays of one file. Arrays of strings and bytes without a shape are metadata; arrays of Python objects are
    refused. Raises DataError."""
    entries: dict[str, Entry] = {}
    metadata: dict[str, Any] = {}
    try:
        with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
            for member, info in members(path, archive).items():
                name = member.removesuffix(".npy")
                if name == member:
                    continue
                entry = _member(path, archive, file, info, name)
                if entry.dtype.kind in "SU":
                    metadata[name] = entry.read().tolist()
                else:
                    entries[name] = entry
    except ZIP_ERRORS as error:
        raise damaged(path, str(error)) from error
    marian = entries.pop(MODEL_YML, None)
    if marian is not None:
        metadata = model_yml(path, marian.read().tobytes())
    return Checkpoint(path, "npz" if marian is None else "marian", entries, metadata)


def _member(path: Path, archive: zipfile.ZipFile, file: IO[bytes], info: zipfile.ZipInfo, name: str) -> Entry:
    if info.file_size > _DEFLATE * max(info.compress_size, 64):
        raise damaged(path, f"{name!r} can't have {info.file_size:,} bytes")
    with archive.open(info) as member:
        try:
            if np.lib.format.read_magic(member) != (1, 0):  # the later ones are for records with many fields
                raise ValueError("its header is not of version 1.0")
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(member)
        except (SyntaxError, TypeError, KeyError, MemoryError, RecursionError, AttributeError) as error:
            raise damaged(path, f"{name!r}: {error}") from error
        begin = member.tell()
    if dtype.kind not in "biufcSU" or dtype.hasobject:
        raise damaged(path, f"{name!r} has the dtype {dtype}; only arrays of numbers are read")
    room = info.file_size - begin
    if size_of(path, name, shape, dtype, room) != room:
        raise damaged(path, f"{name!r} of shape {shape} and dtype {dtype} has {room:,} bytes")
    if info.compress_type == zipfile.ZIP_STORED and info.file_size == info.compress_size:
        offset = stored_at(path, file, info) + begin
        return mapped(path, name, shape, dtype, offset, room, "F" if fortran else "C")
    return Entry(shape, dtype, partial(_inflated, path, info.filename, begin, shape, dtype, "F" if fortran else "C"))


def _inflated(path: Path, member: str, begin: int, shape: Any, dtype: np.dtype[Any], order: Any) -> np.ndarray:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(member) as file:
            file.seek(begin)
            return np.frombuffer(file.read(), dtype).reshape(shape, order=order)
    except (*ZIP_ERRORS, KeyError) as error:
        raise damaged(path, str(error)) from error


def model_yml(path: Path, content: bytes) -> dict[str, Any]:
    """Marian's configuration, a YAML mapping of plain values with a zero byte behind it. Raises DataError."""
    if len(content) > _MAX_YML or b"&" in content:  # an anchor could stand for any number of copies
        raise damaged(path, f"its {MODEL_YML} ({len(content):,} bytes) is not a list of settings")
    try:
        found = yaml.load(content.rstrip(b"\0").decode("utf-8"), yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise damaged(path, f"its {MODEL_YML}: {error}") from error
    if not isinstance(found, dict):
        raise damaged(path, f"its {MODEL_YML} is not a mapping")
    return found
