"""The base of classification problems: texts or pairs of texts with a class, several labels, or a number."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from seqlib.data.clean import CleanRules
from seqlib.data.records import Record
from seqlib.problems.problem import Problem
from seqlib.problems.spec import Labels, ProblemSpec
from seqlib.util.errors import DataError, unknown

if TYPE_CHECKING:
    from seqlib.data.tokenizer import Tokenizer

SEPARATOR = ";"
"""Between the labels of a text that may have several."""


class TextClassification(Problem):
    """Labelled texts with named splits; subclasses give the texts, everything else follows.

    A subclass sets ``name`` and ``labels`` and defines ``splits()`` and ``samples(split)`` or ``records(split)``,
    streams that give the same every time. A sample is (text, label); of a problem with ``labels.pairs`` (text, second
    text, label). A label is one of ``labels.names``; several of them with ``;`` between for the kind multi_label; a
    number for regression.
    """

    task = "text_classification"
    labelled = True
    metrics = ("accuracy", "macro_f1", "mcc")
    labels: Labels
    vocab_size: int | None = 8000

    def samples(self, split: str) -> Iterator[tuple[str, ...]]:
        """The labelled texts of a split, in a fixed order. Raises DataError at a line that cannot be read."""
        for record in self.records(split):
            texts = record.pair() if self.labels.pairs else record.pair()[:1]
            yield (*texts, record.label)

    def records(self, split: str) -> Iterator[Record]:
        """The texts of a split with where they came from; by default ``samples``, numbered from 1."""
        if type(self).samples is TextClassification.samples:
            raise NotImplementedError(f"{type(self).__name__} must define samples(split) or records(split)")
        for number, (*texts, label) in enumerate(self.samples(split), start=1):
            yield Record(texts[0], "".join(texts[1:]), f"{self.name}:{split}", number, label=label)

    def encode_batch(self, samples: list[tuple[str, str]], tokenizer: "Tokenizer") -> list[tuple[list[int], list[int]]]:
        """Ids of the first and the second text (empty for single texts)."""
        first = tokenizer.encode_batch([text for text, _ in samples])
        second = tokenizer.encode_batch([text for _, text in samples]) if self.labels.pairs else [[]] * len(first)
        return list(zip(first, second, strict=True))

    def targets(self, labels: list[str]) -> np.ndarray:
        """int32 [n] class numbers, float32 [n, L] labels that hold, float32 [n] numbers. Raises DataError for a label
        that is not one."""
        return read_targets(labels, self.labels, self.name)

    def spec(self, tokenizer: "Tokenizer", **more: Any) -> ProblemSpec:
        told = {"labels": self.labels, "target_vocab": self.labels.outputs, "shared_vocab": False}
        return super().spec(tokenizer, **told, pair_ends=getattr(tokenizer, "pair_ends", 1), **more)

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "kind": self.labels.kind, "labels": list(self.labels.names)}

    @property
    def cleaning_rules(self) -> CleanRules:
        """The rules that suit such a problem, for its ``cleaning``."""
        return CleanRules.texts(self.labels.pairs)


def read_targets(labels: list[str], known: Labels, where: str) -> np.ndarray:
    """Labels as arrays, see ``TextClassification.targets``; ``where`` begins the DataError of one that is not known."""
    if known.kind == "regression":
        return np.array([_number(label, where) for label in labels], np.float32)
    place = {name: number for number, name in enumerate(known.names)}
    if known.kind == "multi_class":
        for label in labels:
            if label not in place:
                raise DataError(f"{where}: {unknown('label', label, known.names)}")
        return np.array([place[label] for label in labels], np.int32)
    found = np.zeros((len(labels), len(known.names)), np.float32)
    for row, several in enumerate(labels):
        for label in split_labels(several):
            if label not in place:
                raise DataError(f"{where}: {unknown('label', label, known.names)}")
            found[row, place[label]] = 1
    return found


def split_labels(several: str) -> list[str]:
    """The labels in ``a;b``; none in an empty text."""
    return [label.strip() for label in several.split(SEPARATOR) if label.strip()]


def _number(label: str, where: str) -> float:
    try:
        value = float(label)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{where}: the label {label!r} is not a finite number")
    return value
