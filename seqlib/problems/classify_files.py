"""Classification of people's own tables: what is in their columns is found out, told, and held out by label."""

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from seqlib.data.lines import open_bytes
from seqlib.data.records import Record
from seqlib.data.sources import PairSource, parse_data
from seqlib.data.split import HashSplit, source_key
from seqlib.problems.spec import Labels
from seqlib.problems.text_classification import SEPARATOR, TextClassification, read_targets, split_labels
from seqlib.util.errors import DataError, UsageError
from seqlib.util.log import get_logger

_FEW = 20  # so many different numbers are taken for classes
_SHOWN = 12  # labels in the log
_BINS = 5  # of numbers, for held-out parts
_WRONG = 0.1  # of the lines that are not ASCII: if more are no UTF-8, the file is not


@dataclass(frozen=True)
class Table:
    """A CSV, TSV, JSONL or Parquet file, or a data set of the hub, with the columns of one or two texts and a label."""

    file: str
    text: tuple[str, ...]
    label: str
    encoding: str
    weight: str = ""

    def records(self) -> Iterator[Record]:
        """The rows; ``problem`` is set where one cannot be read or has no label. Raises DataError for a column that is
        not there and for damage."""
        sources = [self._source(column) for column in self.text]
        for rows in zip(*(source.records(strict=False) for source in sources), strict=True):
            first = rows[0]
            problem = next((row.problem for row in rows if row.problem), "")
            label = first.target.strip()
            if not problem and label.casefold() in ("", "nan", "none", "null", "na", "n/a"):
                problem = f"{first.file}:{first.line}: there is no label ({label or 'empty'})"
            second = rows[1].source if len(rows) > 1 else ""
            yield first._replace(target=second, label=label, problem=problem)

    def digest(self) -> str:
        """Of the content and the columns."""
        return hashlib.sha256(" ".join(self._source(column).digest() for column in self.text).encode()).hexdigest()

    def check(self) -> None:
        """Raises DataError for a file that is not there."""
        self._source(self.text[0]).check()

    def _source(self, column: str) -> PairSource:
        weight = None if not self.weight else _place(self.weight)
        return PairSource((self.file,), self.encoding, _place(column), _place(self.label), weight=weight, numbers=True)


@dataclass
class Survey:
    """What the rows of tables are: counts of labels and of what cannot be used, and a key of each text."""

    counts: Counter[str] = field(default_factory=Counter)
    empty: int = 0
    unreadable: int = 0
    keys: list[int] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)


def from_data(
    data: str,
    *,
    text: str | Sequence[str],
    label: str,
    dev: str | None = None,
    test: str | None = None,
    dev_size: float | None = None,
    test_size: float | None = None,
    encoding: str = "utf-8",
    weight: str = "",
    kind: str = "",
    labels: Labels | None = None,
) -> "FileClassification":
    """The problem behind ``--data reviews.csv --text review --label stars``: a CSV, TSV, JSONL or Parquet file, or
    ``hf:name``, and its columns by the name in the header, or by number from 0 where there is no header.

    ``text`` is a column, or two of them for pairs. ``dev`` and ``test`` name files held out by hand; what is not given
    is held out, as large as ``HashSplit.sized`` says, of each label alike. ``kind`` is that of ``Labels`` ("": as they
    look); known ``labels`` are not looked for, and all is held out by hand. Raises UsageError for settings that do not
    fit, DataError for files and columns that are not there.
    """
    columns = (text,) if isinstance(text, str) else tuple(text)
    if len(columns) not in (1, 2):
        raise UsageError("--label names the column of the label; name that of the text, too: --text COLUMN or A,B")
    for given, size, name in ((dev, dev_size, "dev"), (test, test_size, "test")):
        if given is not None and size is not None:
            raise UsageError(f"--{name} names files, so --{name}_size has nothing to decide")

    def table(value: str) -> Table:
        files = parse_data(value)
        if len(files) != 1:
            raise UsageError(f"labelled texts are one CSV, TSV, JSONL or Parquet file, or hf:NAME, got {value}")
        found = Table(files[0], columns, label, detect_encoding(files[0], encoding), weight)
        found.check()
        return found

    tables = {name: table(value) for name, value in (("dev", dev), ("test", test)) if value is not None}
    parts = tuple(0.0 if name in tables else size for name, size in (("dev", dev_size), ("test", test_size)))
    return FileClassification(table(data), tables, parts, kind, labels)


