"""Adjectives by the kind of noun they go with, weekdays, months, and other closed lists."""

from __future__ import annotations

from seqlib.problems.bulletin.german import adjective_stem
from seqlib.problems.bulletin.lexicon import LEXICON


def pairs(text: str) -> tuple[tuple[str, str], ...]:
    """(English, German) from "new neu, old alt"; an English expression of two words is written with "_"."""
    items = (item.split() for item in text.split(","))
    return tuple((english.replace("_", " "), german.replace("_", " ")) for english, german in items)


Adjective = tuple[str, str, str]
ADJECTIVES: dict[str, tuple[Adjective, ...]] = {
    kind: tuple((english, german, adjective_stem(german)) for english, german in pairs(text))
    for kind, text in LEXICON["adjectives"].items()
}
"""Adjectives by kind of noun: (English, German, German stem that endings join)."""

NEEDS_DEFINITE = frozenset({"first", "last", "next", "nearest", "whole"})
"""Adjectives that take a singular noun and the definite article."""

_PAIRS = LEXICON["pairs"]
DAYS = pairs(_PAIRS["days"])
MONTHS = pairs(_PAIRS["months"])
SEASONS = pairs(_PAIRS["seasons"])
DAYTIMES = pairs(_PAIRS["daytimes"])
DIRECTIONS = pairs(_PAIRS["directions"])
SKY_STATES = pairs(_PAIRS["sky_states"])
COMPARATIVES = pairs(_PAIRS["comparatives"])
FREQUENCY = pairs(_PAIRS["frequency"])
LIKELIHOOD = pairs(_PAIRS["likelihood"])

DETERMINERS_SINGULAR = dict(pairs(_PAIRS["determiners"]))
"""English determiner → German stem, before a singular noun. "d" stands for the definite article."""

POSSESSIVES = ("my", "our", "your", "his", "her")

CAUSES = pairs(_PAIRS["causes"])
"""What follows "because of" and, in the genitive (bare plurals apart), "wegen"."""
