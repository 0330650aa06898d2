"""A checkpoint: named arrays that are read one at a time, and the bounds that every reader keeps to.

A file is trusted in nothing: a size in it counts only after it was compared with the bytes that are there.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  (np.dtype knows its names then)
import numpy as np

from seqlib.util.errors import DataError

_MAX_DIMENSIONS = 8


@dataclass(frozen=True)
class Entry:
    """An array that was not read yet."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    """bfloat16 and the 8-bit floats are those of ml_dtypes."""
    read: Callable[[], np.ndarray]
    """The array; a copy-on-write map of the file where it holds the array as it is."""


class Checkpoint(Mapping[str, np.ndarray]):
    """The arrays of a checkpoint by name, in the file's order; ``checkpoint[name]`` reads one.

    What is read of safetensors, PyTorch and uncompressed .npz is a map of the file: pages come into memory when they
    are used, and writing to one never reaches the file. A model made under `seqlib.meta()` takes such arrays for its
    parameters as they are. Raises DataError, naming the file, where it is damaged.
    """

    def __init__(self, path: Path, format: str, entries: dict[str, Entry], metadata: dict[str, Any]) -> None:
        self.path = path
        self.format = format
        """safetensors, torch, npz, marian or gguf."""
        self.entries = entries
        self.metadata = metadata
        """What else the file says: safetensors' metadata, GGUF's keys, Marian's model.yml, strings in .npz."""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes by name; nothing is read for them."""
        return {name: entry.shape for name, entry in self.entries.items()}

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays in their dtypes."""
        return sum(math.prod(entry.shape) * entry.dtype.itemsize for entry in self.entries.values())

    def __getitem__(self, name: str) -> np.ndarray:
        return self.entries[name].read()

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


def damaged(path: Path, what: str) -> DataError:
    """The error for a file that contradicts itself."""
    return DataError(f"{path}: is damaged or incomplete: {what}; download or copy it again")


def size_of(path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], room: int) -> int:
    """Bytes of an array of `shape`; DataError where they are more than the `room` that the file has for them."""
    if len(shape) > _MAX_DIMENSIONS or any(size < 0 for size in shape):
        raise damaged(path, f"{name!r} has the shape {shape}")
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes > room or (nbytes == 0 and max(shape, default=0) > 2**31):
        raise damaged(path, f"{name!r} of shape {shape} and dtype {dtype} needs {nbytes:,} bytes, there are {room:,}")
    return nbytes


def mapped(
    path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], offset: int, room: int, order: Any = "C"
) -> Entry:
    """The entry of an array that lies in the file, `offset` bytes from its start, within `room` bytes."""
    nbytes = size_of(path, name, shape, dtype, room)
    if offset + nbytes > path.stat().st_size or offset < 0:
        raise damaged(path, f"{name!r} ends behind the end of the file")

    def read() -> np.ndarray:
        if nbytes == 0:
            return np.empty(shape, dtype)
        if path.stat().st_size < offset + nbytes:
            raise damaged(path, "it has become shorter since it was opened")
        return np.asarray(np.memmap(path, dtype, "c", offset, shape, order))

    return Entry(shape, dtype, read)