def detect_encoding(file: str, asked: str = "utf-8") -> str:
    """The encoding of a text file: what was ``asked`` for unless that is utf-8 and the file is not. A byte-order mark
    tells UTF-16; a file of which a tenth of the lines with other than ASCII are no UTF-8 is taken for Windows-1252, or
    Latin-1 where it has bytes that the former has not.
    """
    if (
        asked.lower().replace("_", "-") not in ("utf-8", "utf8")
        or not Path(file).is_file()
        or Path(file).suffix == ".parquet"
    ):
        return asked
    wrong = other = 0
    windows = True
    with open_bytes(file) as stream:
        for number, line in enumerate(stream):
            if not number and line.startswith((b"\xff\xfe", b"\xfe\xff")):
                return "utf-16"
            if line.isascii():
                continue
            other += 1
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                wrong += 1
                windows = windows and not any(byte in line for byte in (0x81, 0x8D, 0x8F, 0x90, 0x9D))
    if wrong <= _WRONG * other:
        return asked
    return "cp1252" if windows else "latin-1"


class FileClassification(TextClassification):
    """A table of labelled texts, see ``from_data``; ``held_out`` are the tables of splits given by hand."""

    def __init__(
        self,
        table: Table,
        held_out: dict[str, Table],
        parts: tuple[float | None, ...],
        kind: str = "",
        labels: Labels | None = None,
    ) -> None:
        self.table, self.held_out, self.parts = table, held_out, parts
        self.name = f"classify_{Path(table.file.rpartition(':')[2]).name.split('.')[0]}".replace(" ", "_")
        self.weighted = bool(table.weight)
        survey, self.labels = _look(table, kind) if labels is None else (Survey(), labels)
        self.metrics = (
            ("spearman", "mean_squared_error") if self.labels.kind == "regression" else ("accuracy", "macro_f1")
        )
        self.cleaning = self.cleaning_rules
        self.together = self.cleaned = tuple(split for split in self.splits() if split not in held_out)
        self._parts = _stratified(survey, parts, self.labels) if labels is None else {}

    def splits(self) -> tuple[str, ...]:
        return ("train", "dev", "test")

    def records(self, split: str) -> Iterator[Record]:
        """The rows of a split; those that cannot be read count to train. Raises DataError, naming file and line, for a
        label in a file held out by hand that train has not."""
        self.check_split(split)
        if split in self.held_out:
            for record in self.held_out[split].records():
                if record.problem:
                    raise DataError(record.problem)
                read_targets([record.label], self.labels, f"{record.file}:{record.line}")
                yield record
            return
        for record in self.records_together():
            if record.split == split:
                yield record

    def records_together(self) -> Iterator[Record]:
        """The rows of all splits that are not held out by hand, each with its split."""
        for record in self.table.records():
            problem = record.problem
            if not problem and self.labels.kind == "regression" and not _is_number(record.label):
                problem = f"{record.file}:{record.line}: the label {record.label!r} is not a finite number"
            split = "train" if problem else self._parts.get(_key(record), "train")
            yield record._replace(split=split, problem=problem)

    def digest(self) -> str:
        tables = " ".join(f"{name} {table.digest()}" for name, table in sorted(self.held_out.items()))
        text = f"{self.parts} {self.labels} {self.table.digest()} {tables}"
        return hashlib.sha256(text.encode()).hexdigest()

    def describe(self) -> dict[str, Any]:
        files = {"train": [self.table.file], **{name: [table.file] for name, table in self.held_out.items()}}
        return {**super().describe(), "files": files}


@lru_cache(maxsize=8)
def _look(table: Table, kind: str) -> tuple[Survey, Labels]:
    """Reads all of a table once, says what is there, and what its labels are."""
    survey = Survey()
    for record in table.records():
        if record.problem:
            survey.unreadable += 1
            problem = record.problem
            if survey.unreadable == 1:
                get_logger().warning("%s", problem)
            continue
        if not record.source.strip() or (len(table.text) > 1 and not record.target.strip()):
            survey.empty += 1
            continue
        survey.counts[record.label] += 1
        survey.keys.append(_key(record))
        survey.labels.append(record.label)
    if not survey.counts:
        raise DataError(
            f"{table.file}: there is no labelled text in the columns {', '.join((*table.text, table.label))}"
        )
    labels = _labels(table, survey, kind or _kind(survey))
    columns = f"text {' and '.join(table.text)}, label {table.label}"
    get_logger().info(
        "%s: %s texts (%s, %s), %s empty, %s without a label or unreadable\nlabels (%s): %s",
        table.file,
        f"{len(survey.labels):,}",
        columns,
        table.encoding,
        f"{survey.empty:,}",
        f"{survey.unreadable:,}",
        labels.kind.replace("_", " "),
        _told(survey, labels),
    )
    return survey, labels


