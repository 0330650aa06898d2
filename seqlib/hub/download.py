"""One file over HTTP: streamed with its sha256, resumed where it broke off, tried again with growing pauses.

What has arrived lies in ``NAME.part`` beside the file and becomes the file only when it is complete.
"""

import errno
import hashlib
import os
import shutil
import time
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import requests

from seqlib.util.errors import HubError
from seqlib.util.log import get_logger
from seqlib.util.progress import progress

ATTEMPTS = 5  # without a byte of progress
BUSY = (408, 425, 429, 500, 502, 503, 504)
_CHUNK = 2**16  # what a cut connection loses at most
_LONGEST_PAUSE = 60.0  # seconds


class _Again(Exception):
    """Something that may pass: a cut connection, a busy server. `wait` is what the server asks for, in seconds."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def shown(url: str) -> str:
    """An address as it may be told: without name, password and what stands behind a '?', where tokens are."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def fetch(url: str, path: Path, *, size: int | None = None, sha256: str | None = None) -> None:
    """Bring what is at `url` to `path`, which has `size` bytes and a `sha256` where these are known.

    Proxies and logins are those of the environment and of ~/.netrc. Raises HubError, telling what arrived: after five
    attempts without progress, for what the server refuses, a web page in place of a file, another size or digest,
    and a full disk. What has arrived is kept for the next call unless it is wrong.
    """
    part = path.with_name(path.name + ".part")
    failures = 0
    while True:
        before = _size(part)
        try:
            _receive(url, part, size, sha256)
            break
        except _Again as again:
            failures = 0 if _size(part) > before else failures + 1
            if failures == ATTEMPTS:
                raise HubError(
                    f"{shown(url)}: {again}; given up after {ATTEMPTS} attempts. {_size(part):,} bytes have arrived "
                    "and are kept: the next attempt goes on from there"
                ) from again
            pause(f"{shown(url)}: {again}", failures, again.wait)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise _no_space(url, part.parent, None) from error
    with open(part, "rb") as file:
        os.fsync(file.fileno())
    os.replace(part, path)
    _tag(part).unlink(missing_ok=True)


def pause(what: str, failures: int, wanted: float | None) -> None:
    """Wait for the `wanted` seconds, else the longer the more has failed, and say so."""
    wait = min(0.5 * 2**failures if wanted is None else wanted, _LONGEST_PAUSE)
    get_logger().info(f"{what}; trying again in {wait:.0f} s")
    time.sleep(wait)


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _tag(part: Path) -> Path:
    """Where the ETag of an unfinished file is kept: only the rest of the same content may be added to it."""
    return part.with_name(part.name + ".etag")


def _no_space(url: str, folder: Path, needed: int | None) -> HubError:
    free = shutil.disk_usage(folder).free
    wanted = "" if needed is None else f"{needed:,} bytes are to come, "
    return HubError(
        f"{shown(url)}: no space left: {wanted}{free:,} bytes are free in {folder}; free some and try again"
    )


def _receive(url: str, part: Path, size: int | None, sha256: str | None) -> None:
    """One attempt."""
    have, tag = _size(part), _tag(part)
    headers = {"Accept-Encoding": "identity"}
    if have and tag.exists():
        headers |= {"Range": f"bytes={have}-", "If-Range": tag.read_text()}
    elif have and sha256 is not None:
        headers["Range"] = f"bytes={have}-"
    try:
        with requests.get(url, headers=headers, stream=True, timeout=(10, 60)) as response:
            have, total = _answered(url, response, have, part, size)
            etag = response.headers.get("ETag", "")
            if etag and not etag.startswith("W/"):
                tag.write_text(etag)
            else:
                tag.unlink(missing_ok=True)
            digest = _stream(url, response, part, have, total)
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
        raise _Again(f"the connection failed ({type(error).__name__})") from error
    except requests.RequestException as error:
        raise HubError(f"{shown(url)}: {type(error).__name__}") from error
    arrived = _size(part)
    if total is not None and arrived < total:
        raise _Again(f"the connection was cut after {arrived:,} of {total:,} bytes")
    if sha256 is not None and digest != sha256:
        part.unlink()
        if have:
            raise _Again("its digest is wrong after going on from an earlier attempt", 0)
        raise HubError(
            f"{shown(url)}: arrived with the sha256 {digest[:12]}…, expected is {sha256[:12]}…: it was changed on the "
            "way, or there; nothing of it was kept"
        )


def _answered(url: str, response: requests.Response, have: int, part: Path, size: int | None) -> tuple[int, int | None]:
    """Bytes of the file that the answer goes on from, and how many it has in all. Raises for what is not the file."""
    status, where = response.status_code, shown(url)
    if status in BUSY:
        after = response.headers.get("Retry-After", "")
        raise _Again(f"the server answers {status} ({response.reason})", float(after) if after.isdigit() else None)
    if status == 416 or (status == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-")):
        part.unlink(missing_ok=True)
        raise _Again("the server has no such rest of the file; starting anew", 0)
    if status in (401, 403):
        host = urlsplit(url).hostname
        raise HubError(f"{where}: the server answers {status}: it wants a login; put one for {host} into ~/.netrc")
    if status not in (200, 206):
        raise HubError(f"{where}: the server answers {status} ({response.reason})")
    if url.startswith("https:") and not response.url.startswith("https:"):
        raise HubError(f"{where}: leads to an address without encryption, {shown(response.url)}")
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise _page(url)
    have = have if status == 206 else 0
    length = response.headers.get("Content-Length", "")
    total = have + int(length) if length.isdigit() else size
    if None not in (size, total) and size != total:
        part.unlink(missing_ok=True)
        raise HubError(
            f"{where}: has {total:,} bytes, expected are {size:,}: the file there is not the one that is meant"
        )
    if total is not None and total - have > shutil.disk_usage(part.parent).free:
        raise _no_space(url, part.parent, total - have)
    return have, total


def _page(url: str) -> HubError:
    return HubError(
        f"{shown(url)}: a web page came in place of the file: the address is that of a page, or wants a login"
    )


def _stream(url: str, response: requests.Response, part: Path, have: int, total: int | None) -> str:
    """Write the answer behind the `have` bytes that are there; the sha256 of all of them."""
    digest = hashlib.sha256()
    with open(part, "r+b" if have else "w+b") as file, progress(total, part.name.removesuffix(".part"), have) as bar:
        while block := file.read(min(_CHUNK, have - file.tell())):
            digest.update(block)
        for block in response.iter_content(_CHUNK):
            if total is not None and file.tell() + len(block) > total:
                raise HubError(f"{shown(url)}: sends more than the {total:,} bytes that it should have")
            if file.tell() == 0 and block[:100].lstrip().lower().startswith((b"<!doctype html", b"<html")):
                raise _page(url)
            file.write(block)
            digest.update(block)
            bar.advance(len(block))
    return digest.hexdigest()
