"""Archives from elsewhere: only plain files, only below their folder, never more bytes than they promise."""

import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from seqlib.hub.formats.npz import ZIP_ERRORS
from seqlib.util.errors import HubError

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
_MOST_FILES = 10_000
_RATIO = 200  # of unpacked to packed bytes: weights hardly compress, texts by 10


def safe_name(name: str) -> str:
    """A relative path with '/' that stays below its folder on every system. Raises HubError for another."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or any(c in name for c in "\\:\0") or name != "/".join(parts):
        raise HubError(f"{name!r} is not the name of a file below its folder")
    return name


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip or tar archive into `folder`; a single folder at its top is left out.

    Links, devices and names that lead out of the folder are refused, and so is what would take more than the free disk,
    10,000 files, or 200 times the archive's size. Raises HubError, and then leaves nothing in `folder`.
    """
    room = min(shutil.disk_usage(folder).free, _RATIO * archive.stat().st_size + 2**20)
    try:
        for number, (name, size, content) in enumerate(_members(archive)):
            room -= size
            if room < 0 or number >= _MOST_FILES:
                raise HubError(f"{archive.name}: unpacks to more than fits or than is plausible; it was not unpacked")
            target = folder / safe_name(name)
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(target, "xb") as file:
                shutil.copyfileobj(content, file)
            if target.stat().st_size != size:
                raise HubError(f"{archive.name}: {name!r} is cut short")
    except (*ZIP_ERRORS, tarfile.TarError, FileExistsError, NotADirectoryError) as error:
        shutil.rmtree(folder)
        raise HubError(f"{archive.name}: is damaged or incomplete: {error}") from error
    except HubError:
        shutil.rmtree(folder)
        raise
    top = list(folder.iterdir())
    if len(top) == 1 and top[0].is_dir():
        inner = top[0].rename(folder.with_name(folder.name + ".top"))
        folder.rmdir()
        inner.rename(folder)


def _members(archive: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    """Name, bytes and content of every file."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                if not info.is_dir():
                    with opened.open(info) as content:
                        yield info.filename, info.file_size, content
        return
    with tarfile.open(archive) as opened:
        for member in opened:
            content = opened.extractfile(member) if member.isreg() else None
            if content is not None:
                yield member.name.removeprefix("./"), member.size, content
            elif not member.isdir():
                raise HubError(f"{archive.name}: {member.name!r} is a link or a device, which is refused")
