"""Adjectives by the kind of noun they go with, weekdays, months, and other closed lists."""

from seqlib.problems.bulletin.german import adjective_stem
from seqlib.problems.bulletin.lexicon import LEXICON, pairs

Adjective = tuple[str, str, str]
ADJECTIVES: dict[str, tuple[Adjective, ...]] = {
    kind: tuple((english, german, adjective_stem(german)) for english, german in pairs(text))
    for kind, text in LEXICON["adjectives"].items()
}
"""Adjectives by kind of noun: (English, German, German stem that endings join)."""

NEEDS_DEFINITE = frozenset({"first", "last", "next", "nearest", "whole"})
"""Adjectives that take a singular noun and the definite article."""

PAIRS = {name: pairs(text) for name, text in LEXICON["pairs"].items()}
"""Closed lists of (English, German); ``causes`` in the genitive (bare plurals apart), after "wegen"."""

STATES = {kind: pairs(text) for kind, text in LEXICON["states"].items()}
"""What is said of roads, lifts, vehicles and shops."""

DETERMINERS_SINGULAR = dict(PAIRS["determiners"])
"""English determiner → German stem, before a singular noun. "d" stands for the definite article."""

POSSESSIVES = ("my", "our", "your", "his", "her")
