"""Parallel corpora as streams of records: two text files, one TSV, CSV or JSONL file, a translation memory (TMX); all
plain, .gz or .zst; a Parquet file; a data set of the Hugging Face hub.
"""

import csv
import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from seqlib.data.columnar import column_names, is_hub, local_handle, read_columns, row_count
from seqlib.data.lines import Line, count_lines, file_digest, missing_file, read_lines, suffix
from seqlib.data.records import Record
from seqlib.data.tmx import read_tmx, tmx_languages
from seqlib.util.errors import DataError, UsageError, hint

TABLES = {".tsv": "tsv", ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".tmx": "tmx", ".parquet": "columns"}
_DEFAULT_NAMES = (("source", "target"), ("src", "tgt"))
_FORMS = "one TSV, CSV, JSONL, TMX or Parquet file, or hf:NAME"


def parse_data(data: str) -> tuple[str, ...]:
    """The one or two files named by a ``--data`` value: ``a.en,a.de`` or ``corpus.tsv``; the handle of a data set,
    ``hf:name``, as it is. Raises UsageError.
    """
    if Path(data).exists() or is_hub(data):
        return (data,)
    parts = tuple(part.strip() for part in data.split(","))
    if not all(parts) or len(parts) > 2:
        raise UsageError(f"--data {data!r}: expected two parallel text files, a.en,a.de, or {_FORMS}")
    return parts


def absolute_source(file: str) -> str:
    """A file by its absolute path; a data set of the hub by its handle."""
    return local_handle(file) if is_hub(file) else str(Path(file).absolute())


