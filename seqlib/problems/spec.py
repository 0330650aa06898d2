"""What a model is told about a problem: task, vocabulary sizes and special ids. Nothing else crosses that line."""

from pathlib import Path
from typing import Literal

import msgspec

from seqlib.util.errors import DataError
from seqlib.util.files import read_file


class Labels(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a text is given, by `kind`: one of `names`, those of them that hold, or a number, most of them from `low` to
    `high`.

    `pairs` says whether it is two texts that are labelled.
    """

    kind: Literal["multi_class", "multi_label", "regression"] = "multi_class"
    names: tuple[str, ...] = ()
    pairs: bool = False
    low: float = 0.0
    high: float = 1.0

    @property
    def outputs(self) -> int:
        """How many numbers a model gives a text."""
        return 1 if self.kind == "regression" else len(self.names)


class ProblemSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that a model, a decoder and a bundle know about a problem.

    ``task`` is what is done, ``name``, ``source_language`` and ``target_language`` are the problem's. Vocabulary sizes
    ``source_vocab`` and ``target_vocab`` count the special ids ``pad_id``, ``bos_id`` and ``eos_id``. With
    ``shared_vocab`` source and target use one vocabulary, so a model may tie its embeddings. ``metrics`` are names;
    the first one is what checkpoints are ranked by. ``labels`` are those of a classification; ``pair_ends`` ids of the
    end stand between the texts of a pair (RoBERTa's two).
    """

    task: str = "translation"
    source_vocab: int
    target_vocab: int
    shared_vocab: bool = True
    pad_id: int = 0
    bos_id: int = 1
    eos_id: int = 2
    name: str = ""
    source_language: str = ""
    target_language: str = ""
    metrics: tuple[str, ...] = ("bleu", "chrf")
    labels: Labels | None = None
    pair_ends: int = 1

    def to_json(self) -> str:
        """The spec as indented JSON, fields in declaration order."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2).decode()

    @classmethod
    def from_json(cls, text: str | bytes, where: str = "problem spec") -> "ProblemSpec":
        """Reads what ``to_json`` wrote. Raises DataError naming ``where`` on damage, unknown or missing fields."""
        try:
            return msgspec.json.decode(text, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:  # ValidationError is a DecodeError
            raise DataError(f"{where}: not a problem spec: {error}") from None

    @classmethod
    def read(cls, path: str | Path) -> "ProblemSpec":
        """Reads a ``problem.json``. Raises DataError naming the file."""
        return cls.from_json(read_file(path), str(path))
