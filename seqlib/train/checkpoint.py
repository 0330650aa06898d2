"""Checkpoints: folders `step-N` that are whole or absent, with a digest of every file.

A checkpoint holds `model.safetensors`, `optimizer.safetensors`, `state.json` (random state, position in the
batch plan, best score, environment) and `manifest.json` (format version, size and sha256 of the other three). It is
written aside, synced and renamed, so a kill at any moment leaves the older ones as they were.
"""

import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from seqlib.util.arrays import write_arrays
from seqlib.util.atomic import atomic_folder
from seqlib.util.errors import DataError, SeqlibError
from seqlib.util.log import get_logger
from seqlib.util.manifest import check_manifest, write_manifest

FORMAT_VERSION = 2
"""The version this code writes and reads; version 1 had no number in its manifest."""
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
        write_manifest(aside, FORMAT_VERSION)
    return target


def load(path: Path) -> Checkpoint:
    """Read one checkpoint after checking every byte of it.

    `DataError` names the file that is missing or damaged, or says that the checkpoint is of another format version.
    """
    from safetensors.numpy import load_file

    check_manifest(path, FORMAT_VERSION)
    state = msgspec.json.decode((path / "state.json").read_bytes())
    return Checkpoint(
        path=path,
        step=int(state["step"]),
        model=load_file(path / "model.safetensors"),
        optimizer=load_file(path / "optimizer.safetensors"),
        state=state,
    )


def load_weights(path: Path) -> dict[str, np.ndarray]:
    """The weights of a checkpoint that are evaluated: the moving averages where the optimizer kept them; DataError as
    `load`."""
    return average([path])


def average(paths: Sequence[Path]) -> dict[str, np.ndarray]:
    """The mean of the evaluated weights of several checkpoints, summed in float64 in the order given, a tensor at a
    time; DataError as `load`."""
    for path in paths:
        check_manifest(path, FORMAT_VERSION)
    slots = set(_names(paths[0] / "optimizer.safetensors"))
    found: dict[str, np.ndarray] = {}
    for name in _names(paths[0] / "model.safetensors"):
        place = ("optimizer.safetensors", f"ema.{name}") if f"ema.{name}" in slots else ("model.safetensors", name)
        first, *rest = (_read(path / place[0], place[1]) for path in paths)
        for array in rest:
            first = first.astype(np.float64) + array
        found[name] = (first / len(paths)).astype(np.float32) if rest else first
    return found


def _names(path: Path) -> list[str]:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        return list(file.keys())


def _read(path: Path, name: str) -> np.ndarray:
    """One tensor; the file is let go at once, so that its pages do not add up."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        return file.get_tensor(name)


def steps(folder: Path) -> list[int]:
    """The steps of the checkpoints in a folder, ascending; unfinished folders are not among them."""
    if not folder.is_dir():
        return []
    found = (_NAME.fullmatch(entry.name) for entry in folder.iterdir() if entry.is_dir())
    return sorted(int(match[1]) for match in found if match)


def newest(folder: Path) -> Checkpoint:
    """The newest checkpoint that can be used; damaged ones are named in a warning and passed over.

    Raises `DataError` when none can be used.
    """
    damaged: list[str] = []
    for step in reversed(steps(folder)):
        try:
            found = load(folder / f"step-{step}")
        except DataError as error:
            damaged.append(str(error))
            get_logger().warning("checkpoint step-%d cannot be used: %s; trying the one before", step, error)
            continue
        if damaged:
            get_logger().warning("using step-%d, the newest checkpoint that can be used", found.step)
        return found
    detail = "\n  ".join(damaged) if damaged else "the folder holds none"
    raise DataError(
        f"{folder}: no checkpoint can be used; bring back a copy of one, go on with the seqlib that wrote it, "
        f"or start a new run in another --output_dir\n  {detail}"
    )


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
