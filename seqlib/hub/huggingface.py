"""Models of the Hugging Face hub, or of what speaks its API (HF_ENDPOINT), by huggingface_hub and in its cache."""

import errno
import fnmatch
import hashlib
import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqlib.hub.download import ATTEMPTS, BUSY, pause
from seqlib.hub.web import root
from seqlib.util.errors import HubError, UsageError
from seqlib.util.manifest import file_digest

_BESIDE = ("*.json", "*.txt", "*.model", "*.spm", "*.jinja", "*.yml", "*.md")
# The first of these that a repository has; the other formats of the same weights are not downloaded.
_WEIGHTS = ("model*.safetensors", "*.safetensors", "pytorch_model*.bin", "*.npz", "*.gguf", "*.bin", "*.pt")


@dataclass(frozen=True)
class Repository:
    """``hf://name@revision``."""

    name: str
    revision: str

    def __str__(self) -> str:
        return f"hf://{self.name}" + ("" if self.revision == "main" else f"@{self.revision}")


def parse(handle: str) -> Repository:
    """A repository by its handle. Raises UsageError."""
    found = re.fullmatch(r"hf://((?:\w[\w.-]*/)?\w[\w.-]*)(?:@(\w[\w./-]*))?", handle)
    if found is None:
        raise UsageError(f"{handle!r} is no handle of a repository: hf://NAME, hf://ORGANISATION/NAME or …@REVISION")
    return Repository(found[1], found[2] or "main")


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT")


def _transport() -> type[Exception]:
    """What the library's own HTTP client raises: of requests or of httpx, by its version."""
    from huggingface_hub.errors import HfHubHTTPError

    return HfHubHTTPError.__mro__[1]  # pyright: ignore[reportReturnType]


_DISK = dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR), "the cache can't be written:")
_DISK[errno.ENOSPC] = "no space left in"
_ANSWERS = {
    401: "log in (hf auth login, or HF_TOKEN)",
    402: "it has no room left for this",
    403: "what is logged in may not do that",
    413: "a file is too large for it",
    507: "it has no room left for this",
}


class _Signed(logging.Filter):
    """Takes from the library's own lines what stands behind a ? in addresses: signatures of large files."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = re.sub(r"(://[^\s?]*)\?\S*", r"\1", record.getMessage()), ()
        return True


_SIGNED = _Signed()


def _cache() -> str:
    from huggingface_hub import constants

    return str(constants.HF_HUB_CACHE)


@contextmanager
def _told(repository: Repository) -> Iterator[None]:
    """The library's errors, in one line and without its addresses, which may be signed."""
    from huggingface_hub import errors

    known = {
        "GatedRepoError": "its owner asks for an agreement: accept it there and log in (hf auth login, or HF_TOKEN)",
        "RepositoryNotFoundError": "there is no such repository, or it is private: log in (hf auth login, or HF_TOKEN)",
        "RevisionNotFoundError": f"there is no revision {repository.revision!r}",
        "IncompleteSnapshotError": "it is not in the cache as a whole, and the hub can't be reached",
        "LocalEntryNotFoundError": "it is not in the cache, and the hub can't be reached (or this is offline mode)",
    }
    for name in ("utils._http", "file_download"):
        logging.getLogger(f"huggingface_hub.{name}").addFilter(_SIGNED)
    try:
        yield
    except HubError:
        raise
    except (OSError, ValueError, RuntimeError, errors.EntryNotFoundError, _transport()) as error:
        cause = error.__cause__ if isinstance(error, RuntimeError) else error  # which the upload of large files wraps
        if not isinstance(cause, Exception):
            raise
        if (number := getattr(cause, "errno", None)) in _DISK:
            raise HubError(f"{repository}: {_DISK[number]} {_cache()}; HF_HOME names another place") from error
        raise HubError(f"{repository}: {known.get(type(cause).__name__) or _reason(cause)}") from error


def _reason(error: Exception) -> str:
    """What a hub answered, with what it says itself; else the error's first line, without addresses."""
    from huggingface_hub import get_token

    status = getattr(getattr(error, "response", None), "status_code", None)
    xet = re.search(r"HTTP status \w+ error \((\d+) .*/xet-\w+-token/", str(error))
    if xet and xet[1] == "404":
        return "the hub has no Xet storage, which hf_xet asks for: set HF_HUB_DISABLE_XET=1"
    status = int(xet[1]) if xet else status
    said = getattr(error, "server_message", None) if status else str(error)
    said = re.sub(r"\S+://\S+", "…", said or "").strip().partition("\n")[0]
    if token := get_token():
        said = said.replace(token, "…")
    if status is None:
        return said or type(error).__name__
    told = [_ANSWERS.get(status, ""), f"it says {said!r}" if said else ""]
    return "; ".join([f"the hub answers {status}", *filter(None, told)])


