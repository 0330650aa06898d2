"""Handles: where a model is, in one string, and the folder or file on this machine that it stands for.

``hf://org/name@revision``, ``https://host/…`` (a file, an archive, a folder of a static hub), or a local path.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from seqlib.hub import huggingface, web
from seqlib.util.errors import HubError, UsageError


def offline() -> bool:
    """Whether SEQLIB_OFFLINE or HF_HUB_OFFLINE forbids to use the network."""
    return any(
        os.environ.get(name, "0").lower() not in ("", "0", "false") for name in ("SEQLIB_OFFLINE", "HF_HUB_OFFLINE")
    )


def resolve(handle: str | Path, *, files: Sequence[str] | None = None) -> Path:
    """The folder or file that a handle stands for, downloaded, verified and cached when it is elsewhere.

    `files` are patterns of the names that are wanted of a repository (``["*Q4_K_M.gguf"]``); by default one format of
    its weights and what lies beside them. Raises HubError when it can't be had, UsageError for no handle.
    """
    kind = _kind(str(handle))
    if files is not None and kind != "hf":
        raise UsageError(f"{handle}: files can be chosen of a repository, hf://…, only")
    if kind == "hf":
        return huggingface.resolve(huggingface.parse(str(handle)), files, offline())
    if kind == "web":
        return web.resolve(str(handle), offline())
    if not Path(handle).exists():
        raise HubError(f"{handle}: there is no such file or folder (a repository is hf://ORGANISATION/NAME)")
    return Path(handle)


def _kind(handle: str) -> str:
    scheme = handle.partition("://")[0] if "://" in handle else ""
    if scheme not in ("", "hf", "http", "https"):
        raise UsageError(f"{handle!r}: known are hf://, https://, http:// and local paths")
    return {"": "path", "hf": "hf"}.get(scheme, "web")


def cached() -> dict[str, Path]:
    """Handles and folders of all models in the caches."""
    return huggingface.cached() | web.cached()


def verify(handle: str) -> None:
    """Read all of a cached model against its digests. Raises HubError; what is damaged is removed from the cache."""
    _of_cache(handle)
    if _kind(handle) == "hf":
        huggingface.verify(huggingface.parse(handle))
    else:
        web.verify(handle)


def remove(handle: str) -> None:
    """Remove a model from the cache. Raises HubError when it is not there."""
    _of_cache(handle)
    found = huggingface.remove(huggingface.parse(handle)) if _kind(handle) == "hf" else web.remove(handle)
    if not found:
        raise HubError(f"{handle}: is not in the cache")


def _of_cache(handle: str) -> None:
    if _kind(handle) == "path":
        raise UsageError(f"{handle}: is a path; the cache holds what comes from hf:// and https://")


def push(folder: Path, target: str, *, private: bool = False) -> str:
    """Publish the files of a folder: to a repository (``hf://…``, made when it is missing), or into a folder of a
    static hub. Gives where.

    Raises HubError for a folder without files and what a repository refuses, UsageError for a web address.
    """
    kind = _kind(target)
    if kind == "web":
        raise UsageError(f"{target}: a web server can't be written to; push to the folder that it serves")
    if kind == "path":
        return str(web.place(folder, Path(target)))
    if not folder.is_dir():
        raise HubError(f"{folder}: is not a folder")
    return huggingface.push(folder, huggingface.parse(target), private)
