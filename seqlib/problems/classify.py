"""Named classification problems: published data sets from local files or the hub, and docstrings of the library.

``classify_sst2`` is ``sst2()`` here. Where a set has no dev part, a twentieth of train is held out by the hash of the
text.
"""

from __future__ import annotations

import ast
import csv
import hashlib
import re
import sysconfig
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from seqlib.data.lines import file_digest, read_lines
from seqlib.data.records import Record
from seqlib.data.split import HashSplit
from seqlib.problems.origin import find_file, hub_rows, missing, warn_of_digest
from seqlib.problems.spec import Labels
from seqlib.problems.text_classification import TextClassification
from seqlib.util.errors import DataError

__all__ = ["ag_news", "cola", "imdb", "movie_reviews", "mrpc", "pydoc", "sms_spam", "sst2", "stsb", "trec"]

_DEV = 0.05  # of train, where there is no dev part
_HELD_OUT = HashSplit(_DEV, 0.0)


class Published(TextClassification):
    """A published data set, read from the files in ``data_dir`` or from the hub.

    A subclass names ``files`` by split and reads one by ``parse(path)``; ``hub`` is (handle, configuration), ``row``
    makes (text, second text, label) of one of its rows. Without "dev" in ``files`` it is held out of train.
    """

    hub: ClassVar[tuple[str, str | None]] = ("", None)
    hub_splits: ClassVar[dict[str, str]] = {"train": "train", "dev": "validation", "test": "test"}
    files: ClassVar[dict[str, tuple[str, ...]]] = {}
    encoding: ClassVar[str] = "utf-8"
    held_out_dev: ClassVar[bool] = False

    def __init__(self, data_dir: str | Path | None = None) -> None:
        self.data_dir = Path(data_dir) if data_dir is not None else None
        self.cleaning = self.cleaning_rules

    def splits(self) -> tuple[str, ...]:
        return ("train", "dev", *[name for name in self.files if name not in ("train", "dev")])

    def records(self, split: str) -> Iterator[Record]:
        """The texts of a split. Raises DataError naming file and line, and where files were looked for."""
        self.check_split(split)
        if not self.held_out_dev or split not in ("train", "dev"):
            yield from self._read(split)
            return
        for record in self._read("train"):
            if (split == "dev") == (_HELD_OUT.split_of(record.source) == "dev"):
                yield record

    def digest(self) -> str:
        """Of the files, which are held against the published ones; of the records where they come from the hub."""
        if self.data_dir is None:
            return super().digest()
        found = [self._path_digest(self._file(split)) for split in self.files]
        return hashlib.sha256(f"{self.name} {_DEV} {' '.join(found)}".encode()).hexdigest()

    def parse(self, path: Path) -> Iterator[Record]:
        """The records of a file."""
        raise NotImplementedError

    def row(self, row: dict[str, Any]) -> tuple[str, str, str]:
        """(text, second text or "", label) of a row of the hub."""
        raise NotImplementedError

    def _read(self, split: str) -> Iterator[Record]:
        if self.data_dir is not None:
            yield from self.parse(self._file(split))
            return
        handle, config = self.hub
        if not handle:
            raise missing(self, "no --data_dir was given, and it is not fetched")
        for number, row in enumerate(hub_rows(self, handle, self.hub_splits[split], config), start=1):
            text, second, label = self.row(row)
            yield Record(text, second, f"{handle}:{self.hub_splits[split]}", number, label=label)

    def _file(self, split: str) -> Path:
        return find_file(self, self.data_dir, self.files[split])

    def _path_digest(self, path: Path) -> str:
        return warn_of_digest(self, path.name.removesuffix(".gz").removesuffix(".zst"), path)

    def _lines(self, path: Path) -> Iterator[tuple[int, str]]:
        for line in read_lines(path, self.encoding):
            yield line.number, line.text.removesuffix("\r")

    def _table(self, path: Path, *columns: str | int) -> Iterator[tuple[int, list[str]]]:
        """Line numbers and the named columns of a tab-separated file without quoting; names stand in its header."""
        places: list[int] = []
        for number, text in self._lines(path):
            fields = text.split("\t")
            if not places:
                missing = [name for name in columns if isinstance(name, str) and name not in fields]
                if missing:
                    raise DataError(
                        f"{path}:{number}: there is no column {missing[0]!r} in the header ({', '.join(fields)})"
                    )
                places = [name if isinstance(name, int) else fields.index(name) for name in columns]
                if any(isinstance(name, str) for name in columns):
                    continue
            if len(fields) <= max(places):
                raise DataError(f"{path}:{number}: {len(fields)} columns, expected at least {max(places) + 1}")
            yield number, [fields[place] for place in places]


