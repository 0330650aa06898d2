"""Translation over people's own files and data sets of the hub (see `PairSource`), held-out parts automatic."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from seqlib.data.clean import CleanRules
from seqlib.data.lines import suffix
from seqlib.data.records import Record
from seqlib.data.sources import TABLES, PairSource, parse_data
from seqlib.data.split import HashSplit
from seqlib.problems.translation import Translation
from seqlib.util.errors import DataError, UsageError

_CODE = re.compile(r"[a-z]{2,3}([-_][a-z0-9]{2,8})?", re.IGNORECASE)


def from_data(
    data: str | Sequence[str],
    *,
    source: str | None = None,
    target: str | None = None,
    source_language: str | None = None,
    target_language: str | None = None,
    dev: str | None = None,
    test: str | None = None,
    dev_size: float | None = None,
    test_size: float | None = None,
    encoding: str = "utf-8",
    weight: str | None = None,
    cleaning: CleanRules | None = None,
) -> "FileTranslation":
    """The problem behind ``--data a.en,a.de``, ``--data corpus.tsv`` or ``--data hf:name``, or over a list of such.

    ``source`` and ``target`` name the columns of a table (a header name, a number from 0, or a JSON field; see
    ``PairSource`` for what is found without them). Languages left out are read off the files' suffixes or the column
    names. ``dev`` and ``test`` name files held out by hand, in the form of ``data``; what is not given is held out by a
    hash of the source, ``dev_size`` and ``test_size`` large (a fraction below 1, else pairs; default 2 %, see
    ``HashSplit.sized``). ``weight`` names the column of tables that tells what a pair counts in the loss. ``cleaning``
    None takes the defaults of ``CleanRules``; files held out by hand are never cleaned. Raises UsageError for
    options that do not fit, DataError for files that are not there.
    """
    for given, size, name in ((dev, dev_size, "dev"), (test, test_size, "test")):
        if given is not None and size is not None:
            raise UsageError(f"--{name} names files, so --{name}_size has nothing to decide")
    corpora = [parse_data(value) for value in ([data] if isinstance(data, str) else data)]
    if not corpora:
        raise UsageError("there is no corpus to train on")
    if weight is not None and all(len(files) == 2 for files in corpora):
        raise UsageError("--weight names a column of a TSV, CSV, JSONL or Parquet file; parallel text files have none")
    columns = (_column(source), _column(target))
    guess = _languages(corpora[0], source, target)
    given = (source_language or guess[0], target_language or guess[1])
    if not all(given) and len(corpora[0]) == 1:
        found = PairSource(corpora[0], encoding, *columns, languages=given).found_languages()
        if all(_CODE.fullmatch(name) for name in found) and found != ("src", "tgt"):
            guess = found
    languages = (given[0] or guess[0], given[1] or guess[1])

    def opened(files: tuple[str, ...], weight: str | int | None = None) -> PairSource:
        wanted = columns if len(files) == 1 else (None, None)
        weighed = weight if len(files) == 1 else None
        pairs = PairSource(files, encoding, *wanted, languages=languages, weight=weighed)
        pairs.check()
        return pairs

    held_out = {name: opened(parse_data(value)) for name, value in (("dev", dev), ("test", test)) if value is not None}
    opened_corpora = [opened(files, _column(weight)) for files in corpora]
    return FileTranslation(opened_corpora, held_out, dev_size, test_size, cleaning or CleanRules())


class FileTranslation(Translation):
    """Pairs from files, see ``from_data``. ``corpora`` are split by the hash of the source except for ``held_out``."""

    def __init__(
        self,
        corpora: Sequence[PairSource],
        held_out: dict[str, PairSource],
        dev_size: float | None,
        test_size: float | None,
        cleaning: CleanRules,
    ) -> None:
        self.corpora = tuple(corpora)
        self.weighted = any(corpus.weight is not None for corpus in corpora)
        self.held_out = held_out
        self.parts = (0.0 if "dev" in held_out else dev_size, 0.0 if "test" in held_out else test_size)
        self.source_language, self.target_language = (
            language or default for language, default in zip(corpora[0].languages, ("source", "target"), strict=True)
        )
        self.name = f"translate_files_{self.source_language}{self.target_language}"
        self.cleaning = cleaning
        self.cleaned = tuple(split for split in self.splits() if split not in held_out)
        self.together = self.cleaned
        self._pairs: int | None = None

    def splits(self) -> tuple[str, ...]:
        return ("train", "dev", "test")

    def records(self, split: str) -> Iterator[Record]:
        """The pairs of a split; those that cannot be read count to train."""
        self.check_split(split)
        if split in self.held_out:
            yield from self.held_out[split].records()
            return
        for record in self.records_together():
            if record.split == split:
                yield record

    def records_together(self) -> Iterator[Record]:
        """The pairs of all splits that are not held out by hand, each with its split."""
        pairs = self._count()
        hashed, read = HashSplit.sized(pairs, *self.parts), 0
        for number, corpus in enumerate(self.corpora):
            for record in corpus.records(strict=False):
                read += 1
                split = "train" if record.problem else hashed.split_of(record.source)
                yield record._replace(split=split, corpus=number)
        if read != pairs:
            raise DataError(f"{self._names()}: changed while being read; start again")

    def digest(self) -> str:
        state = hashlib.sha256(repr((self.parts, *(corpus.digest() for corpus in self.corpora))).encode())
        for name, pairs in sorted(self.held_out.items()):
            state.update(f"{name} {pairs.digest()}".encode())
        return state.hexdigest()

    def reversed(self) -> Translation:
        """The corpus the other way round, held out by the hash of what is the source then."""
        held_out = {name: pairs.swapped() for name, pairs in self.held_out.items()}
        corpora = [corpus.swapped() for corpus in self.corpora]
        return FileTranslation(corpora, held_out, *self.parts, self._rules())

    def describe(self) -> dict[str, Any]:
        files = {
            "train": [file for corpus in self.corpora for file in corpus.files],
            **{name: list(p.files) for name, p in self.held_out.items()},
        }
        return {**super().describe(), "files": files}

    def _rules(self) -> CleanRules:
        assert self.cleaning is not None
        return self.cleaning

    def _count(self) -> int:
        if self._pairs is None:
            self._pairs = sum(corpus.count() for corpus in self.corpora)
            if not self._pairs:
                raise DataError(f"{self._names()}: there are no sentence pairs")
        return self._pairs

    def _names(self) -> str:
        return " and ".join(file for corpus in self.corpora for file in corpus.files)


def _languages(files: tuple[str, ...], source: str | None, target: str | None) -> tuple[str, str]:
    """Language codes by the suffixes of two files, the names of two columns, or ``en-de`` in one file's name."""
    if len(files) == 2:
        codes = [suffix(file).removeprefix(".") for file in files]
        if codes[0] != codes[1] and all(_CODE.fullmatch(code) and f".{code}" not in TABLES for code in codes):
            return codes[0], codes[1]
        return "", ""
    columns = [name.rpartition(".")[2] for name in (source, target) if name is not None]
    if len(columns) == 2 and all(_CODE.fullmatch(name) for name in columns) and columns != ["src", "tgt"]:
        return columns[0], columns[1]
    match = re.search(r"(?:^|[._])([a-z]{2,3})-([a-z]{2,3})(?=[._]|$)", Path(files[0]).name)
    return (match[1], match[2]) if match else ("", "")


def _column(name: str | None) -> str | int | None:
    return int(name) if name is not None and name.isdigit() else name
