"""The base of translation problems: pairs of sentences, a tokenizer for both sides, BLEU and chrF."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from seqlib.data.clean import CleanRules
from seqlib.data.records import Record
from seqlib.data.split import read_split
from seqlib.problems.spec import ProblemSpec
from seqlib.util.errors import unknown

if TYPE_CHECKING:
    from seqlib.data.tokenizer import Tokenizer

__all__ = ["Reversed", "Translation"]


class Translation:
    """A corpus of sentence pairs with named splits; subclasses give the pairs, everything else follows.

    A subclass sets ``name``, ``source_language``, ``target_language`` and defines ``splits()`` and either
    ``samples(split)`` (pairs of strings) or ``records(split)`` (pairs with file and line, for cleaning reports).
    Both are streams: they may be called often, must give the same pairs every time, and should not hold the corpus.
    ``digest()`` should be overridden where it can be had without reading every pair.
    """

    task: ClassVar[str] = "translation"
    metrics: tuple[str, ...] = ("bleu", "chrf")
    name: str = ""
    source_language: str = ""
    target_language: str = ""
    citation: str = ""
    licence: str = ""
    vocab_size: int | None = None
    """The vocabulary to train when none is asked for; None lets ``prepare`` propose one from the corpus size."""
    tokenizer: str = "unigram"
    """Kind of tokenizer trained by default: unigram, bpe, characters or bytes."""
    cleaning: CleanRules | None = None
    """What ``prepare`` drops from the splits in ``cleaned``; None drops nothing."""
    cleaned: tuple[str, ...] = ("train",)

    weighted: bool = False
    """Whether pairs of train have a weight in the loss (``Record.weight``)."""
    together: tuple[str, ...] = ()
    """Splits that ``records_together`` gives in one stream, where reading them one by one would read files again."""

    def splits(self) -> tuple[str, ...]:
        """Names of the splits, "train" first; "dev" and "test" where there are any, and others for extra test sets."""
        raise NotImplementedError(f"{type(self).__name__} must define splits()")

    def samples(self, split: str) -> Iterator[tuple[str, str]]:
        """The (source, target) pairs of a split, in a fixed order. Raises DataError at a line that cannot be read."""
        for record in self.records(split):
            yield record.pair()

    def records(self, split: str) -> Iterator[Record]:
        """The pairs of a split with where they came from; by default ``samples``, numbered from 1."""
        if type(self).samples is Translation.samples:
            raise NotImplementedError(f"{type(self).__name__} must define samples(split) or records(split)")
        for number, (source, target) in enumerate(self.samples(split), start=1):
            yield Record(source, target, f"{self.name}:{split}", number)

    def records_together(self) -> Iterator[Record]:
        """The pairs of the splits in ``together``, with ``split`` set; no source stands in two of them."""
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

    def encode(self, sample: tuple[str, str], tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
        """Ids of source and target, without bos and eos."""
        return self.encode_batch([sample], tokenizer)[0]

    def encode_batch(self, samples: list[tuple[str, str]], tokenizer: Tokenizer) -> list[tuple[list[int], list[int]]]:
        """``encode`` of many samples at once. A problem with an encoding of its own overrides this one."""
        sources = tokenizer.encode_batch([source for source, _ in samples])
        targets = tokenizer.encode_batch([target for _, target in samples])
        return list(zip(sources, targets, strict=True))

    def digest(self) -> str:
        """Hex digest of the content of all splits: equal digests mean equal data. By default reads every pair."""
        state = hashlib.sha256()
        for split in self.splits():
            state.update(f"\0split {split}\0".encode())
            for record in self.records(split):
                state.update(f"{record.source}\0{record.target}\n".encode())
        return state.hexdigest()

    def spec(self, tokenizer: Tokenizer) -> ProblemSpec:
        """What a model is told: one vocabulary for both sides."""
        return ProblemSpec(
            task=self.task,
            source_vocab=tokenizer.vocab_size,
            target_vocab=tokenizer.vocab_size,
            shared_vocab=True,
            pad_id=tokenizer.pad_id,
            bos_id=tokenizer.bos_id,
            eos_id=tokenizer.eos_id,
            name=self.name,
            source_language=self.source_language,
            target_language=self.target_language,
            metrics=self.metrics,
        )

    def reversed(self) -> Translation:
        """The same pairs the other way round, split by split; its name ends in ``_rev``."""
        return Reversed(self)

    def describe(self) -> dict[str, str | list[str]]:
        """Where the data come from, for reports and bundles."""
        return {
            "name": self.name,
            "source_language": self.source_language,
            "target_language": self.target_language,
            "splits": list(self.splits()),
            "citation": self.citation,
            "licence": self.licence,
        }


class Reversed(Translation):
    """A translation problem with source and target exchanged. Reversing it again gives the original."""

    def __init__(self, problem: Translation) -> None:
        self.problem = problem
        self.name = f"{problem.name}_rev"
        self.source_language = problem.target_language
        self.target_language = problem.source_language
        self.metrics = problem.metrics
        self.citation = problem.citation
        self.licence = problem.licence
        self.vocab_size = problem.vocab_size
        self.tokenizer = problem.tokenizer
        self.cleaning = problem.cleaning
        self.cleaned = problem.cleaned
        self.weighted = problem.weighted

    def splits(self) -> tuple[str, ...]:
        return self.problem.splits()

    def samples(self, split: str) -> Iterator[tuple[str, str]]:
        for source, target in self.problem.samples(split):
            yield target, source

    def records(self, split: str) -> Iterator[Record]:
        for record in self.problem.records(split):
            yield record._replace(source=record.target, target=record.source)

    def encode_batch(self, samples: list[tuple[str, str]], tokenizer: Tokenizer) -> list[tuple[list[int], list[int]]]:
        encoded = self.problem.encode_batch([(target, source) for source, target in samples], tokenizer)
        return [(target, source) for source, target in encoded]

    def digest(self) -> str:
        return hashlib.sha256(f"reversed {self.problem.digest()}".encode()).hexdigest()

    def reversed(self) -> Translation:
        return self.problem
