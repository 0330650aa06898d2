"""Nouns with gender, plural and, for places, prepositions. A line: English|German with article|plural|more.

More: ``w`` a weak masculine (den Kunden), ``=feet`` an irregular English plural, ``at an`` a place's English
and German preposition for being there. Plural ``-`` means that there is none.
"""

from typing import NamedTuple

from seqlib.problems.bulletin.german import GermanNoun, german_noun
from seqlib.problems.bulletin.lexicon import LEXICON


class Noun(NamedTuple):
    """A noun in both languages. ``place`` is (English at/in/on, German in/an)."""

    en: str
    en_plural: str
    de: GermanNoun
    kind: str
    place: tuple[str, str]


def with_s(word: str) -> str:
    """A noun in the plural, or a verb as "she" has it, where either is regular."""
    if word.endswith(("s", "x", "ch", "sh")):
        return f"{word}es"
    if word.endswith("y") and word[-2] not in "aeiou":
        return f"{word[:-1]}ies"
    return f"{word}s"


def _parse(kind: str, line: str) -> Noun:
    english, german, plural, *more = line.strip().split("|")
    english_plural = with_s(english)
    place = ("", "")
    for extra in more:
        if extra.startswith("="):
            english_plural = extra[1:]
        elif extra != "w":
            at, being = extra.split()
            place = (at, being)
    return Noun(english, english_plural, german_noun(german, plural, "w" in more), kind, place)


NOUNS: dict[str, tuple[Noun, ...]] = {
    kind: tuple(_parse(kind, line) for line in lines.splitlines()) for kind, lines in LEXICON["nouns"].items()
}
"""All nouns by kind."""


def noun(english: str) -> Noun:
    """The noun of that English name. Raises KeyError when there is none."""
    for group in NOUNS.values():
        for entry in group:
            if entry.en == english:
                return entry
    raise KeyError(english)
