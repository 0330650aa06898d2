"""Named classification problems: published data sets from local files or the hub, and docstrings of the library.

``classify_sst2`` is ``sst2()`` here; what is known of the published ones stands in ``classify.json``. Where one has no
dev part, a twentieth of train is held out by the hash of the text.
"""

import ast
import csv
import hashlib
import re
import sysconfig
import tarfile
from collections.abc import Iterator
from functools import cache
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from seqlib.data.lines import file_digest, read_lines
from seqlib.data.records import Record
from seqlib.data.split import HashSplit
from seqlib.problems.origin import find_file, hub_rows, missing, warn_of_digest
from seqlib.problems.spec import Labels
from seqlib.problems.text_classification import TextClassification
from seqlib.util.errors import DataError

__all__ = ["ag_news", "cola", "imdb", "movie_reviews", "mrpc", "pydoc", "sms_spam", "sst2", "stsb", "trec"]

_HELD_OUT = HashSplit(0.05, 0.0)  # of train, where there is no dev part
_TENTHS = HashSplit(0.1, 0.1)
_HUB_SPLITS = {"train": "train", "dev": "validation", "test": "test"}
_NEWS_SUBSETS = ("train_5k_title_description.csv", "train_10k_description_only.tsv")


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A published data set. `files` are the names that a split's file may have; `columns` those of the texts and the
    label in a tab-separated file, by header (``a|b``: either) or number; `values` what stands there for each label.
    `hub` is (handle, configuration) and `fields` its columns of texts, beside "label"."""

    labels: Labels
    source: str
    licence: str
    citation: str
    sizes: dict[str, int]
    how: str
    files: dict[str, tuple[str, ...]]
    metrics: tuple[str, ...] = TextClassification.metrics
    digests: dict[str, str] = {}
    columns: tuple[str | int, ...] = ()
    values: tuple[str, ...] = ()
    encoding: str = "utf-8"
    hub: tuple[str, str | None] = ("", None)
    fields: tuple[str, ...] = ()
    held_out_dev: bool = False


@cache
def _cards() -> dict[str, Card]:
    text = resources.files("seqlib.problems").joinpath("classify.json").read_bytes()
    return msgspec.json.decode(text, type=dict[str, Card])


class Published(TextClassification):
    """A published data set, read from the files in ``data_dir`` or from the hub."""

    def __init__(self, name: str, data_dir: str | Path | None = None) -> None:
        self.name, self.known = f"classify_{name}", _cards()[name]
        self.data_dir = Path(data_dir) if data_dir is not None else None
        for attribute in ("labels", "metrics", "source", "licence", "citation", "sizes", "digests", "how"):
            setattr(self, attribute, getattr(self.known, attribute))
        self.cleaning = self.cleaning_rules

    def splits(self) -> tuple[str, ...]:
        return ("train", "dev", *(["test"] if "test" in self.known.files else []))

    def records(self, split: str) -> Iterator[Record]:
        """The texts of a split. Raises DataError naming file and line, and where files were looked for."""
        self.check_split(split)
        apart = self.known.held_out_dev and split != "test"
        for record in self._read("train" if apart else split):
            if not apart or _HELD_OUT.split_of(record.source) == split:
                yield record

    def digest(self) -> str:
        """Of the files, which are held against the published ones; of the records where they come from the hub."""
        if self.data_dir is None:
            return super().digest()
        found = [self._digest(path) for split in self.known.files for path in self._files(split)]
        return hashlib.sha256(f"{self.name} {_HELD_OUT} {' '.join(found)}".encode()).hexdigest()

    def parse(self, path: Path) -> Iterator[Record]:
        """The records of a file: by default a tab-separated one without quoting."""
        places: list[int] = []
        for number, line in self._lines(path):
            row = line.split("\t")
            if not places:
                places = [
                    column if isinstance(column, int) else _place(path, row, column) for column in self.known.columns
                ]
                if isinstance(self.known.columns[0], str):
                    continue
            if len(row) <= max(places):
                raise DataError(f"{path}:{number}: {len(row)} columns, expected at least {max(places) + 1}")
            *texts, label = (row[place] for place in places)
            yield self._record(path, number, texts[0], "".join(texts[1:]), label)

    def text(self, text: str) -> str:
        """A text as the problem gives it."""
        return text

    def _read(self, split: str) -> Iterator[Record]:
        if self.data_dir is not None:
            for path in self._files(split):
                yield from self.parse(path)
            return
        handle, config = self.known.hub
        if not handle:
            raise missing(self, "no --data_dir was given, and it is not fetched")
        for number, row in enumerate(hub_rows(self, handle, _HUB_SPLITS[split], config), start=1):
            texts = [self.text(row[field]) for field in self.known.fields]
            label = str(row["label"]) if not self.labels.names else self.labels.names[row["label"]]
            yield Record(texts[0], "".join(texts[1:]), f"{handle}:{_HUB_SPLITS[split]}", number, label=label)

    def _files(self, split: str) -> list[Path]:
        return [find_file(self, self.data_dir, self.known.files[split])]

    def _digest(self, path: Path) -> str:
        return warn_of_digest(self, path.name.removesuffix(".gz").removesuffix(".zst"), path)

    def _lines(self, path: Path) -> Iterator[tuple[int, str]]:
        for line in read_lines(path, self.known.encoding):
            yield line.number, line.text.removesuffix("\r")

    def _record(self, path: Path, line: int, text: str, second: str, label: str, values: Any = None) -> Record:
        """A record whose label stands for one of the names, as `values` do; of a regression it is the number."""
        values = values or self.known.values
        if values and label not in values:
            raise DataError(f"{path}:{line}: the label is {label!r}, expected {', '.join(values)}")
        name = self.labels.names[values.index(label)] if values else label
        return Record(self.text(text), second, str(path), line, label=name)


class AGNews(Published):
    """Without train.csv those of its subsets that are there serve for it."""

    def _files(self, split: str) -> list[Path]:
        if self.data_dir is not None and split == "train" and not [*self.data_dir.glob("train.csv*")]:
            found = [path for name in _NEWS_SUBSETS for path in sorted(self.data_dir.glob(f"{name}*"))]
            if found:
                return found
        return super()._files(split)

    def parse(self, path: Path) -> Iterator[Record]:
        if ".tsv" in path.suffixes:
            yield from super().parse(path)
            return
        rows = csv.reader((text + "\n" for _, text in self._lines(path)), strict=True)
        for row in rows:
            if len(row) not in (2, 3):
                raise DataError(f"{path}:{rows.line_num}: {len(row)} columns, expected class, title and description")
            # In the subset title and description are one column, before the class, which counts from 0.
            texts, label, values = (row[:1], row[1], "0123") if len(row) == 2 else (row[1:], row[0], "1234")
            yield self._record(path, rows.line_num, " ".join(texts), "", label, values)

    def text(self, text: str) -> str:
        return text.replace("\\", " ").replace(" #39;", "'").replace("#39;", "'")


class TREC(Published):
    """``COARSE:fine question`` a line, of which the coarse class is taken."""

    def parse(self, path: Path) -> Iterator[Record]:
        for number, line in self._lines(path):
            label, _, question = line.partition(" ")
            yield self._record(path, number, question, "", label.partition(":")[0])


class SMSSpam(Published):
    """Every fifth line is test."""

    def _read(self, split: str) -> Iterator[Record]:
        return (record for record in super()._read(split) if (split == "test") == (record.line % 5 == 0))


class Reviews(Published):
    """Film reviews, one a file, in folders pos and neg; ``data_dir`` holds them or an archive with them."""

    def digest(self) -> str:
        if self.data_dir is None or (archive := self._archive()) is None:
            return super(Published, self).digest()
        return file_digest(archive)

    def text(self, text: str) -> str:
        return text.replace("<br />", " ").replace("\n", " ")

    def _archive(self) -> Path | None:
        assert self.data_dir is not None
        found = (self.data_dir / name for name in self.known.files["train"])
        return next((path for path in found if path.is_file()), None)

    def _read(self, split: str) -> Iterator[Record]:
        if self.data_dir is None:
            yield from super()._read(split)
            return
        count = 0
        for place, content in self._texts():
            part = place.parent.parent.name
            if part not in ("train", "test"):
                part = "test" if place.name.startswith("cv9") else "train"
            if place.parent.name in ("pos", "neg") and place.suffix == ".txt" and part == split:
                label = "positive" if place.parent.name == "pos" else "negative"
                count += 1
                yield Record(self.text(content.decode("utf-8", "replace")), "", str(place), 1, label=label)
        if not count:
            names = " or ".join(self.known.files["train"])
            raise missing(self, f"looked in {self.data_dir} for pos and neg or {names}, found none")

    def _texts(self) -> Iterator[tuple[PurePosixPath, bytes]]:
        """Path and content of every file, in the order of their names."""
        assert self.data_dir is not None
        if (archive := self._archive()) is None:
            for path in sorted(self.data_dir.rglob("*.txt")):
                yield PurePosixPath(path.relative_to(self.data_dir).as_posix()), path.read_bytes()
            return
        try:
            with tarfile.open(archive) as tar:
                for member in sorted((one for one in tar.getmembers() if one.isfile()), key=lambda one: one.name):
                    file = tar.extractfile(member)
                    assert file is not None
                    yield PurePosixPath(member.name), file.read()
        except (tarfile.TarError, EOFError, OSError) as error:
            raise DataError(f"{archive}: is damaged ({error}); {self.how}") from None


class PyDoc(TextClassification):
    """First paragraphs of docstrings of Python's standard library, by the module they are of, whose name is masked.

    They are those of the Python that runs; copies of a text are in one split. A tenth each is for development and test.
    """

    name = "classify_pydoc"
    labels = Labels(
        names=tuple(
            "argparse ast asyncio codecs collections concurrent configparser ctypes datetime decimal difflib email "
            "ftplib http imaplib importlib inspect ipaddress json logging mailbox multiprocessing optparse "
            "pathlib statistics tarfile turtle unittest urllib zipfile".split()
        )
    )
    source = "embedded: docstrings of the standard library of the Python that runs"
    licence = "PSF-2.0"
    citation = "The Python standard library, Python Software Foundation"
    how = "nothing is needed: it comes with Python"

    def splits(self) -> tuple[str, ...]:
        return ("train", "dev", "test")

    def samples(self, split: str) -> Iterator[tuple[str, ...]]:
        """Paragraphs of at least four words."""
        self.check_split(split)
        for name in self.labels.names:
            for text in self._paragraphs(name):
                if _TENTHS.split_of(text) == split:
                    yield text, name

    def _paragraphs(self, name: str) -> Iterator[str]:
        folder = Path(sysconfig.get_paths()["stdlib"])
        found = (
            (folder / name).rglob("*.py")
            if (folder / name).is_dir()
            else [folder / f"{name}.py", folder / f"_py{name}.py"]
        )
        masked = re.compile(rf"(?i)(?<![a-z]){re.escape(name)}(?![a-z])")
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        for path in sorted(path for path in found if path.is_file() and not {"test", "tests"} & set(path.parts)):
            for node in ast.walk(ast.parse(path.read_bytes())):
                if isinstance(node, kinds) and (text := ast.get_docstring(node)):
                    paragraph = masked.sub("MODULE", " ".join(text.split("\n\n")[0].split()))
                    if len(paragraph.split()) >= 4:
                        yield paragraph


def _place(path: Path, header: list[str], names: str) -> int:
    """The place of a column with one of these names, ``a|b``."""
    for name in names.split("|"):
        if name in header:
            return header.index(name)
    raise DataError(f"{path}:1: there is no column {names.replace('|', ' or ')!r} in the header ({', '.join(header)})")


def sst2(data_dir: str | Path | None = None) -> Published:
    """Sentences of film reviews, negative or positive; GLUE's split, whose test labels are held back."""
    return Published("sst2", data_dir)


