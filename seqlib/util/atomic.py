"""Files and folders that appear whole or not at all: write aside, fsync, rename, fsync the folder.

A process that is killed while it writes leaves the previous file or folder as it was, plus a hidden
``.NAME.HOST-PID-*.tmp`` that the next write of the same name removes.
"""

import errno
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seqlib.util.errors import SeqlibError

_AT_FDCWD = -100  # linux/fcntl.h
_RENAME_EXCHANGE = 2  # linux/fs.h


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield an empty file beside `path` (whose folder is made when missing); on success it takes the place of `path`,
    on any error it is removed.

    Raises SeqlibError when the disk is full, naming the path and the bytes left; OSError otherwise.
    """
    target = Path(path)
    with _full_disk(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(target)
        descriptor, name = tempfile.mkstemp(prefix=_prefix(target), suffix=".tmp", dir=target.parent)
        os.close(descriptor)
        aside = Path(name)
        try:
            yield aside
            _fsync(aside)
            os.chmod(aside, _mode(target))
            os.replace(aside, target)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        _fsync(target.parent)


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `path`. Errors as `atomic_file`."""
    with atomic_file(path) as aside:
        aside.write_bytes(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` as UTF-8 with the line ends it has. Errors as `atomic_file`."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: str | os.PathLike[str], obj: Any) -> None:
    """Write `obj` as indented UTF-8 JSON, keys in their order. NaN and infinities raise ValueError: not JSON."""
    write_text(path, json.dumps(obj, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a fresh folder beside `path`; on success it takes the place of `path`, on any error it is removed.

    Every file is fsynced before the rename. On Linux an existing folder is exchanged in one system call; elsewhere
    it is moved aside first. Raises SeqlibError when the disk is full, naming the path and the bytes left.
    """
    target = Path(path)
    with _full_disk(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(target)
        aside = Path(tempfile.mkdtemp(prefix=_prefix(target), suffix=".tmp", dir=target.parent))
        try:
            yield aside
            for folder, _, files in os.walk(aside):
                for name in files:
                    _fsync(Path(folder, name))
                _fsync(Path(folder))
            os.chmod(aside, 0o777 & ~umask())
            _swap_in(aside, target)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise


def free_folder(path: str | os.PathLike[str]) -> Path:
    """`path`, or with a number behind it when there is something in it."""
    wanted = free = Path(path)
    number = 1
    while free.exists() and any(free.iterdir()):
        number += 1
        free = wanted.with_name(f"{wanted.name}-{number}")
    return free


def _swap_in(aside: Path, target: Path) -> None:
    """Rename `aside` to `target`; what stood there is removed afterwards."""
    if not target.exists():
        os.rename(aside, target)
        _fsync(target.parent)
        return
    if _exchange(aside, target):
        old = aside
    else:
        old = Path(tempfile.mkdtemp(prefix=_prefix(target), suffix=".tmp", dir=target.parent)) / "old"
        os.rename(target, old)
        try:
            os.rename(aside, target)
        except OSError:
            os.rename(old, target)
            raise
        old = old.parent
    _fsync(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two paths in one system call; False where the system or its file system has none."""
    if platform.system() != "Linux":
        return False
    import ctypes

    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    return renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0


@contextmanager
def _full_disk(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            if _prefix(target) in str(error.filename):
                error.filename = str(target)  # the name aside would say nothing to a user
            raise
        folder = target.parent
        while not folder.exists():
            folder = folder.parent
        free = shutil.disk_usage(folder).free
        raise SeqlibError(
            f"no space left to write {target}: {free:,} bytes free in {folder}. "
            "Nothing was replaced; free some space and try again."
        ) from error


def _prefix(target: Path) -> str:
    return f".{target.name}.{platform.node()}-{os.getpid()}-"


def _remove_leftovers(target: Path) -> None:
    """Remove what dead processes of this machine left beside `target`."""
    start = f".{target.name}.{platform.node()}-"
    for entry in os.scandir(target.parent):
        if not (entry.name.startswith(start) and entry.name.endswith(".tmp")):
            continue
        process = entry.name[len(start) :].split("-")[0]
        if not process.isdigit() or _alive(int(process)):
            continue
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            Path(entry.path).unlink(missing_ok=True)


def _alive(process: int) -> bool:
    if os.name != "posix":
        return True  # signal 0 would end the process there
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _mode(target: Path) -> int:
    return target.stat().st_mode & 0o7777 if target.exists() else 0o666 & ~umask()


def umask() -> int:
    """The bits that new files of this process do not get."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _fsync(path: Path) -> None:
    if path.is_dir() and os.name != "posix":
        return  # folders can't be opened there
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