@dataclass(frozen=True)
class PairSource:
    """Where the pairs of a corpus lie.

    ``files`` holds two parallel text files, or one table. ``source`` and ``target`` name the table's columns: a header
    name, a 0-based index, or for JSONL, Parquet and the hub a field (``translation.en`` for a nested one). Left out,
    they are found: the language codes, ``source``/``target`` or ``src``/``tgt`` where a header or field has them, else
    columns 0 and 1 of a TSV or CSV file. Of a TMX file they are the languages.
    With ``numbers`` the target of a JSONL or Parquet file may be a number, too.
    ``weight`` names a column or field of numbers from 0 on, the weights of the pairs; None: all weigh 1.
    Raises UsageError for what does not fit together.
    """

    files: tuple[str, ...]
    encoding: str = "utf-8"
    source: str | int | None = None
    target: str | int | None = None
    languages: tuple[str, str] = ("", "")
    weight: str | int | None = None
    numbers: bool = False

    def __post_init__(self) -> None:
        if len(self.files) not in (1, 2):
            raise UsageError(f"expected two parallel text files or one table, got {len(self.files)} files")
        if (self.source is None) != (self.target is None):
            raise UsageError("name both the source and the target column, or neither")
        if len(self.files) == 1 and not is_hub(self.files[0]) and suffix(self.files[0]) not in TABLES:
            raise UsageError(
                f"{self.files[0]}: one file must be .tsv, .csv, .jsonl or .tmx (or .gz, .zst of these) or .parquet; "
                "two parallel text files are given as a.en,a.de"
            )
        if len(self.files) == 2 and (self.source is not None or self.weight is not None):
            raise UsageError(f"column names are for {_FORMS}, not for two parallel text files")
        if self._form == "tmx" and self.weight is not None:
            raise UsageError(f"{self.files[0]}: a translation memory has no column of weights")

    @property
    def _form(self) -> str:
        """text, tsv, csv, jsonl, tmx or columns."""
        if len(self.files) == 2:
            return "text"
        return "columns" if is_hub(self.files[0]) else TABLES[suffix(self.files[0])]

    def check(self) -> None:
        """Raises DataError for a missing file, with the nearest names in its folder, and for a data set that cannot be
        loaded.
        """
        for file in self.files:
            if self._form == "columns":
                column_names(file)
            elif not Path(file).is_file():
                raise (missing_file(file) if not Path(file).is_dir() else DataError(f"{file}: is a folder, not a file"))

    def swapped(self) -> "PairSource":
        """The same corpus with source and target exchanged. A table without named columns is found out first."""
        languages = (self.languages[1], self.languages[0])
        if len(self.files) == 2:
            return PairSource((self.files[1], self.files[0]), self.encoding, languages=languages)
        source, target = self._columns()
        return PairSource(self.files, self.encoding, target, source, languages, self.weight)

    def digest(self) -> str:
        """Hex digest of the uncompressed files, or of what is read of a data set of the hub, and how they are read."""
        self.check()
        read = self.encoding, self.source, self.target, self.languages, self.weight
        state = hashlib.sha256(repr(read).encode())
        for file in self.files:
            if is_hub(file):
                for record in self.records(strict=False):
                    state.update(f"{record.source}\0{record.target}\0{record.weight}{record.problem}\n".encode())
            else:
                state.update(f"{suffix(file) if len(self.files) == 1 else 'text'} {file_digest(file)}\n".encode())
        return state.hexdigest()

    def found_languages(self) -> tuple[str, str]:
        """Names of the languages or columns that were given or found in a TMX or Parquet file or a data set, else two
        empty ones. Raises DataError.
        """
        if self._form not in ("tmx", "columns"):
            return "", ""
        one, two = (str(name).rpartition(".")[2] for name in self._columns())
        return one, two

    def count(self) -> int:
        """How many records there are, those that cannot be read included. Raises DataError as ``records``."""
        self.check()
        if self._form == "text":
            return count_lines(self.files[0], self.encoding)
        if self._form == "columns":
            return row_count(self.files[0])
        return sum(1 for _ in self.records(strict=False))

    def records(self, strict: bool = True) -> Iterator[Record]:
        """The pairs, one line in memory at a time. Raises DataError naming file and line.

        With ``strict=False`` a line that cannot be read (encoding, NUL, missing column, bad JSON) comes as a record
        with ``problem`` set; a missing file, unequal line counts and damaged compression still raise.
        """
        self.check()
        if self._form == "text":
            records = self._parallel()
        elif self._form == "jsonl":
            records = self._jsonl()
        elif self._form == "tmx":
            source, target = (str(name) for name in self._columns())
            records = read_tmx(self.files[0], (source, target), self.encoding)
        else:
            records = self._columnar() if self._form == "columns" else self._table()
        for record in records:
            if record.problem and strict:
                raise DataError(record.problem)
            yield record

    def _parallel(self) -> Iterator[Record]:
        one, two = self.files
        left, right = (read_lines(file, self.encoding, strict=False) for file in self.files)
        count, unread = 0, ""
        for count, line in enumerate(left, start=1):
            other = next(right, None)
            if other is None:
                raise self._unequal(count + sum(1 for _ in left), count - 1, unread)
            problem = line.problem or other.problem
            unread = unread or problem
            yield Record(line.text, other.text, one if line.problem or not problem else two, count, problem)
        extra = sum(1 for _ in right)
        if extra:
            raise self._unequal(count, count + extra, unread)

    def _unequal(self, first: int, second: int, unread: str) -> DataError:
        """The error for files of different lengths; `unread`, the first line that could not be read, may be why."""
        one, two = self.files
        counts = f"{one} has {first:,} lines but {two} has {second:,}"
        if unread:
            return DataError(f"{unread}\nlines may have been counted wrongly for that: {counts}")
        return DataError(
            f"{counts}: line N of one must translate line N of the other; "
            "look for a lost or an extra line end (or a file that was cut short)"
        )

    def _table(self) -> Iterator[Record]:
        file = self.files[0]
        columns: list[str | int] = [*self._columns()]
        if self.weight is not None:
            columns.append(self.weight)
        rows = self._rows()
        if any(isinstance(column, str) for column in columns):
            _, header = next(rows)
            columns = [_position(file, header, column) if isinstance(column, str) else column for column in columns]
        places = [int(column) for column in columns]
        needed = max(places) + 1
        for line, row in rows:
            if line.problem:
                yield Record("", "", file, line.number, line.problem)
            elif needed > len(row):
                found = f"{len(row)} column{'s' if len(row) != 1 else ''}"
                yield Record("", "", file, line.number, f"{file}:{line.number}: {found}, expected at least {needed}")
            else:
                source, target, *rest = (row[place] for place in places)
                yield _weighted(_one_line(source), _one_line(target), file, line.number, *rest)

    def _rows(self) -> Iterator[tuple[Line, list[str]]]:
        """Rows of a TSV or CSV file with the line they start at; a line that cannot be read has an empty row."""
        file = self.files[0]
        lines = read_lines(file, self.encoding, strict=False)
        if TABLES[suffix(file)] == "tsv":
            for line in lines:
                yield line, line.text.split("\t")
            return
        # csv joins lines inside quotes itself; a line that cannot be read becomes an empty row, which csv keeps.
        unread: dict[int, Line] = {}

        def texts() -> Iterator[str]:
            for line in lines:
                if line.problem:
                    unread[line.number] = line
                yield line.text + "\n"

        csv.field_size_limit(1 << 24)
        reader = csv.reader(texts(), strict=True)
        start = 1
        try:
            for row in reader:
                if bad := [number for number in unread if start <= number <= reader.line_num]:
                    yield unread.pop(bad[0]), []
                elif row:
                    yield Line(start, ""), row
                start = reader.line_num + 1
        except csv.Error as error:
            raise DataError(f"{file}:{start}: the row that begins here is not CSV: {error}") from None

    def _columns(self) -> tuple[str | int, str | int]:
        """The columns or fields to read: those asked for, or those that the first row or object has."""
        file = self.files[0]
        if self.source is not None and self.target is not None:
            return self.source, self.target
        if self._form == "tmx":
            one, two = self.languages
            return (one, two) if one and two else tmx_languages(file, self.encoding)
        pairs = (self.languages, *_DEFAULT_NAMES) if all(self.languages) else _DEFAULT_NAMES
        if self._form == "columns":
            return _found(file, column_names(file), pairs)
        if self._form == "jsonl":
            for line in read_lines(file, self.encoding, strict=False):
                fields = _flat(_object(file, line)) if line.text.strip() else {}
                if fields:
                    return _found(f"{file}:{line.number}", list(fields), pairs)
            raise DataError(f"{file}: the file is empty")
        first = next(self._rows(), None)
        if first is None:
            raise DataError(f"{file}: the file is empty")
        header = [name.strip() for name in first[1]]
        for one, two in pairs:
            if one in header and two in header:
                return one, two
        return 0, 1

    def _jsonl(self) -> Iterator[Record]:
        file = self.files[0]
        source, target = (str(name) for name in self._columns())
        for line in read_lines(file, self.encoding, strict=False):
            if line.problem:
                yield Record("", "", file, line.number, line.problem)
            elif line.text.strip():
                try:
                    value = _object(file, line)
                    one, two = (
                        _text(f"{file}:{line.number}", _field(file, line, value, name), name, number)
                        for name, number in ((source, False), (target, self.numbers))
                    )
                    rest = [] if self.weight is None else [_field(file, line, value, str(self.weight))]
                    yield _weighted(one, two, file, line.number, *rest)
                except DataError as error:
                    yield Record("", "", file, line.number, str(error))

    def _columnar(self) -> Iterator[Record]:
        """Rows of a Parquet file or a data set, numbered from 1."""
        file = self.files[0]
        names = [str(name) for name in self._columns()]
        rest = [] if self.weight is None else [str(self.weight)]
        for row, (source, target, *weight) in enumerate(read_columns(file, names + rest), start=1):
            try:
                one = _text(f"{file}:{row}", source, names[0])
                two = _text(f"{file}:{row}", target, names[1], self.numbers)
                yield _weighted(one, two, file, row, *weight)
            except DataError as error:
                yield Record("", "", file, row, str(error))


