"""A clause as meaning: subject, verb, tense, complements; and its wording in English and in German.

German order: the finite verb second (first in questions, last in subordinate clauses), complements by rank, then the
separable prefix, participle or infinitive at the end.
"""

from dataclasses import dataclass, field
from enum import IntEnum
from operator import attrgetter, itemgetter
from typing import NamedTuple

from seqlib.problems.bulletin.german import FIRST, MANY, THIRD, modal
from seqlib.problems.bulletin.lexicon import ROWS
from seqlib.problems.bulletin.verbs import Verb

PRESENT, PAST = "present", "past"
EN_FIRST, EN_THIRD, EN_PLURAL = 0, 1, 2

_MODALS = {modal: (finite, before, german) for modal, finite, before, german in ROWS["modals"]}
"""Modal → (English finite form, what stands before the base form, German modal). "wants to" is made with do."""

R = IntEnum("R", "PRONOUN LIKELY OFTEN TIME CAUSE DATIVE OBJECT PLACE NOT MANNER SITE GOAL STATE", start=0)
"""German order of what follows finite verb and subject. A place that the verb asks for (SITE) comes after "nicht"."""
E = IntEnum("E", "OBJECT TO STATE GOAL MANNER PLACE TIME CAUSE", start=0)
"""English order of what follows the verb."""
_EN_RANK, _RANK = attrgetter("en_rank"), itemgetter(0)


class Phrase(NamedTuple):
    """A noun phrase: English subject and object forms, German forms by case, agreement of either language."""

    en: str
    en_object: str
    de: tuple[str, str, str]
    en_agreement: int = EN_THIRD
    de_agreement: int = THIRD
    definite: bool = True


class Part(NamedTuple):
    """A complement or adverbial with its place in either order. ``front`` lets it open a main clause."""

    en: str
    de: str
    en_rank: int
    de_rank: int
    front: bool = False


@dataclass(slots=True)
class Clause:
    """What is said. ``german_subject`` differs from ``subject`` where German turns the sentence round (gefallen)."""

    subject: Phrase
    verb: Verb
    parts: list[Part] = field(default_factory=list)
    tense: str = PRESENT
    modal: str = ""
    negative: bool = False
    adverb: Part | None = None
    german_subject: Phrase | None = None
    modals: tuple[str, ...] = ("will",)
    times: str = "any"
    """Which time adverbials fit: any, state (also "until Friday"), habit (also
    "on Mondays"), range (also "from Monday to Friday"), or none."""
    negatable: bool = True


def _english_verb(clause: Clause, ask: bool) -> tuple[str, str]:
    """Finite auxiliary ("" if none) and the lexical verb."""
    verb, agreement, past = clause.verb, clause.subject.en_agreement, clause.tense == PAST
    if clause.modal and clause.modal != "want to":
        finite, before, _ = _MODALS[clause.modal]
        return finite, before + verb.base
    if clause.modal:
        if ask or clause.negative:
            return "does" if agreement == EN_THIRD else "do", f"want to {verb.base}"
        return "", f"{'wants' if agreement == EN_THIRD else 'want'} to {verb.base}"
    if verb.be:
        if past:
            return "were" if agreement == EN_PLURAL else "was", ""
        return ("am", "is", "are")[agreement], ""
    if ask or clause.negative:
        return "did" if past else "does" if agreement == EN_THIRD else "do", verb.base
    return "", verb.past if past else verb.third if agreement == EN_THIRD else verb.base


def _english_parts(clause: Clause, without: Part | None) -> list[str]:
    parts = sorted((part for part in clause.parts if part is not without), key=_EN_RANK)
    return [part.en for part in parts]


def english(clause: Clause, *, ask: bool = False, without: Part | None = None, subject: bool = True) -> str:
    """The clause in English: statement or question order, without one fronted part, or without its subject."""
    finite, lexical = _english_verb(clause, ask)
    negation = "not" if clause.negative else ""
    if negation and finite == "can" and not ask:
        finite, negation = "cannot", ""
    who = clause.subject.en if subject else ""
    head = (finite, who, negation) if ask else (who, finite, negation)
    adverb = clause.adverb.en if clause.adverb else ""
    words = (*head, adverb, lexical, clause.verb.tail, *_english_parts(clause, without))
    return " ".join(word for word in words if word)


