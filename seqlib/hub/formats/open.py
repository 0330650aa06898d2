"""Which format a file has, by its content, and which of the files in a folder are the weights."""

import zipfile
from pathlib import Path

import msgspec

from seqlib.hub.formats import gguf, marian, npz, safetensors, torch
from seqlib.hub.formats.checkpoint import Checkpoint, Entry, damaged
from seqlib.util.errors import DataError, UsageError

# The first of these that a folder has; safetensors before what is slower to read.
_IN_FOLDERS = (
    "model.safetensors", "model.safetensors.index.json", "*.safetensors", "pytorch_model.bin",
    "pytorch_model.bin.index.json", "model*.npz", "*.npz", "model*.bin", "*.gguf", "*.pt", "*.pth",
)  # fmt: skip


class _Index(msgspec.Struct):
    weight_map: dict[str, str]


def open_checkpoint(path: str | Path) -> Checkpoint:
    """The arrays in a file, or in the weights of a folder, sharded ones (``*.index.json``) as one.

    Formats are told by content: safetensors, PyTorch (both of its formats), .npz, Marian's .npz and binary, GGUF.
    Raises DataError, naming the file, when it is missing, damaged or of no known format, UsageError when a folder has
    no weights or several.
    """
    path = Path(path)
    if path.is_dir():
        path = _weights_of(path)
    try:
        if path.name.endswith(".index.json"):
            return _sharded(path)
        return _file(path)
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file") from None


def _weights_of(folder: Path) -> Path:
    for pattern in _IN_FOLDERS:
        found = sorted(folder.glob(pattern))
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(file.name for file in found[:8])
            raise UsageError(f"{folder}: has several files of weights ({names}); name the one you mean")
    raise UsageError(f"{folder}: has no weights; looked for {', '.join(_IN_FOLDERS)}")


def _file(path: Path) -> Checkpoint:
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(16)
    if head[:4] == gguf.MAGIC:
        return gguf.read(path)
    if head[:4] == b"PK\x03\x04":
        return _archive(path)
    if safetensors.looks_like(head, size):
        return safetensors.read(path)
    if marian.looks_like(head, size):
        return marian.read(path)
    if torch.looks_like(head):
        return torch.read_legacy(path)
    if head[:15].lower().startswith((b"<!doctype", b"<html")):
        raise DataError(f"{path}: is a web page, not weights: its address needs a login, or is that of a page")
    if head.startswith(b"version https://"):
        raise DataError(f"{path}: is a Git LFS pointer; `git lfs pull` in its repository gets the weights")
    if head.startswith(b"\x89HDF\r\n"):
        raise DataError(f"{path}: is HDF5 (Keras), which is not read; convert it to .npz (docs/hub.md shows how)")
    raise DataError(f"{path}: is not of a known format: safetensors, PyTorch, .npz, Marian or GGUF")


def _archive(path: Path) -> Checkpoint:
    try:
        archive = zipfile.ZipFile(path)
    except npz.ZIP_ERRORS as error:
        raise damaged(path, str(error)) from error
    with archive:
        if any(name.endswith("data.pkl") for name in archive.namelist()):
            return torch.read(path, archive)
    return npz.read(path)


def _sharded(index: Path) -> Checkpoint:
    try:
        weight_map = msgspec.json.decode(index.read_bytes(), type=_Index).weight_map
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise damaged(index, str(error)) from error
    shards: dict[str, Checkpoint] = {}
    for name in dict.fromkeys(weight_map.values()):
        if Path(name).name != name:
            raise DataError(f"{index}: names {name!r}, which is not a file beside it")
        if not (index.parent / name).is_file():
            raise DataError(f"{index.parent / name}: is missing; {index.name} names it as a part of the weights")
        shards[name] = _file(index.parent / name)
    entries: dict[str, Entry] = {}
    for name, file in weight_map.items():
        if name not in shards[file].entries:
            raise damaged(index.parent / file, f"it has no {name!r}, which {index.name} puts there")
        entries[name] = shards[file].entries[name]
    first = next(iter(shards.values()), None)
    return Checkpoint(index, "safetensors" if first is None else first.format, entries, {})
