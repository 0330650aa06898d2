"""What ``prepare`` found and did, for people (a table) and programs (JSON)."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from seqlib.data.clean import CleanReport
from seqlib.util.files import read_json


@dataclass
class SplitReport:
    """One split: pairs, tokens a side (without bos and eos), mean and longest.

    ``corpora`` counts the pairs of each corpus, which stand one after another. ``also_held_out`` counts train pairs
    whose source (case and white space apart) also stands in a held-out split. Of texts for language models `pairs` are
    the texts, with their `characters` and `bytes` (UTF-8).
    """

    expression: str = ""
    pairs: int = 0
    corpora: list[int] = field(default_factory=list)
    also_held_out: int = 0
    source_tokens: int = 0
    target_tokens: int = 0
    source_longest: int = 0
    target_longest: int = 0
    characters: int = 0
    bytes: int = 0

    def describe(self, lengths: np.ndarray) -> None:
        """Takes token counts from ``lengths`` int [n, 2]."""
        self.source_tokens, self.target_tokens = (int(total) for total in lengths.sum(0, dtype=np.int64))
        if len(lengths):
            self.source_longest, self.target_longest = (int(longest) for longest in lengths.max(0))


@dataclass
class PrepareReport:
    """The whole of ``report.json``."""

    cleaning: CleanReport = field(default_factory=CleanReport)
    splits: dict[str, SplitReport] = field(default_factory=dict)
    tokenizer: dict[str, Any] = field(default_factory=dict)
    problem: dict[str, Any] = field(default_factory=dict)
    digest: str = ""
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers."""
        return asdict(self)

    @classmethod
    def read(cls, path: str | Path) -> "PrepareReport":
        """Reads ``report.json``. Raises DataError naming the file."""
        return read_json(path, cls)

    def table(self) -> str:
        """The report as plain text."""
        if any(split.bytes for split in self.splits.values()):
            return self._table_of_texts()
        lines = [f"{'split':<16}{'pairs':>12}{'source tokens':>16}{'target tokens':>16}{'longest':>12}"]
        for name, split in self.splits.items():
            longest = f"{split.source_longest}/{split.target_longest}"
            lines.append(
                f"{name:<16}{split.pairs:>12,}{split.source_tokens:>16,}{split.target_tokens:>16,}{longest:>12}"
            )
        for name, split in self.splits.items():
            if split.also_held_out:
                lines.append(f"note: {split.also_held_out:,} sources of {name} also stand in a held-out split")
        if self.tokenizer:
            lines.append(f"tokenizer: {self.tokenizer['kind']}, vocabulary {self.tokenizer['vocab_size']:,}")
        if self.cleaning.read:
            lines.append("cleaning: " + self.cleaning.table())
        return "\n".join(lines)

    def _table_of_texts(self) -> str:
        lines = [f"{'split':<16}{'texts':>12}{'bytes':>16}{'characters':>16}{'tokens':>16}"]
        for name, split in self.splits.items():
            figures = f"{split.bytes:>16,}{split.characters:>16,}{split.target_tokens:>16,}"
            lines.append(f"{name:<16}{split.pairs:>12,}{figures}")
        lines.append(f"tokenizer: {self.tokenizer['kind']}, vocabulary {self.tokenizer['vocab_size']:,}")
        return "\n".join(lines)
