"""Language models of people's own texts: a text file, a folder of them, or a JSONL file with a field of text."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from seqlib.data.lines import file_digest, missing_file, open_bytes, read_lines, suffix
from seqlib.data.records import Record
from seqlib.data.sources import TABLES
from seqlib.data.split import HashSplit
from seqlib.problems.language_model import LanguageModel
from seqlib.util.errors import DataError, UsageError, nearest
from seqlib.util.log import get_logger

__all__ = ["FileTexts", "from_data", "is_document", "is_text"]

_SPLITS = ("train", "dev", "test")
_JSON = (".jsonl", ".ndjson")
_SMALL = 2_000_000  # bytes below which characters are modelled


def is_text(paths: Sequence[str], columns: Sequence[str]) -> bool:
    """Whether ``--data`` names texts to be continued: a folder, or one file that is no table; or ``--text`` names the
    field of a table."""
    if len(paths) != 1 or paths[0].startswith("hf:"):
        return False
    return bool(columns) or Path(paths[0]).is_dir() or suffix(paths[0]) not in TABLES


def is_document(paths: Sequence[str]) -> bool:
    """Whether ``--data`` names texts that are read one by one, not one long text."""
    return len(paths) == 1 and (Path(paths[0]).is_dir() or suffix(paths[0]) in _JSON)


def from_data(
    path: str,
    *,
    text: str | None = None,
    dev: str | None = None,
    test: str | None = None,
    dev_size: float | None = None,
    test_size: float | None = None,
    encoding: str = "utf-8",
) -> FileTexts:
    """The problem behind ``--data notes.txt``, ``--data FOLDER`` or ``--data posts.jsonl --text body``.

    One text file is one long text, of which the end is held out; each .txt file of a folder and each line of JSON is a
    document, held out by its hash. ``dev`` and ``test`` name such files held out by hand, ``dev_size`` and
    ``test_size`` are fractions (default 5 %). What the files are is logged. Raises DataError and UsageError.
    """
    held_out = {name: given for name, given in (("dev", dev), ("test", test)) if given is not None}
    return FileTexts(path, text, held_out, (dev_size, test_size), encoding)


class FileTexts(LanguageModel):
    """See ``from_data``."""

    name = "language_model_files"

    def __init__(
        self, path: str, text: str | None, held_out: dict[str, str], sizes: Sequence[float | None], encoding: str
    ) -> None:
        self.path, self.text, self.encoding, self.held_out = path, text, encoding, held_out
        self.files = {name: _files(each, text) for name, each in {"train": path, **held_out}.items()}
        self.documents = is_document([path])
        shares = [0.0 if n in held_out else 0.05 if size is None else size for n, size in zip(_SPLITS[1:], sizes)]
        if any(not 0 <= share < 1 for share in shares):
            raise UsageError("dev_size and test_size: of a text they are fractions below 1")
        self.shares = HashSplit(*shares)
        every = [file for files in self.files.values() for file in files]
        size = sum(described(file, encoding, file.stat().st_mtime_ns) for file in every)
        self.tokenizer = "characters" if size < _SMALL else "bpe"

    def splits(self) -> tuple[str, ...]:
        return _SPLITS

    def records(self, split: str) -> Iterator[Record]:
        self.check_split(split)
        if split in self.held_out:
            yield from self._read(split)
        elif self.documents:
            yield from (record for record in self._read("train") if self.shares.split_of(record.source) == split)
        else:
            count = sum(1 for _ in self._read("train"))
            test, dev = (
                count - round(count * self.shares.test),
                count - round(count * (self.shares.test + self.shares.dev)),
            )
            first, last = {"train": (0, dev), "dev": (dev, test), "test": (test, count)}[split]
            for number, record in enumerate(self._read("train")):
                if first <= number < last:
                    yield record

    def digest(self) -> str:
        state = hashlib.sha256(repr((self.shares, self.text, self.encoding)).encode())
        for name, files in self.files.items():
            for file in files:
                state.update(f"{name} {file_digest(file)}".encode())
        return state.hexdigest()

    def describe(self) -> dict[str, Any]:
        files = {name: [str(file) for file in files] for name, files in self.files.items()}
        return {**super().describe(), "files": files}

    def _read(self, split: str) -> Iterator[Record]:
        for file in self.files[split]:
            lines = read_lines(file, self.encoding)
            if suffix(file) in _JSON:
                for line in lines:
                    if line.text.strip():
                        yield Record(self._field(file, line.number, line.text), "", str(file), line.number)
            elif self.documents:
                yield Record("".join(f"{line.text}\n" for line in lines), "", str(file), 1)
            else:
                yield from (Record(f"{line.text}\n", "", str(file), line.number) for line in lines)

    def _field(self, file: Path, number: int, line: str) -> str:
        try:
            value = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise DataError(f"{file}:{number}: not a JSON object: {error}") from None
        found = value.get(str(self.text))
        if not isinstance(found, str):
            near = nearest(str(self.text), value)
            hint = f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(value) or 'none'}"
            hint = f" but {msgspec.json.encode(found).decode()}" if self.text in value else hint
            raise DataError(f"{file}:{number}: has no text in the field {self.text!r}{hint} (--text FIELD)")
        return found


def _files(path: str, text: str | None) -> list[Path]:
    """The files that a path stands for."""
    place = Path(path)
    if place.is_dir():
        found = sorted(file for file in place.rglob("*") if file.is_file() and suffix(file) == ".txt")
        if not found:
            raise DataError(f"{place}: there is no .txt file in this folder")
        return found
    if not place.is_file():
        raise missing_file(path)
    if (suffix(path) in _JSON) != (text is not None):
        kind = (
            "needs --text FIELD, which names its field of text"
            if text is None
            else "is no JSONL file, so --text has no use"
        )
        raise UsageError(f"{path}: {kind}")
    return [place]


@cache
def described(path: Path, encoding: str, changed: int) -> int:
    """The bytes of a file, unpacked, last `changed` then, after a line in the log that says what it is."""
    with open_bytes(path) as stream:
        head = stream.read(1 << 20)
        size = len(head)
        while chunk := stream.read(1 << 20):
            size += len(chunk)
    mark = " with a byte-order mark" if head.startswith(b"\xef\xbb\xbf") else ""
    ends = "CRLF" if b"\r\n" in head else "LF" if b"\n" in head else "CR" if b"\r" in head else "nothing"
    get_logger().info("%s: %s bytes, %s%s, lines end in %s", path, f"{size:,}", encoding, mark, ends)
    return size
