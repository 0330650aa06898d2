"""From a problem to a folder ready for training: cleaned, tokenized, memory-mapped, with its report.

``<data_dir>/<problem>-<digest>/`` holds ``train/ dev/ test/`` (token stores, and one for every further split),
``dev.src dev.tgt`` … (the held-out sentences as they were read, one a line), ``tokenizer/``, ``problem.json``
(the spec), ``report.json`` and ``manifest.json`` (size and sha256 of each). The digest
covers data, options and the version of this code, so a second call opens the folder that is
there. A folder appears whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seqlib.data.clean import CleanReport, CleanRules, clean
from seqlib.data.pretrained import read_tokenizer
from seqlib.data.records import Record
from seqlib.data.report import PrepareReport, SplitReport
from seqlib.data.split import parse_split, source_key
from seqlib.data.store import TokenStore, write_store
from seqlib.data.tokenizer import KINDS, META_FILE, Tokenizer, load_tokenizer, train_tokenizer
from seqlib.util.atomic import atomic_folder, write_json, write_text
from seqlib.util.errors import DataError, UsageError, unknown
from seqlib.util.log import get_logger
from seqlib.util.manifest import check_manifest, write_manifest
from seqlib.util.progress import progress

CODE_VERSION = 3
"""Raise it whenever the same data and options would give another folder."""
_CHUNK = 4096
_TEXTS_A_PIECE = 25


@dataclass(frozen=True)
class PreparedData:
    """A prepared folder, opened: stores are memory-mapped, nothing is read until it is used."""

    folder: Path
    digest: str
    spec: Any
    """The problem's ``ProblemSpec``."""
    tokenizer: Tokenizer
    report: PrepareReport
    stores: dict[str, TokenStore]

    @property
    def train(self) -> TokenStore:
        """``store("train")``."""
        return self.store("train")

    @property
    def dev(self) -> TokenStore:
        """``store("dev")``."""
        return self.store("dev")

    @property
    def test(self) -> TokenStore:
        """``store("test")``."""
        return self.store("test")

    def store(self, split: str) -> TokenStore:
        """The token store of a split. Raises UsageError naming the splits there are."""
        if split not in self.stores:
            raise unknown("prepared split", split, self.stores)
        return self.stores[split]

    def texts(self, split: str) -> tuple[list[str], list[str]]:
        """Sources and references of a held-out split, exactly as read. Raises UsageError for train, DataError."""
        self.store(split)
        if split == "train":
            raise UsageError("the sentences of the train split are not kept, only their tokens")
        sources, targets = (read_texts(self.folder / f"{split}.{side}") for side in ("src", "tgt"))
        if len(sources) != len(targets) or len(sources) != len(self.stores[split]):
            raise DataError(f"{self.folder}: the sentences of {split} are damaged; prepare the data again")
        return sources, targets

    def targets(self, split: str) -> np.ndarray:
        """The targets of a labelled split, in the order of its store, see `LabelledBatch`. Raises DataError."""
        return np.load(self.folder / f"{split}.npy", allow_pickle=False)


def default_data_dir() -> Path:
    """Where prepared data go when nothing is said: ``$SEQLIB_CACHE/data``, else the user's cache folder."""
    if cache := os.environ.get("SEQLIB_CACHE"):
        return Path(cache) / "data"
    import platformdirs

    return Path(platformdirs.user_cache_dir("seqlib")) / "data"


class Wanted(NamedTuple):
    """What data are prepared with: split expressions by name, and a tokenizer, given or to be trained."""

    roles: dict[str, str]
    given: Tokenizer | None
    kind: str
    vocab_size: int | None
    seed: int
    max_texts: int | None


Write = Callable[[Any, Wanted, Path], tuple[PrepareReport, Tokenizer]]
"""Writes a problem's token stores into a folder; gives the report and the tokenizer."""


def write_pairs(problem: Any, wanted: Wanted, folder: Path) -> tuple[PrepareReport, Tokenizer]:
    """What ``prepare`` does for pairs of sentences."""
    report, weights = _spool(problem, wanted.roles, folder)
    given = wanted.given
    if given is None:
        size = wanted.vocab_size or _proposed_vocab(report.splits["train"].pairs)
        texts = wanted.max_texts or _TEXTS_A_PIECE * size
        given = train_tokenizer(wanted.kind, _sentences(folder, "train"), size, wanted.seed, texts)
    _encode(problem, given, folder, report, weights if problem.weighted else None)
    return report, given