def _kind(survey: Survey) -> str:
    """What labels look like: several at once where the parts between ``;`` come back in other company; numbers where
    there is a fraction or are many; else classes."""
    distinct = list(survey.counts)
    if any(SEPARATOR in label for label in distinct):
        parts = {part for label in distinct for part in split_labels(label)}
        if len(parts) < len(distinct):
            return "multi_label"
    numbers = all(_is_number(label) for label in distinct)
    if numbers and (len(distinct) > _FEW or any(not float(label).is_integer() for label in distinct)):
        return "regression"
    return "multi_class"


def _labels(table: Table, survey: Survey, kind: str) -> Labels:
    pairs = len(table.text) > 1
    if kind == "regression":
        numbers = [float(label) for label in survey.counts if _is_number(label)]
        if not numbers or min(numbers) == max(numbers):
            raise DataError(
                f"{table.file}: the column {table.label} has no numbers that differ; expected some to learn"
            )
        return Labels(kind="regression", pairs=pairs, low=min(numbers), high=max(numbers))
    names = (
        {part for label in survey.counts for part in split_labels(label)} if kind == "multi_label" else {*survey.counts}
    )
    rows = len(survey.labels)
    if kind == "multi_class" and len(names) > max(_FEW, rows / 4):
        raise DataError(
            f"{table.file}: the column {table.label} has {len(names):,} different values in {rows:,} rows "
            "(is it the label? numbers are learnt with --label_kind regression)"
        )
    if len(names) < 2:
        raise DataError(f"{table.file}: all texts have the label {next(iter(names))!r}; there is nothing to tell apart")
    numeric = all(_is_number(name) for name in names)
    ordered = sorted(names, key=lambda name: (float(name), name) if numeric else (0.0, name))
    return Labels(kind="multi_label" if kind == "multi_label" else "multi_class", names=tuple(ordered), pairs=pairs)


def _told(survey: Survey, labels: Labels) -> str:
    if labels.kind == "regression":
        return f"{labels.low:g} to {labels.high:g}"
    counts = survey.counts
    if labels.kind == "multi_label":
        counts = Counter(dict.fromkeys(labels.names, 0))
        for label, count in survey.counts.items():
            counts.update(dict.fromkeys(split_labels(label), count))
    shown = [f"{name} {counts[name]:,}" for name in sorted(labels.names, key=lambda name: -counts[name])[:_SHOWN]]
    more = f" and {len(labels.names) - _SHOWN} more" if len(labels.names) > _SHOWN else ""
    return ", ".join(shown) + more


def _stratified(survey: Survey, parts: tuple[float | None, ...], labels: Labels) -> dict[int, str]:
    """Key of a text → "dev" or "test": of each label (numbers in five bins) the texts with the smallest keys, so that
    copies stay together and every split has its share of each. A label with one text stays in train."""
    sizes = HashSplit.sized(len(survey.labels), *parts)
    strata = survey.labels
    if labels.kind == "regression":
        numbers = np.array([float(label) if _is_number(label) else 0.0 for label in survey.labels])
        edges = np.quantile(numbers, np.arange(1, _BINS) / _BINS)
        strata = [str(bin_) for bin_ in np.searchsorted(edges, numbers)]
    elif labels.kind == "multi_label":
        strata = [next(iter(split_labels(label)), "") for label in survey.labels]
    by_label: dict[str, set[int]] = {}
    for key, stratum in zip(survey.keys, strata, strict=True):
        by_label.setdefault(stratum, set()).add(key)
    found: dict[int, str] = {}
    for keys in by_label.values():
        ranked = sorted(keys)
        test, dev = (min(round(share * len(ranked)), len(ranked) - 1) for share in (sizes.test, sizes.dev))
        for key in ranked[:test]:
            found[key] = "test"
        for key in ranked[test : min(test + dev, len(ranked) - 1)]:
            found.setdefault(key, "dev")
    return found


def _key(record: Record) -> int:
    return source_key(f"{record.source}\n{record.target}")


def _place(column: str) -> str | int:
    return int(column) if column.isdigit() else column


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
