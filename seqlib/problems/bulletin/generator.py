"""Samples of the bulletin language, each a pure function of (seed, split, number); the splits kept apart."""

import random
from collections.abc import Iterator
from typing import NamedTuple
from zlib import crc32

from seqlib.problems.bulletin.phrases import Draw
from seqlib.problems.bulletin.sentences import sentence

SPLITS = ("train", "dev", "test", "test_names")
PARTS = 25
"""One combination in this many is kept for test, and one for dev."""


class Sentence(NamedTuple):
    """A sample with what decides its split: names, and combinations of verb or adjective with noun."""

    source: str
    target: str
    names: tuple[str, ...]
    combinations: tuple[tuple[str, str], ...]


class _Parts(dict[tuple[str, str], int]):
    """Combination → part 0..PARTS-1, computed once each."""

    def __missing__(self, pair: tuple[str, str]) -> int:
        part = crc32(f"{pair[0]}|{pair[1]}".encode()) % PARTS
        self[pair] = part
        return part


_PART = _Parts()


def _fits(split: str, draw: Draw) -> bool:
    """Whether a sentence may stand in the split: train and test_names hold no held-out combination at all, test and
    dev at least one of their own and none of the other's; test_names must name somebody or some place."""
    parts = {_PART[pair] for pair in draw.combinations}
    if split == "test":
        return 0 in parts and 1 not in parts
    if split == "dev":
        return 1 in parts and 0 not in parts
    if 0 in parts or 1 in parts:
        return False
    return split == "train" or bool(draw.names)


class Bulletin:
    """The language's samples for one seed. ``sample(split, i)`` is pure; neighbours may repeat a sentence."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self._generator = random.Random()

    def sample(self, split: str, number: int) -> Sentence:
        """Sample ``number`` of a split. Raises ValueError for an unknown split or a negative number."""
        if split not in SPLITS or number < 0:
            raise ValueError(f"no sample {number} of split {split!r}")
        base = ((self.seed << 8 | SPLITS.index(split)) << 64 | number) << 16
        held_out = split == "test_names"
        attempt = 0
        while True:
            self._generator.seed(base | attempt)
            draw = Draw(self._generator, held_out)
            source, target = sentence(draw)
            if _fits(split, draw):
                return Sentence(source, target, tuple(draw.names), tuple(draw.combinations))
            attempt += 1

    def distinct(self, split: str, count: int) -> Iterator[Sentence]:
        """The first ``count`` different sentences of a split, in order of their numbers."""
        seen: set[str] = set()
        number = 0
        while len(seen) < count:
            found = self.sample(split, number)
            number += 1
            if found.source not in seen:
                seen.add(found.source)
                yield found