def _found(place: str, fields: list[str], pairs: tuple[tuple[str, str], ...]) -> tuple[str, str]:
    """The first of ``pairs`` that the fields have, by themselves or in a ``translation``, else the only two of that."""
    for one, two in pairs:
        for prefix in ("", "translation."):
            if prefix + one in fields and prefix + two in fields:
                return prefix + one, prefix + two
    nested = [name for name in fields if name.startswith("translation.")]
    if len(nested) == 2:
        return nested[0], nested[1]
    raise DataError(f"{place}: the fields are {', '.join(fields)}; name the two to use, --columns SOURCE,TARGET")


def _position(file: str, header: list[str], name: str) -> int:
    names = [field.strip() for field in header]
    if name not in names:
        there = f"the header ({', '.join(names)}){hint(name, names)}"
        raise DataError(f"{file}:1: there is no column {name!r} in {there}")
    return names.index(name)


def _object(file: str, line: Line) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(line.text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{file}:{line.number}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise DataError(f"{file}:{line.number}: expected a JSON object, got {type(value).__name__}")
    return value


def _flat(value: dict[str, Any]) -> dict[str, Any]:
    """Fields by name; those of a nested object as ``outer.inner``."""
    fields: dict[str, Any] = {}
    for name, item in value.items():
        if isinstance(item, dict):
            fields.update({f"{name}.{inner}": below for inner, below in item.items()})
        else:
            fields[name] = item
    return fields


def _field(file: str, line: Line, value: dict[str, Any], name: str) -> Any:
    fields = value if name in value else _flat(value)
    if name not in fields:
        there = f"(fields: {', '.join(fields)}){hint(name, fields)}"
        raise DataError(f"{file}:{line.number}: there is no field {name!r} {there}")
    return fields[name]


def _text(place: str, text: Any, name: str | int, number: bool = False) -> str:
    """The text of a field at a place. Raises DataError unless it is a string without NUL, or a `number` that may be."""
    if number and isinstance(text, (int, float)):
        return str(text)
    if not isinstance(text, str):
        what = "null" if text is None else type(text).__name__
        raise DataError(f"{place}: field {name!r} is {what}, expected a string")
    if "\0" in text:
        raise DataError(f"{place}: field {name!r} has a NUL: the data are binary or damaged")
    return _one_line(text)


def _weighted(source: str, target: str, file: str, line: int, weight: Any = 1.0) -> Record:
    """The record of a pair; with ``problem`` set where its weight is no number of at least 0."""
    try:
        number = float(weight)
    except (TypeError, ValueError):
        number = -1.0
    if not 0 <= number < math.inf:
        problem = f"{file}:{line}: the weight {weight!r} is not a number of at least 0"
        return Record("", "", file, line, problem)
    return Record(source, target, file, line, weight=number)


def _one_line(text: str) -> str:
    """A field without line breaks: a sentence is one line of a file everywhere downstream."""
    return " ".join(text.splitlines()) if "\n" in text or "\r" in text else text
