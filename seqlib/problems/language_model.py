"""The base of language models' problems: texts, a tokenizer that keeps every character, perplexity and bits a byte."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from seqlib.data.records import Record
from seqlib.data.vocabulary import begins
from seqlib.problems.problem import Problem
from seqlib.problems.spec import ProblemSpec

if TYPE_CHECKING:
    from seqlib.data.tokenizer import Tokenizer


class LanguageModel(Problem):
    """A corpus of texts with named splits; subclasses give the texts, everything else follows.

    A subclass sets ``name`` and defines ``splits()`` and either ``texts(split)`` or ``records(split)``, streams that
    give the same texts every time. With ``documents`` each is a text of its own, which the end token ends and begins;
    without, they are pieces (such as lines, their ends included) of one long text. Tokenizers take texts as they are.
    """

    task: ClassVar[str] = "language_model"
    metrics: tuple[str, ...] = ("loss", "bits_per_byte")
    tokenizer: str = "characters"
    documents: bool = False
    answers: bool = False
    """Whether only parts of each document are learnt, see `learnt`."""

    def texts(self, split: str) -> Iterator[str]:
        """The texts of a split, in a fixed order. Raises DataError at a line that cannot be read."""
        for record in self.records(split):
            yield record.pair()[0]

    def records(self, split: str) -> Iterator[Record]:
        """The texts of a split as ``Record.source``; by default ``texts``, numbered from 1."""
        if type(self).texts is LanguageModel.texts:
            raise NotImplementedError(f"{type(self).__name__} must define texts(split) or records(split)")
        for number, text in enumerate(self.texts(split), start=1):
            yield Record(text, "", f"{self.name}:{split}", number)

    def spec(self, tokenizer: "Tokenizer", **more: Any) -> ProblemSpec:
        """What a model is told: a text begins with the token that ends the one before, unless it was trained with
        another."""
        begin = begins(tokenizer)[1] or [tokenizer.eos_id]
        return super().spec(tokenizer, bos_id=begin[0], **more)

    def learnt(self, record: Record, tokenizer: "Tokenizer") -> tuple[list[int], list[int]]:
        """Of a document with `answers`: which of its tokens and of its end are learnt (1 or 0 each), and its ids."""
        raise NotImplementedError(f"{type(self).__name__} with answers must define learnt(record, tokenizer)")

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "documents": self.documents, "answers": self.answers}
