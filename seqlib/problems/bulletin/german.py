"""German morphology: articles, adjective endings, nouns, verbs, contractions. Tables only, no randomness.

Case is 0 nominative, 1 accusative, 2 dative. Gender is 0 masculine, 1 feminine, 2 neuter, 3 plural (of any gender).
"""

from typing import NamedTuple

from seqlib.problems.bulletin.lexicon import ROWS

NOM, ACC, DAT = 0, 1, 2
MASCULINE, FEMININE, NEUTER, PLURAL = 0, 1, 2, 3

DEFINITE = (("der", "die", "das", "die"), ("den", "die", "das", "die"), ("dem", "der", "dem", "den"))
"""Definite article by case and gender."""

STRONG = (("er", "e", "es", "e"), ("en", "e", "es", "e"), ("em", "er", "em", "en"))
"""Endings of dieser, jeder, welcher, and of an adjective with no article before it."""

EIN = (("", "e", "", "e"), ("en", "e", "", "e"), ("em", "er", "em", "en"))
"""Endings of ein, kein and the possessives."""

WEAK = (("e", "e", "e", "en"), ("en", "e", "e", "en"), ("en", "en", "en", "en"))
"""Adjective endings after the definite article, dieser, jeder and alle."""

MIXED = (("er", "e", "es", "en"), ("en", "e", "es", "en"), ("en", "en", "en", "en"))
"""Adjective endings after ein, kein and the possessives."""

_STEMS = {"dunkel": "dunkl", "teuer": "teur"}

_CONTRACTIONS = {(preposition, article): short for preposition, article, short in ROWS["contractions"]}

PREPOSITION_CASE = {
    **dict.fromkeys(("durch", "für", "gegen", "ohne", "um"), ACC),
    **dict.fromkeys(("aus", "bei", "mit", "nach", "seit", "von", "zu", "gegenüber"), DAT),
}
"""Prepositions of one case. The others (in, an, auf, vor, ...) take dative for a place, accusative for a direction."""

_MODALS = {verb: (first, third, many) for verb, first, third, many in ROWS["german_modals"]}

FIRST, THIRD, MANY = 0, 1, 2
"""Agreement of a finite verb: ich; er, sie, es; and the plural, which also serves wir and the polite Sie."""


def adjective_stem(adjective: str) -> str:
    """The form that endings join: teuer → teur-, müde → müd-, all others unchanged."""
    if adjective.endswith("e"):
        return adjective[:-1]
    return _STEMS.get(adjective, adjective)


def contract(preposition: str, phrase: str) -> str:
    """Preposition and noun phrase as written: in + dem Park → im Park, zu + der Post → zur Post."""
    first, _, rest = phrase.partition(" ")
    short = _CONTRACTIONS.get((preposition, first))
    return f"{short} {rest}" if short else f"{preposition} {phrase}"


_ARTICLES = {
    "d": (DEFINITE, WEAK),
    **dict.fromkeys(("dies", "jed", "all"), (STRONG, WEAK)),
    **dict.fromkeys(("", "viel", "einig"), (STRONG, STRONG)),
}
"""German determiner → its endings, and those of an adjective after it. All others go like ein."""


def declined(
    stem: str, counted: str, adjective: tuple[str, str, str] | None, gender: int, nouns: tuple[str, str, str]
) -> tuple[str, str, str]:
    """Determiner (or a number in its place), adjective and noun in the three cases; an adjective is its English and
    German form, and the stem that endings join."""
    articles, endings = _ARTICLES.get(stem, (EIN, MIXED))
    forms: list[str] = []
    for case, word in enumerate(nouns):
        article, ending = articles[case][gender], endings[case][gender]
        before = article if stem == "d" else stem + article if stem else counted
        middle = (adjective[2] if ending else adjective[1]) + ending if adjective else ""
        forms.append(" ".join(filter(None, (before, middle, word))))
    return forms[0], forms[1], forms[2]


class GermanNoun(NamedTuple):
    """A noun's gender and its forms: ``singular`` by case, ``plural`` by case (empty strings when it has none)."""

    gender: int
    singular: tuple[str, str, str]
    plural: tuple[str, str, str]


def german_noun(spec: str, plural: str, weak: bool = False) -> GermanNoun:
    """Noun from "der Zug" and its plural; a weak masculine has the plural's form in accusative and dative singular."""
    article, word = spec.split(" ", 1)
    oblique = plural if weak else word
    forms = ("", "", "") if plural in ("", "-") else (plural, plural, plural if plural[-1] in "ns" else f"{plural}n")
    return GermanNoun(("der", "die", "das").index(article), (word, oblique, oblique), forms)


class GermanVerb(NamedTuple):
    """A verb: separable prefix ("" if none), infinitive without it, present forms, participle, perfect auxiliary.

    ``preterite`` is set for the few verbs whose past is told in the preterite (sein, haben, geben); all others use
    the perfect.
    """

    prefix: str
    infinitive: str
    present: tuple[str, str, str]
    participle: str
    auxiliary: tuple[str, str, str]
    preterite: tuple[str, str, str] | None = None

    @property
    def full_infinitive(self) -> str:
        """With its prefix: abfahren."""
        return self.prefix + self.infinitive

    @property
    def zu_infinitive(self) -> str:
        """With zu, which goes between prefix and stem: zu kaufen, abzuholen."""
        return f"{self.prefix}zu{self.infinitive}" if self.prefix else f"zu {self.infinitive}"


HABEN = ("habe", "hat", "haben")
SEIN = ("bin", "ist", "sind")


def german_verb(spec: str) -> GermanVerb:
    """Verb from "ab+fahren fährt abgefahren s": infinitive, 3rd person (or all of "bin/ist/sind"), participle, h(aben)
    or s(ein), and where it has one the preterite, "war waren"."""
    infinitive, present, participle, auxiliary, *past = spec.split()
    prefix, _, base = infinitive.rpartition("+")
    stem = base[:-2] if base.endswith("en") else base[:-1]
    first, third, many = present.split("/") if "/" in present else (f"{stem}e", present, base)
    preterite = (past[0], past[0], past[1]) if past else None
    return GermanVerb(prefix, base, (first, third, many), participle, SEIN if auxiliary == "s" else HABEN, preterite)


def modal(verb: str) -> tuple[str, str, str]:
    """Finite forms of a modal or of werden, by agreement."""
    return _MODALS[verb]
