"""Language models of people's own texts: a text file, a folder of them, or a JSONL file with a field of text."""

import hashlib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from seqlib.data.answers import learnt_of
from seqlib.data.lines import file_digest, missing_file, open_bytes, read_lines, suffix
from seqlib.data.records import Record
from seqlib.data.sources import TABLES
from seqlib.data.split import HashSplit
from seqlib.problems.language_model import LanguageModel
from seqlib.util.errors import DataError, UsageError, nearest
from seqlib.util.log import get_logger

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
    text: str | Sequence[str] | None = None,
    dev: str | None = None,
    test: str | None = None,
    dev_size: float | None = None,
    test_size: float | None = None,
    encoding: str = "utf-8",
) -> "FileTexts":
    """The problem behind ``--data notes.txt``, ``--data FOLDER`` or ``--data posts.jsonl --text body``.

    Two names in ``text`` are the fields of a prompt and its answer; a field that holds a list is a conversation,
    ``[{"role": "user", "content": "…"}, …]``, for a tokenizer with a chat template. Only answers are learnt of both.

    One text file is one long text, of which the end is held out; each .txt file of a folder and each line of JSON is a
    document, held out by its hash. ``dev`` and ``test`` name such files held out by hand, ``dev_size`` and
    ``test_size`` are fractions (default 5 %). What the files are is logged. Raises DataError and UsageError.
    """
    held_out = {name: given for name, given in (("dev", dev), ("test", test)) if given is not None}
    fields = (text,) if isinstance(text, str) else tuple(text or ())
    if len(fields) > 2:
        raise UsageError(f"data.text: expected a field of text, or those of prompt and answer, got {', '.join(fields)}")
    return FileTexts(path, fields, held_out, (dev_size, test_size), encoding)


class FileTexts(LanguageModel):
    """See ``from_data``."""

    name = "language_model_files"

    def __init__(
        self, path: str, text: tuple[str, ...], held_out: dict[str, str], sizes: Sequence[float | None], encoding: str
    ) -> None:
        self.path, self.text, self.encoding, self.held_out = path, text, encoding, held_out
        self.files = {name: _files(each, text) for name, each in {"train": path, **held_out}.items()}
        self.documents = is_document([path])
        self.chat = bool(text) and isinstance(self._first().get(text[0]), list)
        self.answers = self.chat or len(text) == 2
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
                        found = [self._field(file, line.number, line.text, name) for name in self.text]
                        yield Record(found[0], "".join(found[1:]), str(file), line.number)
            elif self.documents:
                yield Record("".join(f"{line.text}\n" for line in lines), "", str(file), 1)
            else:
                yield from (Record(f"{line.text}\n", "", str(file), line.number) for line in lines)

    def _first(self) -> dict[str, Any]:
        """The first object of the corpus."""
        file = self.files["train"][0]
        found = next((line for line in read_lines(file, self.encoding) if line.text.strip()), None)
        return {} if found is None else self._object(file, found.number, found.text)

    def _object(self, file: Path, number: int, line: str) -> dict[str, Any]:
        try:
            return msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise DataError(f"{file}:{number}: not a JSON object: {error}") from None

    def _field(self, file: Path, number: int, line: str, name: str) -> str:
        value = self._object(file, number, line)
        found = value.get(name)
        if self.chat and isinstance(found, list):
            return msgspec.json.encode(found).decode()
        if not isinstance(found, str) or self.chat:
            near = nearest(name, value)
            hint = f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(value) or 'none'}"
            hint = f" but {msgspec.json.encode(found).decode()}" if name in value else hint
            what = "conversation" if self.chat else "text"
            raise DataError(f"{file}:{number}: has no {what} in the field {name!r}{hint} (--text FIELD)")
        return found

    def learnt(self, record: Record, tokenizer: Any) -> tuple[list[int], list[int]]:
        """An answer and the end behind it; of a conversation what the assistant says, as the template has it."""
        if self.chat:
            return learnt_of(msgspec.json.decode(record.source), tokenizer, f"{record.file}:{record.line}")
        prompt, answer = (tokenizer.encode(text) for text in record.pair())
        return [0] * len(prompt) + [1] * (len(answer) + 1), prompt + answer


def _files(path: str, text: Sequence[str]) -> list[Path]:
    """The files that a path stands for."""
    place = Path(path)
    if place.is_dir():
        found = sorted(file for file in place.rglob("*") if file.is_file() and suffix(file) == ".txt")
        if not found:
            raise DataError(f"{place}: there is no .txt file in this folder")
        return found
    if not place.is_file():
        raise missing_file(path)
    if (suffix(path) in _JSON) != bool(text):
        kind = (
            "needs --text FIELD, which names its field of text"
            if not text
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
