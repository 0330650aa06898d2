"""English to German bulletins from an embedded grammar: timetables, weather, appointments, prices.

The corpus needs no download. ``docs/bulletin.md`` tells what the language covers and how its splits are kept apart.
"""

import hashlib
from collections.abc import Iterator
from importlib import resources
from itertools import islice

from seqlib.problems.translation import Translation
from seqlib.util.errors import UsageError

__all__ = ["ende"]

TRAIN_SIZE = 160_000
SIZES = {"dev": 500, "test": 500, "test_names": 300}


class BulletinTranslation(Translation):
    """Pairs of the bulletin language. Each split holds that many different sentences, the same ones every time.

    ``dev`` and ``test`` hold combinations of words (verb with noun, adjective with noun) that no training sentence
    has; ``test_names`` has names that no other split has.
    """

    name = "translate_bulletin_ende"
    source_language = "en"
    target_language = "de"
    licence = "Apache-2.0"
    citation = "seqlib's own grammar, after the idea of TAUM-METEO (Chandioux 1976)"
    tokenizer, vocab_size = "bpe", 4000  # of names BPE keeps more whole: sentences are 12 % shorter than by unigram

    def __init__(self, train_size: int = TRAIN_SIZE, seed: int = 0) -> None:
        """``train_size`` different training sentences, drawn from ``seed``. Raises UsageError when below 1."""
        if train_size < 1:
            raise UsageError(f"train_size must be at least 1, got {train_size}")
        self.train_size = train_size
        self.seed = seed

    def splits(self) -> tuple[str, ...]:
        return ("train", "dev", "test", "test_names")

    def samples(self, split: str) -> Iterator[tuple[str, str]]:
        """Pairs of a split. Raises UsageError for an unknown one."""
        from seqlib.problems.bulletin import Bulletin

        self.check_split(split)
        count = SIZES.get(split, self.train_size)
        for sentence in Bulletin(self.seed).distinct(split, count):
            yield sentence.source, sentence.target

    def in_domain(self, count: int = 500) -> list[str]:
        """English test sentences, to count how many a model wrongly takes for off-domain. At most 500."""
        return [source for source, _ in islice(self.samples("test"), count)]

    def off_domain(self) -> list[str]:
        """English sentences of other kinds; a model should doubt its translations of them."""
        from seqlib.problems.bulletin.offdomain import OFF_DOMAIN

        return list(OFF_DOMAIN)

    def gibberish(self) -> list[str]:
        """Strings that are not English."""
        from seqlib.problems.bulletin.offdomain import GIBBERISH

        return list(GIBBERISH)

    def digest(self) -> str:
        """Of the grammar's files, the sizes and the seed, from which every pair follows."""
        state = hashlib.sha256(f"{self.name} {self.train_size} {self.seed} {sorted(SIZES.items())}".encode())
        folder = resources.files("seqlib.problems.bulletin")
        for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
            if file.name.endswith((".py", ".toml")):
                state.update(f"\0{file.name}\0".encode() + file.read_bytes())
        return state.hexdigest()


def ende() -> BulletinTranslation:
    """English to German bulletins."""
    return BulletinTranslation()