def prepare(
    problem: Any,
    data_dir: str | Path | None = None,
    *,
    splits: dict[str, str] | None = None,
    tokenizer: str | Tokenizer | None = None,
    vocab_size: int | None = None,
    seed: int = 0,
    max_texts: int | None = None,
    write: Write = write_pairs,
) -> PreparedData:
    """Prepares a problem, as ``seqlib.problems.problem`` has them, under ``data_dir`` (default ``default_data_dir()``),
    or opens what is there already.

    ``splits`` maps "train", "dev", "test" or a new name to a split expression such as ``train[:80%]``; splits not named
    are the problem's own. ``tokenizer`` is a kind to train (unigram, bpe, characters, bytes), a tokenizer to use as it
    is, or the folder of a pretrained one; ``vocab_size`` None takes the problem's, else one by the size of the corpus.
    The tokenizer is trained on at most ``max_texts`` sentences of the train split, drawn by ``seed``; None takes 25 for
    each piece of the vocabulary. ``write`` is what makes token stores of the problem's records.

    Reads the corpus twice in bounded memory (its sentences lie in the folder being written meanwhile). Raises DataError
    for bad data, naming file and line; UsageError for bad options; SeqlibError when the disk is full.
    """
    started = time.perf_counter()
    roles = _roles(problem, splits or {})
    if isinstance(tokenizer, str) and tokenizer not in KINDS and Path(tokenizer).is_dir():
        own = (Path(tokenizer) / META_FILE).is_file()
        tokenizer = load_tokenizer(tokenizer) if own else read_tokenizer(tokenizer)
    kind = tokenizer if isinstance(tokenizer, str) else problem.tokenizer if tokenizer is None else None
    if kind is not None and kind not in KINDS:
        raise unknown("tokenizer", kind, KINDS)
    if not isinstance(tokenizer, str) and tokenizer is not None and vocab_size not in (None, tokenizer.vocab_size):
        raise UsageError(f"vocab_size {vocab_size} is not that of the tokenizer given ({tokenizer.vocab_size})")
    vocab_size = vocab_size or problem.vocab_size
    given = None if isinstance(tokenizer, str) else tokenizer
    key = {
        "version": CODE_VERSION,
        "problem": problem.name,
        "data": problem.digest(),
        "splits": roles,
        "cleaning": asdict(problem.cleaning) if problem.cleaning else None,
        "cleaned": list(problem.cleaned),
        "tokenizer": given.digest if given else [kind, vocab_size, seed, max_texts],
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    folder = Path(data_dir or default_data_dir()) / f"{problem.name}-{digest[:12]}"
    if (found := _find(folder, digest, problem)) is not None:
        return found
    with _locked(folder):
        if (found := _find(folder, digest, problem, say=False)) is not None:  # another process was faster
            return found
        with atomic_folder(folder) as aside:
            wanted = Wanted(roles, given, str(kind), vocab_size, seed, max_texts)
            report, given = write(problem, wanted, aside)
            given.save(aside / "tokenizer")
            report.tokenizer = {"kind": given.kind, "vocab_size": given.vocab_size, "digest": given.digest}
            report.digest, report.problem = digest, problem.describe()
            report.seconds = round(time.perf_counter() - started, 2)
            write_text(aside / "problem.json", problem.spec(given).to_json() + "\n")
            write_json(aside / "report.json", report.to_json())
            write_manifest(aside, CODE_VERSION)
    prepared = _open(folder, digest, problem)
    get_logger().info(f"prepared {folder}\n{prepared.report.table()}")
    return prepared


def read_texts(path: str | Path) -> list[str]:
    """The lines of a file written by ``prepare``. Only a line feed ends one. Raises DataError naming the file."""
    try:
        with open(path, encoding="utf-8", newline="\n") as file:
            return [line[:-1] for line in file]
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}; prepare the data again") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: damaged at byte {error.start}; prepare the data again") from None


def _roles(problem: Any, asked: dict[str, str]) -> dict[str, str]:
    """Split name to expression: the problem's own splits, changed and extended by what was asked for."""
    own = problem.splits()
    roles = {**{name: name for name in own}, **asked}
    for role, expression in roles.items():
        if not role.isidentifier():
            raise UsageError(f"{role!r} cannot name a split: letters, digits and _ only")
        parse_split(expression, own)
    if "train" not in roles:
        raise UsageError(f"{problem.name} has no train split (its splits: {', '.join(own) or 'none'})")
    return {"train": roles.pop("train"), **roles}


def _find(folder: Path, digest: str, problem: Any, say: bool = True) -> PreparedData | None:
    """The prepared folder, or None when there is none or it is damaged, which a log line may say."""
    if not folder.is_dir():
        return None
    try:
        return _open(folder, digest, problem)
    except DataError as error:
        if say:
            get_logger().warning(f"{error}\npreparing {folder} again")
        return None


