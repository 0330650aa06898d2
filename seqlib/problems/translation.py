"""The base of translation problems: pairs of sentences, a tokenizer for both sides, BLEU and chrF."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from seqlib.data.records import Record
from seqlib.data.vocabulary import encode_pairs
from seqlib.problems.problem import Problem
from seqlib.problems.spec import ProblemSpec

if TYPE_CHECKING:
    from seqlib.data.tokenizer import Tokenizer


class Translation(Problem):
    """A corpus of sentence pairs with named splits; subclasses give the pairs, everything else follows.

    A subclass sets ``name``, ``source_language``, ``target_language`` and defines ``splits()`` and either
    ``samples(split)`` (pairs of strings) or ``records(split)`` (pairs with file and line, for cleaning reports).
    Both are streams: they may be called often, must give the same pairs every time, and should not hold the corpus.
    ``digest()`` should be overridden where it can be had without reading every pair.
    """

    task = "translation"
    metrics = ("bleu", "chrf")
    source_language: str = ""
    target_language: str = ""

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

    def encode(self, sample: tuple[str, str], tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
        """Ids of source and target, without bos and eos."""
        return self.encode_batch([sample], tokenizer)[0]

    def encode_batch(self, samples: list[tuple[str, str]], tokenizer: Tokenizer) -> list[tuple[list[int], list[int]]]:
        """``encode`` of many samples at once. A problem with an encoding of its own overrides this one."""
        return encode_pairs(tokenizer, samples)

    def spec(self, tokenizer: Tokenizer, **more: Any) -> ProblemSpec:
        """What a model is told: one vocabulary for both sides. In the place of special ids that a pretrained tokenizer
        lacks is the one that ends a text, as in Marian."""
        languages = {"source_language": self.source_language, "target_language": self.target_language}
        own = {name: getattr(tokenizer, name) for name in ("pad_id", "bos_id")}
        ids = {name: token if token >= 0 else tokenizer.eos_id for name, token in own.items()}
        return super().spec(tokenizer, shared_vocab=True, **languages, **ids, **more)

    def reversed(self) -> Translation:
        """The same pairs the other way round, split by split; its name ends in ``_rev``."""
        return Reversed(self)

    def describe(self) -> dict[str, Any]:
        languages = {"source_language": self.source_language, "target_language": self.target_language}
        return {**super().describe(), **languages}


class Reversed(Translation):
    """A translation problem with source and target exchanged. Reversing it again gives the original."""

    def __init__(self, problem: Translation) -> None:
        self.problem = problem
        self.name = f"{problem.name}_rev"
        self.source_language = problem.target_language
        self.target_language = problem.source_language
        same = ("metrics", "citation", "licence", "vocab_size", "tokenizer", "cleaning", "cleaned", "weighted")
        vars(self).update({name: getattr(problem, name) for name in same})

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
