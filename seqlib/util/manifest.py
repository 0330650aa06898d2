"""`manifest.json`: the format version of a folder, and size and sha256 of every file in it."""

import hashlib
import os
from pathlib import Path
from typing import Any

import msgspec

from seqlib.util.errors import DataError
from seqlib.util.files import read_json

MANIFEST = "manifest.json"


def file_digest(path: str | os.PathLike[str]) -> str:
    """sha256 of a file's bytes, as hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path, version: int) -> None:
    """Write the manifest of all files that lie in `folder` and below it now. The caller makes the folder atomic."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    listed = {path.relative_to(folder).as_posix(): _entry(path) for path in files}
    content = msgspec.json.encode({"format_version": version, "files": listed})
    (folder / MANIFEST).write_bytes(msgspec.json.format(content, indent=1))


def check_manifest(folder: Path, version: int) -> None:
    """Read every file of `folder` against its manifest.

    Raises DataError naming the file that is missing, damaged or not listed, or the manifest when it is of another
    format version. What passes has, to the bit, the files that were written.
    """
    path = folder / MANIFEST
    manifest = read_json(path, Any)
    found = manifest.get("format_version", 1) if isinstance(manifest, dict) else None
    if found != version:
        raise DataError(f"{path}: format version {found!r}, this seqlib reads {version}")
    listed = manifest.get("files")
    there = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    if not isinstance(listed, dict) or there - {MANIFEST} - listed.keys():
        raise DataError(f"{path}: is damaged: it does not list {', '.join(sorted(there - {MANIFEST}))}")
    for name, entry in listed.items():
        file = folder / name
        if not file.is_file():
            raise DataError(f"{file}: is missing")
        size, wanted = file.stat().st_size, entry.get("bytes") if isinstance(entry, dict) else None
        if size != wanted:
            raise DataError(f"{file}: is damaged: {size:,} bytes, its manifest says {wanted}")
        if file_digest(file) != entry.get("sha256"):
            raise DataError(f"{file}: is damaged: its sha256 is not the manifest's")


def _entry(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": file_digest(path)}
