"""Lines of text files, plain, .gz or .zst, as a stream: strict about the encoding, exact about the place.

Line ends are ``\\n`` or ``\\r\\n``; a file without any ``\\n`` in its first megabyte but with ``\\r`` is read by that
(old Macintosh). In a file with ``\\n`` a lone ``\\r`` inside a line does not end it, else parallel files would slip.
"""

import codecs
import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from seqlib.util.errors import DataError, hint

_CHUNK = 1 << 20
_CLOSE = 128  # lines that are decoded one by one where one of them is damaged
_WIDE = ("utf-16", "utf-32")
_NUL_HINT = "the file is binary, damaged or UTF-16 (then pass --encoding utf-16)"


class Line(NamedTuple):
    """A line without its end; ``problem`` is empty, or says why ``text`` (then empty) could not be read."""

    number: int
    text: str
    problem: str = ""


def suffix(path: str | Path) -> str:
    """The file's last suffix below any ``.gz`` or ``.zst``, lower-cased: ``.en`` for ``train.en.gz``."""
    path = Path(path)
    return (path.with_suffix("") if path.suffix.lower() in (".gz", ".zst") else path).suffix.lower()


def missing_file(path: str | Path, what: str = "file") -> DataError:
    """The error for a file that is not there, with the nearest names in its folder."""
    path = Path(path)
    folder = path.parent
    if not folder.is_dir():
        return DataError(f"{path}: there is no such {what}; the folder {folder} does not exist either")
    near = hint(path.name, (entry.name for entry in folder.iterdir()))
    return DataError(f"{path}: there is no such {what}{near or f'; nothing in {folder} has a name like it'}")