_GLUE = "Wang et al. 2019. GLUE: A multi-task benchmark for natural language understanding. ICLR."


class SST2(Published):
    name = "classify_sst2"
    labels = Labels(names=("negative", "positive"))
    source = "hf:stanfordnlp/sst2; https://dl.fbaipublicfiles.com/glue/data/SST-2.zip"
    licence = "none stated (Stanford, research)"
    citation = (
        "Socher et al. 2013. Recursive deep models for semantic compositionality over a sentiment treebank. EMNLP. "
        f"{_GLUE}"
    )
    sizes = {"train": 67_349, "dev": 872}
    digests = {"train.tsv": "e981ceb4fe6c9acd1c79851d0d091b9e78103f1f2a399ca83dda27915d41c56c"}
    how = "pass --data_dir FOLDER with GLUE's SST-2 files train.tsv and dev.tsv (columns sentence and label)"
    hub = ("stanfordnlp/sst2", None)
    files = {"train": ("train.tsv",), "dev": ("dev.tsv",)}

    def parse(self, path: Path) -> Iterator[Record]:
        first = next(self._lines(path), (1, ""))[1].split("\t")
        text = "content" if "content" in first else "sentence"
        for number, (sentence, label) in self._table(path, text, "label"):
            yield _record(path, number, sentence, "", label, ("negative", "positive"))

    def row(self, row: dict[str, Any]) -> tuple[str, str, str]:
        return row["sentence"], "", self.labels.names[row["label"]]


class CoLA(Published):
    name = "classify_cola"
    labels = Labels(names=("unacceptable", "acceptable"))
    metrics = ("mcc", "accuracy")
    source = "hf:nyu-mll/glue (cola); https://nyu-mll.github.io/CoLA"
    licence = "as the linguistics publications it quotes; research"
    citation = f"Warstadt, Singh and Bowman 2019. Neural network acceptability judgments. TACL. {_GLUE}"
    sizes = {"train": 8551, "dev": 1043}
    how = "pass --data_dir FOLDER with GLUE's CoLA files train.tsv and dev.tsv (four columns, no header)"
    hub = ("nyu-mll/glue", "cola")
    files = {"train": ("train.tsv",), "dev": ("dev.tsv",)}

    def parse(self, path: Path) -> Iterator[Record]:
        for number, (label, sentence) in self._table(path, 1, 3):
            yield _record(path, number, sentence, "", label, self.labels.names)

    def row(self, row: dict[str, Any]) -> tuple[str, str, str]:
        return row["sentence"], "", self.labels.names[row["label"]]


class MRPC(Published):
    name = "classify_mrpc"
    labels = Labels(names=("different", "equivalent"), pairs=True)
    metrics = ("f1", "accuracy")
    source = "hf:nyu-mll/glue (mrpc); https://www.microsoft.com/en-us/download/details.aspx?id=52398"
    licence = "Microsoft Research, research only"
    citation = f"Dolan and Brockett 2005. Automatically constructing a corpus of sentential paraphrases. IWP. {_GLUE}"
    sizes = {"train": 3668, "dev": 408, "test": 1725}
    how = (
        "pass --data_dir FOLDER with GLUE's MRPC files train.tsv, dev.tsv and msr_paraphrase_test.txt "
        "(columns Quality, #1 String, #2 String)"
    )
    hub = ("nyu-mll/glue", "mrpc")
    files = {"train": ("train.tsv",), "dev": ("dev.tsv",), "test": ("msr_paraphrase_test.txt",)}
    encoding = "utf-8-sig"

    def parse(self, path: Path) -> Iterator[Record]:
        for number, (label, one, two) in self._table(path, "Quality", "#1 String", "#2 String"):
            yield _record(path, number, one, two, label, self.labels.names)

    def row(self, row: dict[str, Any]) -> tuple[str, str, str]:
        return row["sentence1"], row["sentence2"], self.labels.names[row["label"]]


