"""PyTorch's .pt, .pth and .bin, the zip archives of today and the files from before 1.6, without PyTorch.

The pickle in them is read as data (`pickles.py`): of it tensors and dicts are built, everything else is an inert record
that is left out.
"""

import io
import mmap
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seqlib.hub.formats.checkpoint import Checkpoint, Entry, damaged, mapped
from seqlib.hub.formats.npz import ZIP_ERRORS, members, stored_at
from seqlib.hub.formats.pickles import Named, PickleError, load

_DTYPES: dict[str, np.dtype[Any]] = dict(
    zip(
        (f"{kind}Storage" for kind in "Double Float Half BFloat16 Long Int Short Char Byte Bool".split()),
        map(np.dtype, "<f8 <f4 <f2 bfloat16 <i8 <i4 <i2 i1 u1 ?".split()),
    )
)
_MAGIC = 0x1950A86A20F9469CFC6C  # of the format before 1.6
_MAX_PICKLE = 256 * 2**20


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: np.dtype[Any]
    numel: int


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def entry(self, path: Path, name: str, begin: int, room: int) -> Entry:
        """The tensor as a view of its storage, which lies `begin` bytes into the file."""
        storage = self.storage
        flat = mapped(path, name, (storage.numel,), storage.dtype, begin, room)
        last = self.offset + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides))
        count = int(np.prod([float(size) for size in self.shape]))
        if len(self.shape) > 8 or min(self.shape, default=0) < 0 or min((*self.strides, self.offset)) < 0:
            raise damaged(path, f"{name!r} has the shape {self.shape} and strides {self.strides}")
        if count > storage.numel or (count and last >= storage.numel):
            raise damaged(path, f"{name!r} of shape {self.shape} reaches behind its {storage.numel:,} elements")

        def read() -> np.ndarray:
            if count == 0:
                return np.empty(self.shape, storage.dtype)
            strides = tuple(stride * storage.dtype.itemsize for stride in self.strides)
            return np.lib.stride_tricks.as_strided(flat.read()[self.offset :], self.shape, strides, writeable=False)

        return Entry(self.shape, storage.dtype, read)


def _ints(values: Any) -> tuple[int, ...]:
    if type(values) is not tuple or any(type(value) is not int for value in values):
        raise PickleError("a shape is no tuple of whole numbers")  # showing it need not end
    return values


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> _Tensor:
    if not isinstance(storage, _Storage) or len(_ints(shape)) != len(_ints(strides)):
        raise PickleError("a tensor has no storage, or not a stride for every dimension")
    return _Tensor(storage, _ints((offset,))[0], shape, strides)


_CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": lambda pairs=(): {key: value for key, value in pairs if type(key) is str},
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_parameter": lambda tensor, *rest: tensor,
    "torch.Size": lambda sizes: tuple(sizes),
}


def _storage(key: Any) -> _Storage:
    tag, kind, name, _, numel, *_ = key
    kind = kind.name.rpartition(".")[2] if isinstance(kind, Named) else ""
    if tag != "storage" or kind not in _DTYPES or type(numel) is not int or type(name) is not str or numel < 0:
        raise PickleError(f"a tensor's storage is of the kind {kind!r}, known: {', '.join(_DTYPES)}")
    return _Storage(name, _DTYPES[kind], numel)


def looks_like(head: bytes) -> bool:
    """Whether a file that begins with `head` is a pickle, as PyTorch's files before 1.6 were."""
    return head[:1] == b"\x80" and head[1:2] <= b"\x05"


@contextmanager
def _checked(path: Path) -> Iterator[None]:
    try:
        yield
    except (*ZIP_ERRORS, PickleError, KeyError) as error:
        raise damaged(path, str(error)) from error


def read(path: Path, archive: zipfile.ZipFile) -> Checkpoint:
    """The tensors of a zip archive. Raises DataError."""
    found = members(path, archive)
    main = next(name for name in found if name.endswith("data.pkl"))
    folder = main.removesuffix("data.pkl")
    with _checked(path), open(path, "rb") as file:
        if folder + "byteorder" in found and archive.read(folder + "byteorder") == b"big":
            raise damaged(path, "it was written on a big-endian machine")
        if found[main].file_size > min(_MAX_PICKLE, path.stat().st_size):
            raise damaged(path, f"its pickle has {found[main].file_size:,} bytes")
        tensors = _tensors(load(io.BytesIO(archive.read(main)), _CALLS, _storage))
        entries: dict[str, Entry] = {}
        for name, tensor in tensors.items():
            info = found.get(f"{folder}data/{tensor.storage.key}")
            if info is None or info.compress_type != zipfile.ZIP_STORED:
                raise damaged(path, f"the content of {name!r} is missing, or compressed")
            entries[name] = tensor.entry(path, name, stored_at(path, file, info), info.file_size)
    return Checkpoint(path, "torch", entries, {})


def read_legacy(path: Path) -> Checkpoint:
    """The tensors of a file from before 1.6: pickles one after the other, then the storages. Raises DataError."""
    with _checked(path), open(path, "rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as file:
        if load(file, {}) != _MAGIC:
            raise damaged(path, "it is a pickle, but none of PyTorch's; convert it with the tool that wrote it")
        for _ in ("version", "machine"):
            load(file, {})
        found = _tensors(load(file, _CALLS, _storage))
        keys = load(file, {})
        sizes = {tensor.storage.key: tensor.storage for tensor in found.values()}
        if type(keys) is not list or any(type(key) is not str or key not in sizes for key in keys):
            raise damaged(path, "its list of storages does not fit its tensors")
        begins: dict[str, int] = {}
        for key in keys:
            numel, storage = int.from_bytes(file.read(8), "little"), sizes[key]
            if numel != storage.numel or numel > len(file):
                raise damaged(path, f"storage {key!r} has {numel:,} elements, its tensors expect {storage.numel:,}")
            begins[key] = file.tell()
            file.seek(min(begins[key] + numel * storage.dtype.itemsize, len(file)))
        size = len(file)
        entries = {
            name: tensor.entry(path, name, begins[tensor.storage.key], size - begins[tensor.storage.key])
            for name, tensor in found.items()
        }
    return Checkpoint(path, "torch", entries, {})


def _tensors(root: Any) -> dict[str, _Tensor]:
    """The tensors in a tree of dicts and lists, by the path to them joined by dots."""
    found: dict[str, _Tensor] = {}
    seen: set[int] = set()
    waiting: list[tuple[str, Any]] = [("", root)]
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, _Tensor):
            if name in found:
                raise PickleError(f"it has two tensors {name!r}")
            found[name] = value
        elif type(value) in (dict, list) and id(value) not in seen:
            seen.add(id(value))
            pairs = value.items() if type(value) is dict else enumerate(value)
            below = [(f"{name}.{key}" if name else str(key), item) for key, item in pairs]
            waiting += below[::-1]
    return found
