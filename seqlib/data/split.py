"""Splits: held-out parts by a hash of the source, and expressions such as ``train[:80%]+dev``."""

import hashlib
import itertools
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from seqlib.data.records import Record
from seqlib.util.errors import UsageError, unknown

_PART = re.compile(r"^(?P<name>\w+)(?:\[(?P<from>-?\d+%?)?:(?P<to>-?\d+%?)?\])?$")


def source_key(text: str) -> int:
    """A 64-bit key (BLAKE2b) of a sentence; case, Unicode composition and runs of white space do not count."""
    composed = text if text.isascii() else unicodedata.normalize("NFC", text)
    plain = " ".join(composed.casefold().split())
    return int.from_bytes(hashlib.blake2b(plain.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


@dataclass(frozen=True)
class HashSplit:
    """Sends a sentence to test, dev or train by ``source_key`` alone.

    So all copies of a source land in the same split, whatever their order, and with the same fractions a sentence
    keeps its split when the corpus grows. `dev` and `test` are fractions; raises UsageError when they leave nothing.
    """

    dev: float
    test: float

    def __post_init__(self) -> None:
        if self.dev < 0 or self.test < 0 or self.dev + self.test >= 1:
            raise UsageError(f"held-out parts of {self.dev:g} (dev) and {self.test:g} (test) leave nothing to train on")

    @classmethod
    def sized(cls, pairs: int, dev: float | None = None, test: float | None = None) -> "HashSplit":
        """The split of a corpus of ``pairs``: below 1 a size is a fraction, from 1 on about so many pairs.

        None takes 2 % of the corpus: at least 100 pairs (but never above a tenth of it), at most 2000. Each part's
        real size is random (binomial), since the hash decides. Raises UsageError for sizes that leave no training
        data.
        """
        usual = min(2000.0, max(0.02 * pairs, min(100.0, pairs / 10)))
        sizes = [usual if size is None else size if size >= 1 else size * pairs for size in (dev, test)]
        return cls(*(size / max(pairs, 1) for size in sizes))

    def split_of(self, source: str) -> str:
        """The split of a sentence: "train", "dev" or "test"."""
        return self.split_of_key(source_key(source))

    def split_of_key(self, key: int) -> str:
        """The split of a sentence with this ``source_key``."""
        place = key / 2.0**64
        if place < self.test:
            return "test"
        return "dev" if place < self.test + self.dev else "train"


class Part(NamedTuple):
    """A part of a split expression: limits as written (``10``, ``-5``, ``80%``), empty where left out."""

    name: str
    start: str = ""
    stop: str = ""

    def limits(self, size: int) -> tuple[int, int]:
        """Absolute half-open limits in a split of ``size`` records; percents round to the nearest record."""
        return _limit(self.start, size, 0), _limit(self.stop, size, size)


def parse_split(expression: str, known: Iterable[str]) -> list[Part]:
    """Parses ``train[:80%]``, ``train[100:200]``, ``train[-10%:]`` or ``train+dev``. Raises UsageError."""
    parts: list[Part] = []
    for text in expression.split("+"):
        match = _PART.match(text.strip())
        if match is None:
            raise UsageError(
                f"split {expression!r}: cannot read {text.strip()!r}; expected a name, with limits such as "
                "train[:80%], train[100:200] or train[-10%:], joined by +"
            )
        if match["name"] not in (names := list(known)):
            raise unknown("split", match["name"], names)
        for limit in (match["from"], match["to"]):
            if limit and limit.endswith("%") and abs(int(limit[:-1])) > 100:
                raise UsageError(f"split {expression!r}: {limit} is more than 100%")
        parts.append(Part(match["name"], match["from"] or "", match["to"] or ""))
    return parts


def read_split(expression: str, known: Iterable[str], records: Callable[[str], Iterator[Record]]) -> Iterator[Record]:
    """The records that an expression names, from ``records(split)`` streams.

    A limit in percent or counted from the end needs the split's size: then the stream is read once more to count.
    Raises UsageError at the call, not at the first record.
    """
    parts = parse_split(expression, known)

    def stream(part: Part) -> Iterator[Record]:
        if not part.start and not part.stop:
            return records(part.name)
        relative = any("%" in limit or "-" in limit for limit in (part.start, part.stop))
        if not relative:
            return itertools.islice(records(part.name), int(part.start or 0), int(part.stop) if part.stop else None)
        start, stop = part.limits(sum(1 for _ in records(part.name)))
        return itertools.islice(records(part.name), start, max(start, stop))

    return itertools.chain.from_iterable(stream(part) for part in parts)


def _limit(text: str, size: int, default: int) -> int:
    if not text:
        return default
    value = round(int(text[:-1]) * size / 100) if text.endswith("%") else int(text)
    return min(max(value + size if text.startswith("-") else value, 0), size)