def _open(folder: Path, digest: str, problem: Any) -> PreparedData:
    check_manifest(folder, CODE_VERSION)  # reads all of it: about a second a gigabyte
    report = PrepareReport.read(folder / "report.json")
    if report.digest != digest:
        raise DataError(f"{folder}: its digest is {report.digest[:12]}, expected {digest[:12]}")
    tokenizer = load_tokenizer(folder / "tokenizer")
    stores = {name: TokenStore.open(folder / name) for name in report.splits}
    return PreparedData(folder, digest, problem.spec(tokenizer), tokenizer, report, stores)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time prepares a folder. Raises UsageError where the place cannot be written."""
    import filelock

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(f"{folder}.lock"):
            yield
    except PermissionError as error:
        raise UsageError(f"{error.filename or folder}: cannot be written; choose another --cache_dir") from None
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(f"{error.filename or folder}: is a file, not a folder; choose another --cache_dir") from None


def _spool(problem: Any, roles: dict[str, str], folder: Path) -> tuple[PrepareReport, array[float]]:
    """Writes the sentences of every split to ``<split>.src`` and ``.tgt``; train comes last, to find what leaks.

    Returns the report and the weights of train's pairs.
    """
    report = PrepareReport(cleaning=CleanReport())
    report.splits = {role: SplitReport(expression=expression) for role, expression in roles.items()}
    together = [role for role, expression in roles.items() if role == expression in problem.together]
    held_out: set[int] = set()
    weights = array("f")

    def alone(role: str) -> None:
        names = {part.name for part in parse_split(roles[role], problem.splits())}
        cleaned = role == "train" or names <= set(problem.cleaned)
        records = (record._replace(split=role) for record in problem.read(roles[role]))
        _write(records, problem.cleaning if cleaned else None, [role], folder, report, held_out, weights)

    for role in roles.keys() - {*together, "train"}:
        alone(role)
    if together:
        records = (record for record in problem.records_together() if record.split in together)
        _write(records, problem.cleaning, together, folder, report, held_out, weights)
    if "train" not in together:
        alone("train")
    if not report.splits["train"].pairs:
        raise DataError(f"{problem.name}: no pair is left to train on\n{report.cleaning.table()}")
    return report, weights


def _write(
    records: Iterator[Record],
    rules: CleanRules | None,
    roles: list[str],
    folder: Path,
    report: PrepareReport,
    held_out: set[int],
    weights: array[float],
) -> None:
    """Writes records to the files of their split, cleaned by ``rules`` (None: as they are).

    ``held_out`` has the source keys of splits other than train written so far; those written here are added, and the
    weights of train's pairs to ``weights``.
    """
    if rules is not None:
        records = clean(records, rules, report.cleaning)
    before = frozenset(held_out)
    with ExitStack() as stack:
        files = {
            role: [
                stack.enter_context(
                    open(folder / f"{role}.{side}", "w", encoding="utf-8", errors="replace", newline="\n")
                )
                for side in ("src", "tgt", "label")
            ]
            for role in roles
        }
        bar = stack.enter_context(progress(None, f"reading {', '.join(roles)}"))
        for number, record in enumerate(records, start=1):
            source, target = record.pair()
            for file, text in zip(files[record.split], (source, target, record.label), strict=True):
                file.write(_line(text))
            split = report.splits[record.split]
            split.pairs += 1
            while len(split.corpora) <= record.corpus:
                split.corpora.append(0)
            split.corpora[record.corpus] += 1
            if record.split != "train":
                held_out.add(source_key(source))
            else:
                weights.append(record.weight)
                split.also_held_out += bool(before) and source_key(source) in before
            if number % _CHUNK == 0:
                bar.advance(_CHUNK)


def _encode(
    problem: Any, tokenizer: Tokenizer, folder: Path, report: PrepareReport, weights: array[float] | None
) -> None:
    """Writes the token stores from the sentences in the folder, and removes those of train."""
    for role, split in report.splits.items():
        with progress(split.pairs, f"encoding {role}") as bar:

            def encoded(role: str = role, bar: Any = bar) -> Iterator[tuple[list[int], list[int]]]:
                pairs = zip(_lines(folder / f"{role}.src"), _lines(folder / f"{role}.tgt"), strict=True)
                while chunk := list(islice(pairs, _CHUNK)):
                    yield from problem.encode_batch(chunk, tokenizer)
                    bar.advance(len(chunk))

            own = np.array(weights, np.float32) if role == "train" and weights is not None else None
            split.describe(write_store(folder / role, encoded(), tokenizer.vocab_size, own).lengths())
        if problem.labelled:
            np.save(folder / f"{role}.npy", problem.targets(list(_lines(folder / f"{role}.label"))))
        (folder / f"{role}.label").unlink()
    for side in ("src", "tgt"):
        (folder / f"train.{side}").unlink()


def _sentences(folder: Path, role: str) -> Iterable[str]:
    return chain(_lines(folder / f"{role}.src"), _lines(folder / f"{role}.tgt"))


def _lines(path: Path) -> Iterator[str]:
    with open(path, encoding="utf-8", newline="\n") as file:
        for line in file:
            yield line[:-1]


def _line(text: str) -> str:
    """A sentence as a line: a problem's own samples may hold line feeds."""
    return (text.replace("\n", " ") if "\n" in text else text) + "\n"


def _proposed_vocab(pairs: int) -> int:
    """A vocabulary for a corpus of so many pairs; SentencePiece lowers it where the corpus is smaller still."""
    return next((size for limit, size in ((20_000, 4000), (200_000, 8000), (2_000_000, 16000)) if pairs < limit), 32000)
