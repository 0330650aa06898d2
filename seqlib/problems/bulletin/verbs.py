"""Verbs in both languages and the kinds of noun they take.

A line: English base/past|German as ``german_verb`` reads it|kinds; prepositional ones add |preposition|case.
"""

from typing import NamedTuple

from seqlib.problems.bulletin.german import GermanVerb, german_verb
from seqlib.problems.bulletin.lexicon import LEXICON
from seqlib.problems.bulletin.nouns import with_s


class Verb(NamedTuple):
    """A verb in both languages. ``tail`` follows the English verb ("cancelled" in "is cancelled"); ``be`` verbs
    have no do-support. ``kinds`` are the kinds of object (or, for verbs without one, of subject)."""

    base: str
    third: str
    past: str
    tail: str
    be: bool
    de: GermanVerb
    kinds: tuple[str, ...]

    @property
    def key(self) -> str:
        """What held-out combinations know the verb by."""
        return f"{self.base} {self.tail}".strip()


def _third(word: str) -> str:
    return {"go": "goes", "do": "does", "have": "has"}.get(word) or with_s(word)


def verb(english: str, german: str, kinds: str = "") -> Verb:
    """A verb from "pick/picked up" (or "be cancelled") and "ab+holen holt abgeholt h"."""
    head, _, rest = english.partition(" ")
    base, _, past = head.partition("/")
    return Verb(base, _third(base), past, rest, base == "be", german_verb(german), tuple(kinds.split()))


def _table(name: str) -> tuple[Verb, ...]:
    return tuple(verb(*line.split("|")) for line in LEXICON["verbs"][name].splitlines())


VERBS = {name: verb(*line.split("|")) for name, line in LEXICON["verbs"]["alone"].items()}
"""Verbs that frames ask for by name."""

TRANSITIVE = _table("transitive")
"""Verbs with an accusative object."""

DATIVE = _table("dative")
"""Verbs with a dative object."""

DITRANSITIVE = _table("ditransitive")
"""Verbs with an accusative thing and a dative person: English "the book to the woman"."""

PREPOSITIONAL = tuple(
    (verb(*head), preposition, int(case))
    for *head, preposition, case in (line.split("|") for line in LEXICON["verbs"]["prepositional"].splitlines())
)
"""(verb, German preposition, case) of verbs with a prepositional object."""

SAYING = _table("saying")
ASKING = _table("asking")
TRYING = _table("trying")
UNASKED = frozenset({"need", "lose", "miss", "see", "find"})
"""Verbs for what nobody is asked, or tries, to do."""

TRANSITIVE_BY_KEY = {entry.key: entry for entry in TRANSITIVE}
"""Verbs with an accusative object by their English base."""