def english_base(clause: Clause) -> str:
    """Base form and what follows it: "buy the ticket tomorrow"."""
    return " ".join(word for word in (clause.verb.base, clause.verb.tail, *_english_parts(clause, None)) if word)


def _german_verb(clause: Clause) -> tuple[str, str, bool]:
    """Finite verb, what stands at the clause's end, and whether that is a prefix (written as one word when last)."""
    verb = clause.verb.de
    agreement = (clause.german_subject or clause.subject).de_agreement
    if clause.modal:
        name = "wollen" if clause.modal == "want to" else _MODALS[clause.modal][2]
        return modal(name)[agreement], verb.full_infinitive, False
    if clause.tense == PAST:
        if verb.preterite:
            return verb.preterite[agreement], verb.prefix, True
        return verb.auxiliary[agreement], verb.participle, False
    return verb.present[agreement], verb.prefix, True


def _german_middle(clause: Clause, without: Part | None = None) -> list[str]:
    parts = [(part.de_rank, part.de) for part in clause.parts if part is not without]
    if clause.adverb:
        parts.append((clause.adverb.de_rank, clause.adverb.de))
    if clause.negative:
        parts.append((R.NOT, "nicht"))
    parts.sort(key=_RANK)
    return [text for _, text in parts if text]


def german(clause: Clause, *, front: Part | None = None, ask: bool = False) -> str:
    """A main clause: verb second after subject or fronted part, verb first in a question."""
    subject = (clause.german_subject or clause.subject).de[0]
    finite, end, _ = _german_verb(clause)
    head = [finite, subject] if ask else [front.de, finite, subject] if front else [subject, finite]
    return " ".join(word for word in (*head, *_german_middle(clause, front), end) if word)


def german_after(clause: Clause) -> str:
    """A main clause after a subordinate one, which takes its first place: "..., fährt der Bus ab"."""
    return german(clause, ask=True)


def german_last(clause: Clause, without: Part | None = None) -> str:
    """A subordinate clause, finite verb last: "der Bus heute abfährt", "der Bus abgefahren ist"."""
    subject = (clause.german_subject or clause.subject).de[0]
    finite, end, is_prefix = _german_verb(clause)
    last = [end + finite] if is_prefix else [end, finite]
    return " ".join([subject, *_german_middle(clause, without), *last])


def german_more(clause: Clause) -> str:
    """A second predicate with the subject understood: "kommt um acht Uhr in Lomburg an"."""
    finite, end, _ = _german_verb(clause)
    return " ".join(word for word in (finite, *_german_middle(clause), end) if word)


def german_zu(clause: Clause) -> str:
    """Infinitive group: "die Fahrkarte mitzubringen"."""
    return " ".join([*_german_middle(clause), clause.verb.de.zu_infinitive])


def german_request(clause: Clause) -> str:
    """Polite imperative: "bringen Sie die Fahrkarte mit"."""
    verb = clause.verb.de
    words = (verb.present[MANY], "Sie", *_german_middle(clause), verb.prefix)
    return " ".join(word for word in words if word)


ICH = Phrase("I", "me", ("ich", "mich", "mir"), EN_FIRST, FIRST)
WIR = Phrase("we", "us", ("wir", "uns", "uns"), EN_PLURAL, MANY)
SIE = Phrase("you", "you", ("Sie", "Sie", "Ihnen"), EN_PLURAL, MANY)
ER = Phrase("he", "him", ("er", "ihn", "ihm"))
FRAU = Phrase("she", "her", ("sie", "sie", "ihr"))
ALLE = Phrase("they", "them", ("sie", "sie", "ihnen"), EN_PLURAL, MANY)
ES = Phrase("it", "it", ("es", "es", "ihm"))
PRONOUNS = (ICH, WIR, SIE, ER, FRAU, ALLE)
