"""Checkpoints: folders `step-N` that are whole or absent, with a digest of every file.

A checkpoint holds `model.safetensors`, `optimizer.safetensors`, `state.json` (random state, position in the
batch plan, best score, environment) and `manifest.json` (size and sha256 of the other three). It is written
aside, synced and renamed, so a kill at any moment leaves the older ones as they were.
"""

from __future__ import annotations

import errno
import hashlib
import re
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from seqlib.util.atomic import atomic_folder
from seqlib.util.errors import DataError, SeqlibError
from seqlib.util.log import get_logger

FILES = ("model.safetensors", "optimizer.safetensors", "state.json")
_NAME = re.compile(r"step-(\d+)")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint read back: arrays by name, and the state tree as it was saved."""

    path: Path
    step: int
    model: dict[str, np.ndarray]
    optimizer: dict[str, np.ndarray]
    state: dict[str, Any]


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes, as hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays as safetensors; a full disk is an `OSError` with ENOSPC, as for any other file."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    try:
        save_file({name: np.asarray(array, order="C") for name, array in arrays.items()}, path)
    except SafetensorError as error:
        # The library reports a failed write in words only; the number in them is the system's.
        found = re.search(r"os error (\d+)", str(error))
        raise OSError(int(found[1]) if found else errno.EIO, str(error), str(path)) from error


def save(
    folder: Path,
    step: int,
    model: Mapping[str, np.ndarray],
    optimizer: Mapping[str, np.ndarray],
    state: Mapping[str, Any],
) -> Path:
    """Write `folder/step-N`; errors of the disk are `SeqlibError`s that name path and free space."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"step-{step}"
    with atomic_folder(target) as aside:
        write_arrays(aside / "model.safetensors", model)
        write_arrays(aside / "optimizer.safetensors", optimizer)
        (aside / "state.json").write_bytes(msgspec.json.format(msgspec.json.encode(state), indent=1))
        manifest = {
            name: {"bytes": (aside / name).stat().st_size, "sha256": file_digest(aside / name)}
            for name in FILES
        }
        (aside / "manifest.json").write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1))
    return target


def verify(path: Path) -> None:
    """Check size and sha256 of every file of one checkpoint; `DataError` names the first that is wrong."""
    try:
        manifest = msgspec.json.decode((path / "manifest.json").read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        raise DataError(f"{path / 'manifest.json'}: cannot be read ({error})") from error
    for name in FILES:
        file, entry = path / name, manifest.get(name) if isinstance(manifest, dict) else None
        if not isinstance(entry, dict):
            raise DataError(f"{path / 'manifest.json'}: has no entry for {name}")
        if not file.is_file():
            raise DataError(f"{file}: is missing")
        if file.stat().st_size != entry.get("bytes"):
            raise DataError(
                f"{file}: has {file.stat().st_size} bytes, its manifest says {entry.get('bytes')}"
            )
        if file_digest(file) != entry.get("sha256"):
            raise DataError(f"{file}: its sha256 differs from the manifest's")


def load(path: Path) -> Checkpoint:
    """Read one checkpoint after checking it; `DataError` when a file is missing or damaged."""
    from safetensors.numpy import load_file

    verify(path)
    state = msgspec.json.decode((path / "state.json").read_bytes())
    return Checkpoint(
        path=path,
        step=int(state["step"]),
        model=load_file(path / "model.safetensors"),
        optimizer=load_file(path / "optimizer.safetensors"),
        state=state,
    )


def steps(folder: Path) -> list[int]:
    """The steps of the checkpoints in a folder, ascending; unfinished folders are not among them."""
    if not folder.is_dir():
        return []
    found = (_NAME.fullmatch(entry.name) for entry in folder.iterdir() if entry.is_dir())
    return sorted(int(match[1]) for match in found if match)


def newest(folder: Path) -> Checkpoint:
    """The newest checkpoint that is whole; damaged ones are named in a warning and passed over.

    Raises `DataError` when none can be used.
    """
    damaged: list[str] = []
    for step in reversed(steps(folder)):
        try:
            found = load(folder / f"step-{step}")
        except DataError as error:
            damaged.append(str(error))
            get_logger().warning("checkpoint step-%d is damaged: %s; trying the one before", step, error)
            continue
        if damaged:
            get_logger().warning("using step-%d, the newest checkpoint that is whole", found.step)
        return found
    detail = "; ".join(damaged) if damaged else "the folder holds none"
    raise DataError(f"{folder}: no checkpoint can be used ({detail})")


def prune(folder: Path, keep_last: int, keep: Collection[int] = ()) -> None:
    """Delete all checkpoints but the last `keep_last` and those of the steps `keep`, the best."""
    for step in steps(folder)[:-keep_last]:
        if step not in keep:
            remove(folder / f"step-{step}")


def remove(path: Path) -> None:
    """Delete a checkpoint so that a kill half-way leaves nothing that looks like one."""
    aside = path.with_name(f".deleted-{path.name}")
    try:
        if aside.exists():
            shutil.rmtree(aside)
        path.rename(aside)
        shutil.rmtree(aside)
    except OSError as error:
        raise SeqlibError(f"{path}: the old checkpoint cannot be deleted ({error})") from error


def clean(folder: Path) -> None:
    """Delete what a killed run left unfinished in its checkpoint folder (names that start with a dot)."""
    if folder.is_dir():
        for entry in folder.iterdir():
            if entry.name.startswith(".") and entry.is_dir():
                shutil.rmtree(entry)
