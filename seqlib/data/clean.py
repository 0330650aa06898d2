"""Cleaning of a parallel corpus, with a report: how many pairs went, why, and where the first ones stand."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice

import numpy as np

from seqlib.data.records import Record
from seqlib.util.errors import DataError

_CHUNK = 8192
_SAMPLES = 5
_SAMPLE_WIDTH = 60


@dataclass(frozen=True)
class CleanRules:
    """What is dropped. The defaults suit crawled text; ``CleanRules.only_empty()`` suits curated corpora.

    ``max_ratio``: longest over shortest side, with 10 added to each so that short pairs may differ, in characters
    and also in UTF-8 bytes (a pair goes only when both exceed it: Chinese is short in characters, Greek long in
    bytes). ``max_chars``: characters of either side. 0 switches either off. ``max_unreadable``: above this share of
    lines that cannot be read the whole file is refused, since then its encoding is wrong rather than a line.
    """

    empty: bool = True
    duplicates: bool = True
    identical: bool = True
    max_ratio: float = 4.0
    max_chars: int = 2000
    max_unreadable: float = 0.01
    pairs: bool = True
    """False: single texts, whose target is empty."""

    @classmethod
    def only_empty(cls) -> "CleanRules":
        """Drops pairs with an empty side and refuses every line that cannot be read."""
        return cls(duplicates=False, identical=False, max_ratio=0.0, max_chars=0, max_unreadable=0.0)

    @classmethod
    def texts(cls, pairs: bool) -> "CleanRules":
        """For labelled texts, or pairs of texts: drops empty ones and up to 1 % of lines that cannot be read."""
        return cls(duplicates=False, identical=False, max_ratio=0.0, max_chars=0, pairs=pairs)


@dataclass
class Reason:
    """Count and first samples of one kind of dropped pair; a sample is (file, line, source, target), texts cut."""

    count: int = 0
    samples: list[tuple[str, int, str, str]] = field(default_factory=list)

    def add(self, record: Record) -> None:
        """Counts a dropped pair, and keeps it while samples are few."""
        self.count += 1
        if len(self.samples) < _SAMPLES:
            # The message of an unreadable line begins with its file and line already.
            source = record.problem.removeprefix(f"{record.file}:{record.line}: ") or _short(record.source)
            self.samples.append((record.file, record.line, source, _short(record.target)))


@dataclass
class CleanReport:
    """Pairs read, kept and dropped; ``reasons`` in the order the checks are made, a pair counts under the first."""

    read: int = 0
    kept: int = 0
    reasons: dict[str, Reason] = field(
        default_factory=lambda: {
            name: Reason()
            for name in ("unreadable", "empty", "over-long", "length ratio", "source = target", "duplicate")
        }
    )

    @property
    def dropped(self) -> int:
        """Pairs read and not kept."""
        return self.read - self.kept

    def to_json(self) -> dict[str, object]:
        """Plain dicts, lists and numbers."""
        return asdict(self)

    def table(self) -> str:
        """The report as plain text: one line a reason, below it the samples as file:line: source ||| target."""
        share = 100 * self.dropped / self.read if self.read else 0.0
        lines = [f"{self.read:,} pairs read, {self.kept:,} kept, {self.dropped:,} dropped ({share:.2f} %)"]
        for name, reason in self.reasons.items():
            lines.append(f"  {name:<16} {reason.count:>10,}")
            for file, line, source, target in reason.samples:
                pair = (
                    source
                    if name == "unreadable"
                    else f"{source.strip() or '(empty)'} ||| {target.strip() or '(empty)'}"
                )
                lines.append(f"    {file}:{line}: {pair}")
        return "\n".join(lines)


class SeenKeys:
    """A growing set of 64-bit keys in sorted NumPy runs: about 8 bytes a key, merged as a binary counter does."""

    def __init__(self) -> None:
        self._runs: list[np.ndarray] = []

    def __len__(self) -> int:
        return sum(len(run) for run in self._runs)

    def add(self, keys: np.ndarray) -> np.ndarray:
        """Adds uint64 keys [n]; returns bool [n], True where a key is new, in this call too."""
        unique, first = np.unique(keys, return_index=True)
        new = np.ones(len(unique), bool)
        for run in self._runs:
            place = np.minimum(np.searchsorted(run, unique), len(run) - 1)
            new &= run[place] != unique
        fresh = np.zeros(len(keys), bool)
        fresh[first[new]] = True
        run = unique[new]
        if len(run):
            while self._runs and len(self._runs[-1]) <= 2 * len(run):
                run = np.sort(np.concatenate([self._runs.pop(), run]), kind="stable")
            self._runs.append(run)
        return fresh


def clean(records: Iterable[Record], rules: CleanRules, report: CleanReport) -> Iterator[Record]:
    """The records that pass ``rules``, in order; ``report`` counts while the stream is read.

    Memory: a chunk of 8192 records and, for duplicates (equal source and target after white space is collapsed),
    8 bytes a kept pair. Raises DataError, naming the first bad line, at the end of the stream when more than
    ``max_unreadable`` of its lines cannot be read, or early when that is already sure after 10,000 lines.
    """
    seen = SeenKeys() if rules.duplicates else None
    first_problem = ""
    stream = iter(records)
    start = report.reasons["unreadable"].count, report.read
    while chunk := list(islice(stream, _CHUNK)):
        report.read += len(chunk)
        passed: list[Record] = []
        for record in chunk:
            reason = _reason(record, rules)
            if reason:
                report.reasons[reason].add(record)
                first_problem = first_problem or record.problem
            else:
                passed.append(record)
        read = report.read - start[1]
        if read >= 10_000:
            _refuse(report.reasons["unreadable"].count - start[0], read, max(0.1, rules.max_unreadable), first_problem)
        if seen is not None and passed:
            fresh = seen.add(np.fromiter((_pair_key(record) for record in passed), np.uint64, len(passed)))
            for record in (record for record, new in zip(passed, fresh, strict=True) if not new):
                report.reasons["duplicate"].add(record)
            passed = [record for record, new in zip(passed, fresh, strict=True) if new]
        report.kept += len(passed)
        yield from passed
    _refuse(report.reasons["unreadable"].count - start[0], report.read - start[1], rules.max_unreadable, first_problem)


def _reason(record: Record, rules: CleanRules) -> str:
    """Why a record is dropped, or an empty string."""
    if record.problem:
        return "unreadable"
    source, target = record.source.strip(), record.target.strip()
    if rules.empty and not (source and (target or not rules.pairs)):
        return "empty"
    longest, shortest = max(len(source), len(target)), min(len(source), len(target))
    if rules.max_chars and longest > rules.max_chars:
        return "over-long"
    if rules.max_ratio and longest + 10 > rules.max_ratio * (shortest + 10):
        sizes = len(source.encode()), len(target.encode())
        if max(sizes) + 10 > rules.max_ratio * (min(sizes) + 10):
            return "length ratio"
    if rules.identical and source == target:
        return "source = target"
    return ""


def _pair_key(record: Record) -> int:
    text = " ".join(record.source.split()) + "\n" + " ".join(record.target.split())
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _refuse(bad: int, read: int, limit: float, problem: str) -> None:
    if bad > limit * read:
        raise DataError(f"{problem}\n{bad:,} of {read:,} lines cannot be read; up to {limit:.0%} would be dropped")


def _short(text: str) -> str:
    """The text, of a long one the beginning and the length."""
    return text if len(text) <= _SAMPLE_WIDTH else f"{text[: _SAMPLE_WIDTH - 1]}… ({len(text):,} characters)"