class STSB(Published):
    name = "classify_stsb"
    labels = Labels(kind="regression", pairs=True, low=0.0, high=5.0)
    metrics = ("spearman", "pearson", "mean_squared_error")
    source = "hf:nyu-mll/glue (stsb); http://ixa2.si.ehu.eus/stswiki/index.php/STSbenchmark"
    licence = "CC BY-SA 4.0 and those of its sources; research"
    citation = f"Cer et al. 2017. SemEval-2017 task 1: Semantic textual similarity. {_GLUE}"
    sizes = {"train": 5749, "dev": 1500}
    how = "pass --data_dir FOLDER with GLUE's STS-B files train.tsv and dev.tsv (columns sentence1, sentence2, score)"
    hub = ("nyu-mll/glue", "stsb")
    files = {"train": ("train.tsv",), "dev": ("dev.tsv",)}

    def parse(self, path: Path) -> Iterator[Record]:
        for number, (one, two, score) in self._table(path, "sentence1", "sentence2", "score"):
            yield Record(one, two, str(path), number, label=score)

    def row(self, row: dict[str, Any]) -> tuple[str, str, str]:
        return row["sentence1"], row["sentence2"], str(row["label"])


class AGNews(Published):
    name = "classify_ag_news"
    labels = Labels(names=("World", "Sports", "Business", "Sci/Tech"))
    source = "hf:fancyzhx/ag_news; http://groups.di.unipi.it/~gulli/AG_corpus_of_news_articles.html"
    licence = "non-commercial, research"
    citation = "Zhang, Zhao and LeCun 2015. Character-level convolutional networks for text classification. NeurIPS."
    sizes = {"train": 120_000, "test": 7600}
    digests = {"test.csv": "521465c2428ed7f02f8d6db6ffdd4b5447c1c701962353eb2c40d548c3c85699"}
    how = (
        "pass --data_dir FOLDER with train.csv and test.csv (class, title, description; no header); of the subsets "
        "train_5k_title_description.csv and train_10k_description_only.tsv those that are there serve for train.csv"
    )
    hub = ("fancyzhx/ag_news", None)
    files = {"train": ("train.csv",), "test": ("test.csv",)}
    held_out_dev = True
    subsets: ClassVar[tuple[str, ...]] = ("train_5k_title_description.csv", "train_10k_description_only.tsv")

    def _subsets(self) -> list[Path]:
        """The files to train on: all of it, else the subsets."""
        assert self.data_dir is not None
        found = [self.data_dir / f"{name}{packing}" for name in self.subsets for packing in ("", ".gz")]
        whole = [self.data_dir / f"train.csv{packing}" for packing in ("", ".gz", ".zst")]
        if any(path.is_file() for path in whole) or not any(path.is_file() for path in found):
            return [self._file("train")]
        return [path for path in found if path.is_file()]

    def _read(self, split: str) -> Iterator[Record]:
        if split == "train" and self.data_dir is not None:
            for path in self._subsets():
                yield from self.parse(path)
            return
        yield from super()._read(split)

    def digest(self) -> str:
        if self.data_dir is None:
            return super().digest()
        found = [self._path_digest(path) for path in [*self._subsets(), self._file("test")]]
        return hashlib.sha256(f"{self.name} {_DEV} {' '.join(found)}".encode()).hexdigest()

    def parse(self, path: Path) -> Iterator[Record]:
        names = self.labels.names
        if ".tsv" in path.suffixes:
            for number, (text, label) in self._table(path, 0, 1):
                yield Record(_news(text), "", str(path), number, label=label)
            return
        rows = csv.reader((text + "\n" for _, text in self._lines(path)), strict=True)
        for row in rows:
            if len(row) == 2:  # title and description in one, classes from 0
                yield _record(path, rows.line_num, _news(row[0]), "", row[1], names)
            elif len(row) == 3:
                text = _news(f"{row[1]} {row[2]}")
                yield _record(path, rows.line_num, text, "", row[0], dict(zip("1234", names, strict=True)))
            else:
                raise DataError(f"{path}:{rows.line_num}: {len(row)} columns, expected class, title and description")

    def row(self, row: dict[str, Any]) -> tuple[str, str, str]:
        return _news(row["text"]), "", self.labels.names[row["label"]]


