"""Random noun phrases, times, places and amounts: the slots of every frame.

``Draw`` is the source of chance for one sentence. It also gathers what the sentence used: names, and combinations
(adjective with noun, verb with noun) that decide to which split it may belong.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

from seqlib.problems.bulletin import names, words
from seqlib.problems.bulletin.clause import EN_PLURAL, EN_THIRD, ICH, PRONOUNS, E, Part, Phrase, R
from seqlib.problems.bulletin.german import MANY, PLURAL, PREPOSITION_CASE, THIRD, contract, declined
from seqlib.problems.bulletin.lexicon import ROWS
from seqlib.problems.bulletin.nouns import NOUNS, Noun, noun
from seqlib.problems.bulletin.numbers import number
from seqlib.problems.bulletin.verbs import Verb

Item = TypeVar("Item")

_PLURAL_DETERMINERS = words.PAIRS["plural_determiners"]
_SINGULAR_WEIGHTED = (*("the",) * 8, *("a",) * 5, *words.DETERMINERS_SINGULAR)
_OBJECT_WEIGHTED = (*("the",) * 5, *("a",) * 6, *words.DETERMINERS_SINGULAR)
_DEFINITE_ONLY = ("the", "the", "the", "this", *words.POSSESSIVES)
_PLACE_DETERMINERS = ("the",) * 8 + ("a", "this", "our")
_PUBLIC = ("the", "the", "the", "the", "a", "a", "this", "every", "no")
_PUBLIC_KINDS = frozenset("vehicle site shop area seaside way facility weather opening".split())
_PUBLIC_PLURALS = tuple(entry for entry in _PLURAL_DETERMINERS if entry[1] not in ("mein", "unser", "Ihr"))
_SUBJECTS = (ICH, ICH, *PRONOUNS)
"""Pronouns as subjects: "I" three times as often, for its verb form is no other's."""
_PLACES = ("area", "seaside")
"""Kinds said in the singular only: one is told where something is, not of many such places."""
_NUMBERS = tuple(number(n) for n in range(2, 13))


class Draw:
    """Chance for one sentence, reproducible: only ``random()`` of a seeded generator is used."""

    __slots__ = ("combinations", "held_out_names", "names", "random", "subject")

    def __init__(self, generator: random.Random, held_out_names: bool = False) -> None:
        self.random = generator.random
        self.held_out_names = held_out_names
        self.names: list[str] = []
        self.combinations: list[tuple[str, str]] = []
        self.subject: Phrase | None = None
        """When set, what ``person`` and ``vehicle`` answer instead of drawing one."""

    def pick(self, items: Sequence[Item]) -> Item:
        """One of the items, all equally likely."""
        return items[int(self.random() * len(items))]

    def chance(self, probability: float) -> bool:
        """True with that probability."""
        return self.random() < probability

    def below(self, limit: int) -> int:
        """A whole number in 0..limit-1."""
        return int(self.random() * limit)

    def name(self, kind: str) -> str:
        """A name of that kind from this sentence's share of the names."""
        while True:
            middle = self.pick(names.MIDDLES) if kind == "given" or self.chance(0.75) else ""
            name = self.pick(names.STARTS) + middle + self.pick(names.ENDS[kind])
            if names.is_held_out(name) == self.held_out_names and name not in names.EXCLUDED:
                self.names.append(name)
                return name

    def noun(self, kinds: Sequence[str], verb: Verb | None) -> Noun:
        """A noun of one of the kinds; remembers its pairing with the verb."""
        chosen = self.pick(NOUNS[self.pick(kinds)])
        if verb is not None:
            self.combinations.append((verb.key, chosen.en))
        return chosen

    def adjective(self, chosen: Noun, likely: float, definite: bool, singular: bool) -> words.Adjective | None:
        """An adjective that goes with the noun, or None; remembers the pairing."""
        if self.random() >= likely:
            return None
        adjective = self.pick(words.ADJECTIVES[chosen.kind])
        english = adjective[0]
        if english in words.NEEDS_DEFINITE and not (definite and singular):
            return None
        self.combinations.append((english, chosen.en))
        return adjective


def article_a(following: str) -> str:
    """ "a" or "an", by the first letter's sound of what follows."""
    if following[0] in "aeiou" and not following.startswith(("used", "eu")):
        return "an"
    return "a"


