"""Models at https:// addresses: a file, an archive, or a folder of a static hub, which has a manifest of its files.

```
CACHE/hub/NAME-DIGEST/        the files, and manifest.json with the size and sha256 of each: there when complete
CACHE/hub/NAME-DIGEST.json    where they came from
CACHE/hub/NAME-DIGEST.partial/  what has arrived so far
```
"""

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import msgspec
from filelock import FileLock

from seqlib.hub.archive import SUFFIXES, safe_name, unpack
from seqlib.hub.download import fetch, shown
from seqlib.util.atomic import atomic_folder, write_json
from seqlib.util.errors import DataError, HubError
from seqlib.util.log import get_logger
from seqlib.util.manifest import MANIFEST, check_manifest, file_digest, write_manifest

VERSION = 1
"""Format version of the manifest of a static hub's folder and of the cache's."""
_FILES = (".safetensors", ".npz", ".bin", ".pt", ".pth", ".gguf", *SUFFIXES)
_LARGEST_MANIFEST = 10_000_000  # bytes


class _File(msgspec.Struct):
    bytes: int
    sha256: str


class _Manifest(msgspec.Struct):
    files: dict[str, _File]
    format_version: int


def root() -> Path:
    """``$SEQLIB_CACHE/hub``, else the one in the user's cache folder."""
    import platformdirs

    return Path(os.environ.get("SEQLIB_CACHE") or platformdirs.user_cache_dir("seqlib")) / "hub"


def entry_of(url: str) -> Path:
    """The folder that holds what is at `url`, whether it is there or not."""
    name = re.sub(r"[^A-Za-z0-9._-]", "_", unquote(urlsplit(url).path).rstrip("/").rpartition("/")[2]).strip(".")
    return root() / f"{name[:60] or 'model'}-{hashlib.sha256(url.encode()).hexdigest()[:12]}"


def resolve(url: str, offline: bool) -> Path:
    """The folder with the model at `url`, or the file if it is one; downloaded, checked and kept when it is not there.

    ``#sha256=…`` behind the address of a file is the digest that it must have. Two processes wait for each other.
    Raises HubError; the cache then holds a complete model or none.
    """
    entry = entry_of(url)
    if not _complete(entry):
        if offline:
            raise HubError(f"{shown(url)}: is not in the cache {root()}, and this is offline mode")
        with _locked(entry):
            if not _complete(entry):
                _download(url, entry)
    files = [path for path in entry.iterdir() if path.name != MANIFEST]
    return files[0] if len(files) == 1 and _is_file(url) else entry


def _is_file(url: str) -> bool:
    return urlsplit(url).path.endswith(_FILES) and not urlsplit(url).path.endswith(SUFFIXES)