@contextmanager
def open_bytes(path: str | Path) -> Iterator[BinaryIO]:
    """The uncompressed bytes of a file, by its suffix. Raises DataError naming the file.

    Covers a missing or unreadable file, a damaged or truncated .gz or .zst while it is read, and a missing zstd
    library (Python's own from 3.14, else ``backports.zstd``).
    """
    path = Path(path)
    if not path.exists():
        raise missing_file(path)
    damage: tuple[type[Exception], ...] = (EOFError, zlib.error, gzip.BadGzipFile)
    try:
        if path.suffix.lower() == ".gz":
            stream = cast(BinaryIO, gzip.open(path, "rb"))  # noqa: SIM115
        elif path.suffix.lower() == ".zst":
            zstd = _zstd(path)
            damage = (*damage, zstd.ZstdError)
            stream = cast(BinaryIO, zstd.open(path, "rb"))
        else:
            stream = open(path, "rb")  # noqa: SIM115
        with stream:
            yield stream
    except damage as error:
        raise DataError(
            f"{path}: the compressed file is damaged or cut short ({error}); fetch it again or compress it again"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


def _zstd(path: Path):  # noqa: ANN202 - a module that type checkers of Python < 3.14 do not know
    try:
        from compression import zstd  # type: ignore[import-not-found]  # Python 3.14
    except ImportError:
        try:
            from backports import zstd  # type: ignore[import-not-found,no-redef]
        except ImportError:
            raise DataError(
                f"{path}: reading .zst needs Python 3.14 or the package backports.zstd "
                "(pip install backports.zstd), or unpack the file first"
            ) from None
    return zstd


def file_digest(path: str | Path) -> str:
    """sha256 (hex) of a file's uncompressed bytes, so that packing does not matter. Raises DataError."""
    state = hashlib.sha256()
    with open_bytes(path) as stream:
        while chunk := stream.read(_CHUNK):
            state.update(chunk)
    return state.hexdigest()


def read_lines(path: str | Path, encoding: str = "utf-8", strict: bool = True) -> Iterator[Line]:
    """The lines of a text file, numbered from 1, without line ends; a byte-order mark is skipped.

    A line that is not valid in ``encoding`` or holds a NUL raises DataError naming file, line, byte offset and what to
    do; with ``strict=False`` it comes as an empty line with ``problem`` set (for utf-16 and utf-32 it always raises:
    what follows the damage cannot be trusted). Holds some 2 MB of the file, or its longest line.
    """
    codec = _codec(encoding)
    with open_bytes(path) as stream:
        if codec.startswith(_WIDE):
            yield from _wide_lines(path, stream, encoding)
            return
        offset, number = 0, 0
        for block, end in _blocks(stream):
            mark = len(codecs.BOM_UTF8) if not offset and block.startswith(codecs.BOM_UTF8) and codec == "utf-8" else 0
            texts = _clean_texts(block[mark:], encoding) if end == b"\n" else None
            if texts is not None:
                for text in texts:
                    number += 1
                    yield Line(number, text)
                offset += len(block)
                continue
            for raws, texts in _pieces(block.removesuffix(end).split(end), mark, encoding, end):
                if texts is not None:
                    yield from (Line(n, text) for n, text in enumerate(texts, number + 1))
                    number += len(raws)
                    offset += sum(map(len, raws)) + len(raws)
                    continue
                for raw in raws:
                    number += 1
                    line = _decode(path, number, raw[mark:], offset + mark, encoding)
                    if line.problem and strict:
                        raise DataError(line.problem)
                    yield line
                    offset, mark = offset + len(raw) + 1, 0


def _codec(encoding: str) -> str:
    try:
        return codecs.lookup(encoding).name
    except LookupError:
        raise DataError(
            f"unknown encoding {encoding!r}; known are those of Python, such as utf-8, latin-1, cp1252"
        ) from None


def _pieces(raws: list[bytes], mark: int, encoding: str, end: bytes) -> Iterator[tuple[list[bytes], list[str] | None]]:
    """Lines of a block in pieces, with their texts, or None for a small piece that needs a closer look."""
    if len(raws) <= _CLOSE or end != b"\n" or mark:
        yield raws[:_CLOSE] if mark else raws, None
        if mark and len(raws) > _CLOSE:
            yield from _pieces(raws[_CLOSE:], 0, encoding, end)
        return
    for start in range(0, len(raws), _CLOSE):
        piece = raws[start : start + _CLOSE]
        yield piece, _clean_texts(b"\n".join(piece) + b"\n", encoding)


def count_lines(path: str | Path, encoding: str = "utf-8") -> int:
    """How many lines ``read_lines`` gives. Raises DataError as it does for what is no text at all."""
    if _codec(encoding).startswith(_WIDE):
        return sum(1 for _ in read_lines(path, encoding, strict=False))
    with open_bytes(path) as stream:
        return sum(block.removesuffix(end).count(end) + 1 for block, end in _blocks(stream))


def _blocks(stream: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Blocks of whole lines of about 1 MB, and the byte that ends lines: the one that the first megabyte has."""
    chunk = stream.read(_CHUNK)
    end = b"\n" if b"\n" in chunk or b"\r" not in chunk else b"\r"
    rest = [chunk]
    while chunk:
        chunk = stream.read(_CHUNK)
        cut = chunk.rfind(end) + 1
        if cut:
            yield b"".join((*rest, chunk[:cut])), end
            rest = [chunk[cut:]]
        else:
            rest.append(chunk)
    if last := b"".join(rest):
        yield last, end


def _clean_texts(block: bytes, encoding: str) -> list[str] | None:
    """The lines of a block decoded at once, or None where a line needs a closer look."""
    try:
        text = block.decode(encoding)
    except UnicodeDecodeError:
        return None
    if "\r" in text:
        text = text.replace("\r\n", "\n")
    if "\r" in text or "\0" in text:
        return None
    return text.removesuffix("\n").split("\n") if text else []


def _decode(path: str | Path, number: int, raw: bytes, offset: int, encoding: str) -> Line:
    """Decodes one line whose first byte is at ``offset`` of the uncompressed file."""
    body = raw.rstrip(b"\r\n")
    try:
        text = body.decode(encoding)
    except UnicodeDecodeError as error:
        at = offset + error.start
        return Line(
            number, "", f"{path}:{number}: byte {at} (0x{body[error.start]:02x}) is not {encoding}; {_advice(encoding)}"
        )
    if "\0" in text:
        return Line(number, "", f"{path}:{number}: byte {offset + body.find(0)} is NUL: {_NUL_HINT}")
    return Line(number, text.replace("\r", " ").replace("\n", " "))


def _advice(encoding: str) -> str:
    if codecs.lookup(encoding).name == "utf-8":
        return "give the file's encoding (--encoding latin-1 or --encoding cp1252 are common) or convert it to UTF-8"
    return "give the file's real encoding with --encoding, or convert it to UTF-8"


def _wide_lines(path: str | Path, stream: BinaryIO, encoding: str) -> Iterator[Line]:
    number = 0
    try:
        with io.TextIOWrapper(stream, encoding, newline=None) as lines:
            for number, text in enumerate(lines, start=1):
                yield Line(number, text.rstrip("\n"))
    except UnicodeError as error:
        place = f"byte {error.start} of the block being read" if isinstance(error, UnicodeDecodeError) else str(error)
        raise DataError(f"{path}:{number + 1}: {place} is not {encoding}; {_advice(encoding)}") from None