def _singular(chosen: Noun, determiner: str, adjective: words.Adjective | None) -> Phrase:
    english = f"{adjective[0]} {chosen.en}" if adjective else chosen.en
    english = f"{article_a(english) if determiner == 'a' else determiner} {english}" if determiner else english
    stem = words.DETERMINERS_SINGULAR[determiner] if determiner else ""
    german = declined(stem, "", adjective, chosen.de.gender, chosen.de.singular)
    return Phrase(english, english, german, EN_THIRD, THIRD, determiner not in ("a", "no", "every", ""))


def _plural(chosen: Noun, determiner: tuple[str, str], adjective: words.Adjective | None, count: int) -> Phrase:
    name, stem = determiner
    shown, counted = _NUMBERS[count] if name == "number" else (name, "")
    english = " ".join(filter(None, (shown, adjective[0] if adjective else "", chosen.en_plural)))
    german = declined(stem, counted, adjective, PLURAL, chosen.de.plural)
    return Phrase(english, english, german, EN_PLURAL, MANY, stem in ("d", "dies", "mein", "unser", "Ihr"))


def mass_phrase(draw: Draw, chosen: Noun, likely: float = 0.5) -> Phrase:
    """A noun with no article: "cold milk", "kalte Milch"."""
    return _singular(chosen, "", draw.adjective(chosen, likely, False, True))


def noun_phrase(
    draw: Draw,
    kinds: Sequence[str],
    verb: Verb | None = None,
    *,
    determiners: Sequence[str] = _SINGULAR_WEIGHTED,
    plural: float = 0.25,
    adjective: float = 0.3,
    bare: bool = True,
) -> Phrase:
    """A phrase around a noun of one of the kinds. Nouns with no plural are taken in the singular, foods bare."""
    chosen = draw.noun(kinds, verb)
    if chosen.kind == "relative":
        determiners, plural = words.POSSESSIVES, 0.0
    elif chosen.kind in _PLACES:
        plural = 0.0
    if bare and chosen.kind in ("groceries", "drink", "sky") and draw.chance(0.6):
        return mass_phrase(draw, chosen)
    if chosen.de.plural[0] and draw.random() < plural:
        determiner = draw.pick(_PUBLIC_PLURALS if chosen.kind in _PUBLIC_KINDS else _PLURAL_DETERMINERS)
        adjunct = draw.adjective(chosen, adjective, determiner[1] == "d", False)
        return _plural(chosen, determiner, adjunct, draw.below(len(_NUMBERS)))
    if determiners is _SINGULAR_WEIGHTED and chosen.kind in _PUBLIC_KINDS:
        determiners = _PUBLIC
    determiner = draw.pick(determiners)
    if chosen.kind in ("groceries", "drink", "sky") and determiner in ("a", "every", "no"):
        determiner = "the"
    likely = 1.6 * adjective if determiner == "a" else adjective
    return _singular(chosen, determiner, draw.adjective(chosen, likely, determiner == "the", True))


def the(chosen: Noun, adjective: words.Adjective | None = None) -> Phrase:
    """The noun with its definite article, and an adjective if given."""
    return _singular(chosen, "the", adjective)


def object_phrase(draw: Draw, kinds: Sequence[str], verb: Verb, definite: bool = False) -> Phrase:
    """An object: like ``noun_phrase`` with more indefinite articles, or only definite ones (for "nicht")."""
    if definite:
        return noun_phrase(draw, kinds, verb, determiners=_DEFINITE_ONLY, plural=0.0)
    return noun_phrase(draw, kinds, verb, determiners=_OBJECT_WEIGHTED)


def uninflected(text: str) -> tuple[str, str, str]:
    """The same form in every case."""
    return text, text, text


def person_name(draw: Draw) -> Phrase:
    """A person by name: a given name, or a title and a surname (Herr is a weak noun)."""
    roll = draw.random()
    if roll < 0.35:
        name = draw.name("given")
        return Phrase(name, name, uninflected(name))
    name = draw.name("surname")
    if roll < 0.6:
        return Phrase(f"Mr {name}", f"Mr {name}", (f"Herr {name}", f"Herrn {name}", f"Herrn {name}"))
    title, german = ("Mrs", "Frau") if roll < 0.85 else ("Dr", "Dr.")
    return Phrase(f"{title} {name}", f"{title} {name}", uninflected(f"{german} {name}"))