def cola(data_dir: str | Path | None = None) -> Published:
    """Sentences that are good English, or not."""
    return Published("cola", data_dir)


def mrpc(data_dir: str | Path | None = None) -> Published:
    """Pairs of sentences of news that say the same, or not."""
    return Published("mrpc", data_dir)


def stsb(data_dir: str | Path | None = None) -> Published:
    """Pairs of sentences with how alike their meanings are, 0 to 5."""
    return Published("stsb", data_dir)


def ag_news(data_dir: str | Path | None = None) -> Published:
    """News by topic: world, sports, business, science and technology."""
    return AGNews("ag_news", data_dir)


def trec(data_dir: str | Path | None = None) -> Published:
    """Questions by what is asked for, six classes."""
    return TREC("trec", data_dir)


def sms_spam(data_dir: str | Path | None = None) -> Published:
    """Text messages that are spam, or not; from local files only."""
    return SMSSpam("sms_spam", data_dir)


def movie_reviews(data_dir: str | Path | None = None) -> Published:
    """Whole film reviews, negative or positive (Pang and Lee's 2000); from local files only."""
    return Reviews("movie_reviews", data_dir)


def imdb(data_dir: str | Path | None = None) -> Published:
    """Whole film reviews of IMDb, negative or positive."""
    return Reviews("imdb", data_dir)


def pydoc() -> PyDoc:
    """First paragraphs of Python's docstrings by the module they are of: on every machine, nothing to fetch."""
    return PyDoc()