class TREC(Published):
    name = "classify_trec"
    labels = Labels(names=("ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM"))
    source = "https://cogcomp.seas.upenn.edu/Data/QA/QC/"
    licence = "free for research"
    citation = "Li and Roth 2002. Learning question classifiers. COLING."
    sizes = {"train": 5452, "test": 500}
    digests = {
        "train.label": "9e4c8bdcaffb96ed61041bd64b564183d52793a8e91d84fc3a8646885f466ec3",
        "test.label": "033f22c028c2bbba9ca682f68ffe204dc1aa6e1cf35dd6207f2d4ca67f0d0e8e",
    }
    how = "pass --data_dir FOLDER with train_5500.label and TREC_10.label (or train.label and test.label), latin-1"
    files = {"train": ("train_5500.label", "train.label"), "test": ("TREC_10.label", "test.label")}
    encoding = "latin-1"
    held_out_dev = True

    def parse(self, path: Path) -> Iterator[Record]:
        for number, text in self._lines(path):
            label, _, question = text.partition(" ")
            yield _record(
                path, number, question, "", label.partition(":")[0], {name: name for name in self.labels.names}
            )


class SMSSpam(Published):
    name = "classify_sms_spam"
    labels = Labels(names=("ham", "spam"))
    metrics = ("accuracy", "f1", "mcc")
    source = "https://archive.ics.uci.edu/dataset/228/sms+spam+collection"
    licence = "CC BY 4.0"
    citation = "Almeida, Gómez Hidalgo and Yamakami 2011. Contributions to the study of SMS spam filtering. DocEng."
    sizes = {"train": 4459, "test": 1115}
    digests = {"sms.tsv": "7d039a24a6083ed9ef0f806ebad56bbb976e3aeb8de05669173bfdc4996c239d"}
    how = "pass --data_dir FOLDER with SMSSpamCollection or sms.tsv (label, text); every fifth line is test"
    files = {"train": ("sms.tsv", "SMSSpamCollection"), "test": ("sms.tsv", "SMSSpamCollection")}
    held_out_dev = True

    def _read(self, split: str) -> Iterator[Record]:
        for record in super()._read(split):
            if (split == "test") == (record.line % 5 == 0):
                yield record

    def parse(self, path: Path) -> Iterator[Record]:
        for number, (label, text) in self._table(path, 0, 1):
            yield _record(path, number, text, "", label, {"ham": "ham", "spam": "spam"})


class Reviews(Published):
    """Film reviews, one a file, in folders pos and neg; ``data_dir`` holds them or an archive with them."""

    labels = Labels(names=("negative", "positive"))
    files = {"train": (), "test": ()}
    held_out_dev = True
    archives: ClassVar[tuple[str, ...]] = ()
    split_of: ClassVar[Callable[[PurePosixPath], str]]

    def digest(self) -> str:
        if self.data_dir is None:
            return super().digest()
        found = [self.data_dir / name for name in self.archives if (self.data_dir / name).is_file()]
        return file_digest(found[0]) if found else super().digest()

    def _read(self, split: str) -> Iterator[Record]:
        if self.data_dir is None:
            yield from super()._read(split)
            return
        count = 0
        for place, content in self._texts():
            if place.parent.name in ("pos", "neg") and place.suffix == ".txt" and type(self).split_of(place) == split:
                label = "positive" if place.parent.name == "pos" else "negative"
                count += 1
                yield Record(self._clean(content.decode("utf-8", "replace")), "", str(place), 1, label=label)
        if not count:
            raise missing(
                self, f"looked in {self.data_dir} for pos and neg or {' or '.join(self.archives)}, found none"
            )

    def _texts(self) -> Iterator[tuple[PurePosixPath, bytes]]:
        """Path and content of every file, in the order of their names."""
        assert self.data_dir is not None
        for name in self.archives:
            if (archive := self.data_dir / name).is_file():
                try:
                    with tarfile.open(archive) as tar:
                        members = sorted((one for one in tar.getmembers() if one.isfile()), key=lambda one: one.name)
                        for member in members:
                            file = tar.extractfile(member)
                            assert file is not None
                            yield PurePosixPath(member.name), file.read()
                except (tarfile.TarError, EOFError, OSError) as error:
                    raise DataError(f"{archive}: is damaged ({error}); {self.how}") from None
                return
        for path in sorted(self.data_dir.rglob("*.txt")):
            yield PurePosixPath(path.relative_to(self.data_dir).as_posix()), path.read_bytes()

    def _clean(self, text: str) -> str:
        return text.replace("<br />", " ").replace("\n", " ")