def person(
    draw: Draw, verb: Verb | None = None, named: float = 0.3, pronoun: float = 0.22, adjective: float = 0.3
) -> Phrase:
    """A person as subject: by name, pronoun, or noun; relatives only with a possessive."""
    if draw.subject is not None:
        return draw.subject
    roll = draw.random()
    if roll < named:
        return person_name(draw)
    if roll < named + pronoun:
        return draw.pick(_SUBJECTS)
    if roll < named + pronoun + 0.1:
        return noun_phrase(draw, ("relative",), verb, determiners=words.POSSESSIVES, plural=0.0, adjective=adjective)
    return noun_phrase(draw, ("person",), verb, adjective=adjective)


def somebody(draw: Draw, verb: Verb, definite: bool = False) -> Phrase:
    """A person as object: by name or noun."""
    roll = draw.random()
    if roll < 0.3:
        return person_name(draw)
    if roll < 0.5:
        return noun_phrase(draw, ("relative",), verb)
    return object_phrase(draw, ("person",), verb, definite)


def vehicle(draw: Draw, verb: Verb | None = None, adjective: float = 0.3) -> Phrase:
    """A vehicle: with a number, or a noun phrase that may say where it comes from or goes."""
    if draw.subject is not None:
        return draw.subject
    if draw.chance(0.14):
        count = draw.below(98) + 2
        english, *articles, german = draw.pick(ROWS["numbered"])
        nominative, accusative, dative = (f"{article} {german} {count}" for article in articles)
        return Phrase(f"{english} {count}", f"{english} {count}", (nominative, accusative, dative))
    phrase = noun_phrase(draw, ("vehicle",), verb, adjective=adjective)
    if draw.chance(0.36):
        english, german = ("to", "nach") if draw.chance(0.65) else ("from", "aus")
        city = draw.name("place")
        shown = f"{phrase.en} {english} {city}"
        nominative, accusative, dative = (f"{form} {german} {city}" for form in phrase.de)
        return phrase._replace(en=shown, en_object=shown, de=(nominative, accusative, dative))
    return phrase


def prepositional(preposition: str, phrase: Phrase, case: int | None = None) -> str:
    """German preposition and noun phrase in the preposition's case (or, for the two-way ones, the one asked for)."""
    needed = PREPOSITION_CASE.get(preposition, case)
    if needed is None or (case is not None and needed != case):
        raise ValueError(f"{preposition} with case {case}")
    return contract(preposition, phrase.de[needed])


def place_phrase(draw: Draw, kinds: Sequence[str]) -> tuple[Noun, Phrase]:
    """A common noun for a place, mostly with the definite article."""
    chosen = draw.noun(kinds, None)
    determiner = draw.pick(_PLACE_DETERMINERS) if chosen.de.plural[0] else "the"
    return chosen, _singular(chosen, determiner, draw.adjective(chosen, 0.2, determiner == "the", True))


def where(
    draw: Draw, kinds: Sequence[str] = ("site", "shop", "area", "seaside"), city: float = 0.45, rank: int = R.PLACE
) -> Part:
    """Where something is or happens: in a named town, at a place, or beside one (dative)."""
    roll = draw.random()
    if roll < city:
        name = draw.name("place")
        return Part(f"in {name}", f"in {name}", E.PLACE, rank, True)
    chosen, phrase = place_phrase(draw, kinds)
    if roll < city + 0.15 and chosen.kind in ("site", "shop"):
        english, german = draw.pick(words.PAIRS["near"])
        return Part(f"{english} {phrase.en}", prepositional(german, phrase, 2), E.PLACE, rank, True)
    english, german = chosen.place
    return Part(f"{english} {phrase.en}", prepositional(german, phrase, 2), E.PLACE, rank, True)


def going(draw: Draw, far: bool) -> Part:
    """The goal of a journey: a named town; or of a walk: "to the museum" → "zum Museum"."""
    if far:
        name = draw.name("place")
        return Part(f"to {name}", f"nach {name}", E.GOAL, R.GOAL)
    _, phrase = place_phrase(draw, ("site", "shop"))
    return Part(f"to {phrase.en}", prepositional("zu", phrase), E.GOAL, R.GOAL)


BY = tuple(
    (f"by {noun(name).en}", "mit " + the(noun(name)).de[2])
    for name in ("train", "bus", "tram", "ferry", "bicycle", "ship", "night train", "coach")
)
"""Means of travel."""
