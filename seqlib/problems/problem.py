"""What the problems of all tasks are: named splits of records, and a card that says where they come from."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from seqlib.data.clean import CleanRules
from seqlib.data.records import Record
from seqlib.data.split import read_split
from seqlib.util.errors import unknown

if TYPE_CHECKING:
    from seqlib.data.tokenizer import Tokenizer
    from seqlib.problems.spec import ProblemSpec


class Problem:
    """Data with named splits, how they become token ids, and what a model of them is scored by.

    The bases of the tasks (``Translation``, ``TextClassification``, ``LanguageModel``) say what a record is.
    """

    task: ClassVar[str] = ""
    """The file of seqlib.train.tasks that knows how such a problem is trained."""
    name: str = ""
    metrics: tuple[str, ...] = ()
    """Names of scores, the first of which ranks checkpoints."""
    source: str = ""
    """Where the data are published: an address, or a handle of the hub."""
    licence: str = ""
    citation: str = ""
    sizes: Mapping[str, int] = {}
    """Published number of records by split."""
    digests: Mapping[str, str] = {}
    """sha256 of the published files, unpacked, by name."""
    how: str = ""
    """What to put where when the data are not fetched: one sentence, for errors and ``seqlib info``."""
    vocab_size: int | None = None
    """The vocabulary to train when none is asked for; None lets ``prepare`` propose one from the corpus size."""
    tokenizer: str = "unigram"
    """Kind of tokenizer trained by default."""
    cleaning: CleanRules | None = None
    """What ``prepare`` drops from the splits in ``cleaned``; None drops nothing."""
    cleaned: tuple[str, ...] = ("train",)
    weighted: bool = False
    """Whether records of train have a weight in the loss (``Record.weight``)."""
    labelled: ClassVar[bool] = False
    """Whether a record has a label, which ``targets`` reads."""
    together: tuple[str, ...] = ()
    """Splits that ``records_together`` gives in one stream, where reading them one by one would read files again."""

    def splits(self) -> tuple[str, ...]:
        """Names of the splits, "train" first; "dev" and "test" where there are any, and others for extra test sets."""
        raise NotImplementedError(f"{type(self).__name__} must define splits()")

    def records(self, split: str) -> Iterator[Record]:
        """The records of a split with where they came from."""
        raise NotImplementedError(f"{type(self).__name__} must define records(split)")

    def records_together(self) -> Iterator[Record]:
        """The records of the splits in ``together``, with ``split`` set; no source stands in two of them."""
        raise NotImplementedError(f"{type(self).__name__} must define records_together()")

    def read(self, expression: str) -> Iterator[Record]:
        """The records of a split expression: ``train``, ``train[:80%]``, ``train[100:200]``, ``train+dev``.

        Raises UsageError for a bad expression or an unknown split.
        """
        return read_split(expression, self.splits(), self.records)

    def check_split(self, split: str) -> None:
        """Raises UsageError with the nearest names unless ``split`` is one of ``splits()``."""
        if split not in self.splits():
            raise unknown("split", split, self.splits())

    def digest(self) -> str:
        """Hex digest of the content of all splits: equal digests mean equal data. By default reads every record."""
        state = hashlib.sha256()
        for split in self.splits():
            state.update(f"\0split {split}\0".encode())
            for record in self.records(split):
                label = f"\0{record.label}" if record.label else ""
                state.update(f"{record.source}\0{record.target}{label}\n".encode())
        return state.hexdigest()

    def targets(self, labels: list[str]) -> np.ndarray:
        """Labels as a model is given them, where the problem is ``labelled``."""
        raise NotImplementedError(f"{type(self).__name__} must define targets(labels)")

    def spec(self, tokenizer: "Tokenizer", **more: Any) -> "ProblemSpec":
        """What a model is told; `more` are fields of it that a task sets."""
        from seqlib.problems.spec import ProblemSpec

        ids = {name: getattr(tokenizer, name) for name in ("pad_id", "bos_id", "eos_id")}
        sizes = dict.fromkeys(("source_vocab", "target_vocab"), tokenizer.vocab_size)
        return ProblemSpec(**{"task": self.task, "name": self.name, "metrics": self.metrics, **ids, **sizes, **more})

    def describe(self) -> dict[str, Any]:
        """Where the data come from, for reports and bundles."""
        names = ("name", "task", "citation", "licence")
        return {**{name: getattr(self, name) for name in names}, "splits": list(self.splits())}

    def card(self) -> dict[str, Any]:
        """What is known of the problem without reading its data, for ``seqlib info``."""
        names = ("name", "task", "source", "licence", "citation", "sizes", "digests", "how", "metrics")
        return {**{name: getattr(self, name) for name in names}, "splits": list(self.splits())}
