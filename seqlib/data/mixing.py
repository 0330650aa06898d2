"""Mixing corpora: how often the pairs of each come in an epoch.

A corpus with weight w gives w·n of its n pairs to an epoch, taken in turn from an endless row of its own shuffles. So
each pair is seen w times an epoch, as evenly as whole numbers allow: with 3 three times in every epoch, with 0.25 once
in four epochs.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from seqlib.data.plan import order
from seqlib.util.errors import UsageError


def parse_mix(text: str) -> list[tuple[str, float]]:
    """(files, weight) of each corpus in ``big.en,big.de; small.tsv*3``; a weight left out is 1. Raises UsageError."""
    found: list[tuple[str, float]] = []
    for part in filter(None, (part.strip() for part in text.split(";"))):
        files, star, number = part.rpartition("*")
        if not star:
            files, number = part, "1"
        try:
            weight = float(number)
        except ValueError:
            weight = math.nan
        if not 0 < weight < math.inf or not files.strip():
            raise UsageError(f"mix: {part!r}: expected files and a weight above 0, such as big.en,big.de; small.tsv*3")
        found.append((files.strip(), weight))
    return found


@dataclass(frozen=True)
class Mixture:
    """Corpora that lie one after another in a store: ``sizes`` pairs each, with their ``weights``.

    With a ``temperature`` T other than 1, shares of an epoch are proportional to (weight · size)^(1/T) and the epoch
    has as many pairs as with T = 1: a large T evens the corpora out (Arivazhagan et al. 2019). Raises UsageError for
    lists of different lengths and a temperature that is not positive.
    """

    sizes: tuple[int, ...]
    weights: tuple[float, ...]
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if len(self.sizes) != len(self.weights):
            raise UsageError(f"{len(self.sizes)} corpora were prepared, but {len(self.weights)} weights given")
        if not 0 < self.temperature < math.inf:
            raise UsageError(f"the temperature of a mixture must be above 0, got {self.temperature:g}")

    @property
    def plain(self) -> bool:
        """Every pair once an epoch."""
        return all(times == 1 for times in self.times())

    def times(self) -> list[float]:
        """How often a pair of each corpus is seen an epoch, on average."""
        if self.temperature == 1:
            return list(self.weights)
        tokens = [size * weight for size, weight in zip(self.sizes, self.weights, strict=True)]
        shares = [amount ** (1 / self.temperature) for amount in tokens]
        scale = sum(tokens) / sum(shares)
        return [share * scale / size if size else 0.0 for share, size in zip(shares, self.sizes, strict=True)]

    def chosen(self, digest: str, seed: int, epoch: int) -> np.ndarray:
        """int64: the store's pairs of an epoch, a pure function of the arguments."""
        found, first = [np.zeros(0, np.int64)], 0
        for number, (size, times) in enumerate(zip(self.sizes, self.times(), strict=True)):
            amount = Fraction(times).limit_denominator(10**6) * size
            start, stop = math.floor(epoch * amount), math.floor((epoch + 1) * amount)
            while start < stop:
                shuffle, at = divmod(start, size)
                taken = min(size - at, stop - start)
                shuffled = order(size, f"{digest} {seed} corpus {number} shuffle {shuffle}")
                found.append(first + shuffled[at : at + taken])
                start += taken
            first += size
        return np.concatenate(found)

    def report(self, names: list[str]) -> str:
        """A line a corpus: its pairs, and how often each is seen."""
        parts = zip(names, self.sizes, self.times(), strict=True)
        return "\n".join(f"{name}: {size:,} pairs, each seen {times:.3g} times an epoch" for name, size, times in parts)