def resolve(repository: Repository, files: Sequence[str] | None, offline: bool) -> Path:
    """The folder with a snapshot of the repository, all files of one commit; downloaded when it is not there.

    `files` are patterns of the names that are wanted; else one format of the weights and what lies beside them. What
    was downloaded has the sha256 that the hub names. Raises HubError.
    """
    from huggingface_hub import HfApi

    with _told(repository):
        wanted = files
        if files is None and not offline:
            wanted = _chosen(repository, HfApi(endpoint=_endpoint()))
        if wanted is None:  # what the cache has; this file tells which commit
            folder = _snapshot(repository, ["config.json"], offline=True)
        else:
            folder = _snapshot(repository, list(wanted), offline)
        _check(repository, folder, again=False)
    return folder


def _snapshot(repository: Repository, files: list[str], offline: bool) -> Path:
    """The library's snapshot; it asks for the content of a file once only, so a busy hub is asked again here."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    failures = 0
    while True:
        try:
            return Path(
                snapshot_download(
                    repository.name,
                    revision=repository.revision,
                    allow_patterns=files,
                    endpoint=_endpoint(),
                    local_files_only=offline,
                )
            )
        except HfHubHTTPError as error:
            failures += 1
            if error.response.status_code not in BUSY or failures == ATTEMPTS:
                raise
            pause(f"{repository}: the hub answers {error.response.status_code}", failures, None)


def _chosen(repository: Repository, api: Any) -> list[str] | None:
    """The files to download; None, hence what there is in the cache, when the hub can't be reached."""
    try:
        names: list[str] = api.list_repo_files(repository.name, revision=repository.revision)
    except (OSError, _transport()) as error:
        if getattr(getattr(error, "response", None), "status_code", 500) < 500:
            raise
        return None
    weights = next((found for pattern in _WEIGHTS if (found := fnmatch.filter(names, pattern))), [])
    if len(weights) > 1 and not any(name.endswith(".index.json") for name in names):
        raise UsageError(
            f"{repository}: has several files of weights ({', '.join(weights[:8])}); name those you want: --files NAME "
            "(in Python: files=[…])"
        )
    beside = [name for name in names if "/" not in name and any(fnmatch.fnmatch(name, p) for p in _BESIDE)]
    return [*weights, *beside, *(name for name in names if name.startswith("1_Pooling/"))]


def _check(repository: Repository, folder: Path, again: bool) -> None:
    """Compare files with the digests in the names of the cache's blobs, each once unless `again`; what is damaged is
    removed. Raises HubError."""
    checked = root() / "checked"
    for path in sorted(folder.rglob("*")):
        # Its name is the digest; of Xet's files it is a link in turn, into a store shared by all repositories.
        blob = path.parent / os.readlink(path) if path.is_symlink() else path
        if blob == path or not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", blob.name):
            continue
        if not again and (checked / blob.name).exists():
            continue
        if _digest(path, blob.name) != blob.name:
            for each in (blob.resolve(), blob, path):
                each.unlink(missing_ok=True)
            raise HubError(f"{repository}: {path.name} is damaged and was removed; try again to download it")
        try:
            checked.mkdir(parents=True, exist_ok=True)
            (checked / blob.name).touch()
        except OSError:
            return  # a cache that can't be written is checked each time


def _digest(path: Path, name: str) -> str:
    """sha256 of a large file, git's sha1 of a small one: what the hub names."""
    if len(name) == 64:
        return file_digest(path)
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _revisions() -> list[tuple[Any, Any]]:
    """The models in the library's cache, each with one of its snapshots, in order."""
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repos = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except CacheNotFound:
        return []
    found = [(repo, revision) for repo in repos if repo.repo_type == "model" for revision in repo.revisions]
    return sorted(found, key=lambda pair: (pair[0].repo_id, pair[1].commit_hash))


def cached() -> dict[str, Path]:
    """Handles and folders of the snapshots in the library's cache."""
    return {
        str(Repository(repo.repo_id, next(iter(sorted(revision.refs)), revision.commit_hash))): revision.snapshot_path
        for repo, revision in _revisions()
    }


def verify(repository: Repository) -> None:
    """Read every cached file against its digest. Raises HubError for what is damaged; it is removed."""
    _check(repository, resolve(repository, None, offline=True), again=True)


def remove(repository: Repository) -> bool:
    """Remove a cached snapshot, by any of its names; whether there was one."""
    from huggingface_hub import constants, scan_cache_dir

    for repo, revision in _revisions():
        if repo.repo_id == repository.name and repository.revision in (*revision.refs, revision.commit_hash):
            scan_cache_dir(constants.HF_HUB_CACHE).delete_revisions(revision.commit_hash).execute()
            return True
    return False


def push(folder: Path, repository: Repository, private: bool) -> str:
    """Upload a folder as one commit; makes the repository when it is missing. Gives its address. Raises HubError."""
    from huggingface_hub import HfApi

    api = HfApi(endpoint=_endpoint())
    with _told(repository):
        api.create_repo(repository.name, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository.name, folder_path=folder, revision=repository.revision, commit_message="Upload by seqlib"
        )
    return str(commit.commit_url)