class MovieReviews(Reviews):
    name = "classify_movie_reviews"
    source = "https://www.cs.cornell.edu/people/pabo/movie-review-data/ (polarity dataset v2.0)"
    licence = "research"
    citation = "Pang and Lee 2004. A sentimental education: Sentiment analysis using subjectivity summarization. ACL."
    sizes = {"train": 1800, "test": 200}
    how = "pass --data_dir FOLDER with movie_reviews.tar.xz, or its folders pos and neg; cv900 to cv999 are test"
    archives = ("movie_reviews.tar.xz", "review_polarity.tar.gz")

    @staticmethod
    def split_of(place: PurePosixPath) -> str:
        return "test" if place.name.startswith("cv9") else "train"


class IMDb(Reviews):
    name = "classify_imdb"
    source = "hf:stanfordnlp/imdb; https://ai.stanford.edu/~amaas/data/sentiment/"
    licence = "none stated (Stanford, research)"
    citation = "Maas et al. 2011. Learning word vectors for sentiment analysis. ACL."
    sizes = {"train": 25_000, "test": 25_000}
    how = "pass --data_dir FOLDER with aclImdb_v1.tar.gz, or its folders train and test"
    hub = ("stanfordnlp/imdb", None)
    archives = ("aclImdb_v1.tar.gz",)

    @staticmethod
    def split_of(place: PurePosixPath) -> str:
        return place.parent.parent.name

    def row(self, row: dict[str, Any]) -> tuple[str, str, str]:
        return self._clean(row["text"]), "", self.labels.names[row["label"]]


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


_TENTHS = HashSplit(0.1, 0.1)


def _record(path: Path, line: int, text: str, second: str, label: str, names: Any) -> Record:
    """A record whose label is a number in a tuple of names, or a key of a mapping to them."""
    known = names if isinstance(names, dict) else {str(number): name for number, name in enumerate(names)}
    if label not in known:
        raise DataError(f"{path}:{line}: the label is {label!r}, expected {', '.join(known)}")
    return Record(text, second, str(path), line, label=known[label])


def _news(text: str) -> str:
    return text.replace("\\", " ").replace(" #39;", "'").replace("#39;", "'")


def sst2(data_dir: str | Path | None = None) -> SST2:
    """Sentences of film reviews, negative or positive; GLUE's split, whose test labels are held back."""
    return SST2(data_dir)


def imdb(data_dir: str | Path | None = None) -> IMDb:
    """Whole film reviews of IMDb, negative or positive."""
    return IMDb(data_dir)


def ag_news(data_dir: str | Path | None = None) -> AGNews:
    """News by topic: world, sports, business, science and technology."""
    return AGNews(data_dir)


def trec(data_dir: str | Path | None = None) -> TREC:
    """Questions by what is asked for, six classes."""
    return TREC(data_dir)


def cola(data_dir: str | Path | None = None) -> CoLA:
    """Sentences that are good English, or not."""
    return CoLA(data_dir)


def mrpc(data_dir: str | Path | None = None) -> MRPC:
    """Pairs of sentences of news that say the same, or not."""
    return MRPC(data_dir)


def stsb(data_dir: str | Path | None = None) -> STSB:
    """Pairs of sentences with how alike their meanings are, 0 to 5."""
    return STSB(data_dir)


def pydoc() -> PyDoc:
    """First paragraphs of Python's docstrings by the module they are of: on every machine, nothing to fetch."""
    return PyDoc()


def sms_spam(data_dir: str | Path | None = None) -> SMSSpam:
    """Text messages that are spam, or not; from local files only."""
    return SMSSpam(data_dir)


def movie_reviews(data_dir: str | Path | None = None) -> MovieReviews:
    """Whole film reviews, negative or positive (Pang and Lee's 2000); from local files only."""
    return MovieReviews(data_dir)