@contextmanager
def _locked(entry: Path) -> Iterator[None]:
    lock = FileLock(entry.with_name(entry.name + ".lock"))
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise HubError(
            f"{entry.parent}: the cache can't be written ({error.strerror}); set SEQLIB_CACHE to a folder that can"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _manifest(path: Path, name: str) -> dict[str, _File]:
    """The files that a manifest lists. Raises HubError."""
    try:
        if path.stat().st_size > _LARGEST_MANIFEST:
            raise HubError(f"{name}: its manifest has {path.stat().st_size:,} bytes")
        found = msgspec.json.decode(path.read_bytes(), type=_Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise HubError(f"{name}: its {MANIFEST} is none of a static hub: {error}") from error
    if found.format_version != VERSION:
        raise HubError(f"{name}: its {MANIFEST} is of version {found.format_version}, this seqlib reads {VERSION}")
    return {safe_name(file): entry for file, entry in found.files.items()}


def _complete(entry: Path) -> bool:
    """Whether all files are there with their sizes; `verify` reads them as well."""
    if not (entry / MANIFEST).is_file():
        return False
    try:
        listed = _manifest(entry / MANIFEST, str(entry))
    except HubError:  # damaged as well: it is downloaded again
        return False
    return all((entry / name).is_file() and (entry / name).stat().st_size == f.bytes for name, f in listed.items())


def _download(url: str, entry: Path) -> None:
    """Fill the entry by way of its partial folder, in which good files of an entry that was damaged are kept."""
    partial = entry.with_name(entry.name + ".partial")
    if entry.exists():
        get_logger().info(f"{entry}: is damaged or incomplete; the missing files are downloaded again")
        shutil.rmtree(partial, ignore_errors=True)
        entry.rename(partial)
    partial.mkdir(exist_ok=True)
    (partial / MANIFEST).unlink(missing_ok=True)
    plain, fragment = urldefrag(url)
    get_logger().info(f"downloading {shown(url)}")
    path = urlsplit(plain).path
    if path.endswith(_FILES):
        name = re.sub(r"[^A-Za-z0-9._-]", "_", unquote(path).rpartition("/")[2])
        digest = fragment.removeprefix("sha256=") if fragment.startswith("sha256=") else None
        fetch(plain, partial / name, sha256=digest)
        if path.endswith(SUFFIXES):
            inside = partial.with_name(entry.name + ".unpacked")
            shutil.rmtree(inside, ignore_errors=True)
            inside.mkdir()
            try:
                unpack(partial / name, inside)
            finally:
                (partial / name).unlink()
            (inside / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(partial)
            inside.rename(partial)
        write_manifest(partial, VERSION)
    else:
        _folder(plain.rstrip("/"), partial)
    write_json(entry.with_name(entry.name + ".json"), {"url": shown(url)})
    with atomic_folder(entry) as aside:
        aside.rmdir()
        partial.rename(aside)


def _folder(url: str, partial: Path) -> None:
    """Every file that the manifest of a static hub's folder lists."""
    manifest = partial / MANIFEST
    try:
        fetch(f"{url}/{MANIFEST}", manifest)
    except HubError as error:
        raise HubError(
            f"{error}; expected is the address of a file of weights ({', '.join(_FILES[:6])}), of an archive, or of "
            "a folder that `seqlib hub mirror` made"
        ) from error
    listed = _manifest(manifest, shown(url))
    for path in [path for path in partial.rglob("*") if path.is_file() and path != manifest]:
        if path.relative_to(partial).as_posix().removesuffix(".etag").removesuffix(".part") not in listed:
            path.unlink()  # of an earlier version
    for name, file in listed.items():
        target = partial / name
        if target.is_file() and target.stat().st_size == file.bytes and file_digest(target) == file.sha256:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        fetch(f"{url}/{name}", target, size=file.bytes, sha256=file.sha256)


def place(source: Path, target: Path) -> Path:
    """Copy a model into a folder of a static hub, with its manifest: any web server that gives out files will do.

    Raises HubError for a source that is not a folder of files, errors of `atomic_folder`.
    """
    files = [path for path in source.rglob("*") if path.is_file()] if source.is_dir() else [source]
    if not files:
        raise HubError(f"{source}: has no files")
    with atomic_folder(target) as aside:
        for path in files:
            name = path.relative_to(source).as_posix() if source.is_dir() else path.name
            if name != MANIFEST:
                (aside / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, aside / safe_name(name))
        write_manifest(aside, VERSION)
    return target


def cached() -> dict[str, Path]:
    """Addresses (without what is secret in them) and folders of the models in the cache."""
    found: dict[str, Path] = {}
    for record in sorted(root().glob("*.json")):
        if _complete(record.with_suffix("")):
            found[msgspec.json.decode(record.read_bytes())["url"]] = record.with_suffix("")
    return found


def verify(url: str) -> None:
    """Read every file of a cached model against its digest. Raises HubError for a model that is not in the cache, or
    that is damaged: it is removed then, so that it is downloaded again."""
    entry = entry_of(url)
    if not _complete(entry):
        raise HubError(f"{shown(url)}: is not in the cache {root()}, or not complete; `seqlib hub download` gets it")
    try:
        check_manifest(entry, VERSION)
    except DataError as error:
        with _locked(entry):
            remove(url)
        raise HubError(f"{error}; it was removed: `seqlib hub download` gets it again") from error


def remove(url: str) -> bool:
    """Remove what is cached of an address, unfinished downloads too; whether there was any."""
    entry = entry_of(url)
    there = [path for path in (entry, entry.with_name(entry.name + ".partial")) if path.exists()]
    for path in there:
        shutil.rmtree(path)
    entry.with_name(entry.name + ".json").unlink(missing_ok=True)
    return bool(there)
