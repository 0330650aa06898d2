"""Algorithmic problems: digits to be copied, reversed, sorted or added, and as long again as in training.

A digit is a token. Numbers are written with the last digit first, so that a sum can be written from left to right.
``test_long`` has what is longer than anything in training, up to twice as long.
"""

import hashlib
import random
from collections.abc import Callable, Iterator

from seqlib.problems.translation import Translation
from seqlib.util.errors import UsageError

__all__ = ["Algorithmic", "addition", "copy", "reverse", "sort"]

SIZES = {"dev": 500, "test": 500, "test_long": 500}


class Algorithmic(Translation):
    """Sequences of digits and what an algorithm makes of them, drawn from ``seed``; every source occurs once."""

    source = "embedded: drawn from a seed"
    licence = "Apache-2.0"
    how = "nothing is needed: it is drawn from a seed"
    source_language, target_language = "digits", "result"
    metrics = ("exact_match", "bleu")
    tokenizer = "characters"
    vocab_size = 300

    def __init__(
        self, name: str, draw: Callable[[random.Random, int], tuple[str, str]], longest: int, train: int
    ) -> None:
        """``draw`` gives a source of so many digits, at most ``longest`` of them in training, and its target; ``train``
        training pairs. Raises UsageError for sizes below 1."""
        if longest < 1 or train < 1:
            raise UsageError(f"longest and train: expected at least 1, got {longest} and {train}")
        self.name, self.draw, self.longest = f"algorithmic_{name}", draw, longest
        self.sizes = {"train": train, **SIZES}

    def splits(self) -> tuple[str, ...]:
        return tuple(self.sizes)

    def samples(self, split: str) -> Iterator[tuple[str, str]]:
        """The pairs of a split; what a source belongs to is decided by its hash, so none stands in two."""
        self.check_split(split)
        state, seen = random.Random(f"{self.name} {split}"), set[bytes]()
        low, high = (self.longest + 1, 2 * self.longest) if split == "test_long" else (1, self.longest)
        kinds = {"train": range(2, 10), "dev": range(1), "test": range(1, 2)}
        misses = 0
        while len(seen) < self.sizes[split] and misses < 100_000:
            source, target = self.draw(state, state.randint(low, high))
            key = hashlib.blake2b(source.encode(), digest_size=8).digest()
            if key in seen or (split in kinds and key[0] % 10 not in kinds[split]):
                misses += 1
                continue
            seen.add(key)
            misses = 0
            yield source, target

    def digest(self) -> str:
        """Of the name, the sizes and this file, from which every pair follows."""
        from pathlib import Path

        text = f"{self.name} {self.longest} {sorted(self.sizes.items())}".encode()
        return hashlib.sha256(text + Path(__file__).read_bytes()).hexdigest()


def _unary(name: str, answer: Callable[[str], str], longest: int, train: int) -> Algorithmic:
    def draw(state: random.Random, length: int) -> tuple[str, str]:
        digits = "".join(state.choices("0123456789", k=length))
        return digits, answer(digits)

    return Algorithmic(name, draw, longest, train)


def copy(longest: int = 20, train: int = 50_000) -> Algorithmic:
    """The same digits again; ``longest`` and ``train`` as in ``Algorithmic``."""
    return _unary("copy", str, longest, train)


def reverse(longest: int = 20, train: int = 50_000) -> Algorithmic:
    """The digits from the last to the first; ``longest`` and ``train`` as in ``Algorithmic``."""
    return _unary("reverse", lambda digits: digits[::-1], longest, train)


def sort(longest: int = 20, train: int = 50_000) -> Algorithmic:
    """The digits from the smallest to the largest; ``longest`` and ``train`` as in ``Algorithmic``."""
    return _unary("sort", lambda digits: "".join(sorted(digits)), longest, train)


def addition(longest: int = 20, train: int = 200_000) -> Algorithmic:
    """The sum of two numbers, last digits first; ``longest`` (their digits together) and ``train`` as in
    ``Algorithmic``."""

    def draw(state: random.Random, length: int) -> tuple[str, str]:
        first = max(1, length // 2)
        a, b = (state.randrange(10**size) for size in (first, max(1, length - first)))
        return f"{str(a)[::-1]}+{str(b)[::-1]}", str(a + b)[::-1]

    return Algorithmic("addition", draw, longest, train)
