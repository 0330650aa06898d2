"""Frames of appointments, errands and shopping."""

from __future__ import annotations

from seqlib.problems.bulletin import numbers, verbs, words
from seqlib.problems.bulletin.clause import (
    E_GOAL,
    E_MANNER,
    E_OBJECT,
    E_STATE,
    E_TO,
    EN_THIRD,
    PRONOUNS,
    R_DATIVE,
    R_GOAL,
    R_MANNER,
    R_OBJECT,
    R_PRONOUN,
    R_SITE,
    R_STATE,
    Clause,
    Part,
    Phrase,
)
from seqlib.problems.bulletin.german import ACC, DAT, THIRD
from seqlib.problems.bulletin.nouns import NOUNS
from seqlib.problems.bulletin.phrases import (
    Draw,
    noun_phrase,
    object_phrase,
    person,
    prepositional,
    somebody,
    uninflected,
    where,
)
from seqlib.problems.bulletin.transport import TRAVELLER_MODALS, cause

_EVENTS = ("event", "session")
_EVENT_DETERMINERS = ("the", "the", "the", "this", "our", "my", "your")
_VESSELS = (
    ("bottle", "bottles", "eine Flasche", "Flaschen"),
    ("cup", "cups", "eine Tasse", "Tassen"),
    ("glass", "glasses", "ein Glas", "Gläser"),
)


def measured(draw: Draw) -> Phrase:
    """An amount, accusative: "a cup of tea", "two kilos of apples" → "zwei Kilo Äpfel", "200 grams of cheese"."""
    count_en, count_de = numbers.number(draw.below(11) + 2)
    roll = draw.random()
    if roll < 0.4:
        food = draw.pick(NOUNS["food"])
        one, many = (f"a kilo of {food.en_plural}", f"ein Kilo {food.de.plural[0]}"), food.de.plural[0]
        several = f"{count_en} kilos of {food.en_plural}", f"{count_de} Kilo {many}"
    elif roll < 0.75:
        drink = draw.pick(NOUNS["drink"])
        vessel = draw.pick(_VESSELS)
        one = f"a {vessel[0]} of {drink.en}", f"{vessel[2]} {drink.de.singular[0]}"
        several = f"{count_en} {vessel[1]} of {drink.en}", f"{count_de} {vessel[3]} {drink.de.singular[0]}"
    else:
        food = draw.pick(NOUNS["groceries"])
        grams = (draw.below(9) + 1) * 100
        one = several = f"{grams} grams of {food.en}", f"{grams} Gramm {food.de.singular[0]}"
    english, german = one if draw.chance(0.4) else several
    return Phrase(english, english, uninflected(german), EN_THIRD, THIRD, False)


def _pronoun(draw: Draw, subject: Phrase) -> Phrase | None:
    """An object pronoun that cannot be the subject itself, or None."""
    chosen = draw.pick(PRONOUNS)
    group = PRONOUNS[:2] if subject in PRONOUNS[:2] else PRONOUNS[3:] if subject in PRONOUNS[3:] else (subject,)
    return None if chosen in group else chosen


def transitive(draw: Draw) -> Clause:
    """Somebody does something to a thing, an event or a person."""
    action = draw.pick(verbs.TRANSITIVE)
    modals = ("will",) if action.key in verbs.UNASKED else TRAVELLER_MODALS
    clause = Clause(person(draw, action), action, modals=modals)
    human = action.kinds[0] == "person"
    if human and not action.tail and draw.chance(0.2):
        pronoun = _pronoun(draw, clause.subject)
        if pronoun:
            clause.parts.append(Part(pronoun.en_object, pronoun.de[ACC], E_OBJECT, R_PRONOUN))
            return clause
    if human and draw.chance(0.6):
        thing = somebody(draw, action)
    elif action in verbs.TRANSITIVE[:4] and draw.chance(0.3):
        thing = measured(draw)
    else:
        thing = object_phrase(draw, action.kinds, action, draw.chance(0.25))
    clause.negatable = thing.definite
    clause.parts.append(Part(thing.en_object, thing.de[ACC], E_OBJECT, R_OBJECT))
    if draw.chance(0.12):
        clause.parts.append(where(draw, ("shop", "site")))
    return clause


def dative(draw: Draw) -> Clause:
    """The guest helps the child: "hilft dem Kind"."""
    action = draw.pick(verbs.DATIVE)
    clause = Clause(person(draw, action), action, modals=TRAVELLER_MODALS)
    pronoun = _pronoun(draw, clause.subject) if draw.chance(0.25) else None
    if pronoun:
        clause.parts.append(Part(pronoun.en_object, pronoun.de[DAT], E_OBJECT, R_PRONOUN))
        return clause
    whom = somebody(draw, action)
    clause.negatable = whom.definite
    clause.parts.append(Part(whom.en_object, whom.de[DAT], E_OBJECT, R_DATIVE))
    return clause


def ditransitive(draw: Draw) -> Clause:
    """She shows the ticket to the driver: "zeigt dem Fahrer die Fahrkarte"."""
    action = draw.pick(verbs.DITRANSITIVE)
    clause = Clause(person(draw, action), action, modals=TRAVELLER_MODALS)
    thing = object_phrase(draw, action.kinds, action, draw.chance(0.3))
    clause.negatable = thing.definite
    clause.parts.append(Part(thing.en_object, thing.de[ACC], E_OBJECT, R_OBJECT))
    pronoun = _pronoun(draw, clause.subject) if draw.chance(0.25) else None
    if pronoun:
        clause.parts.append(Part(f"to {pronoun.en_object}", pronoun.de[DAT], E_TO, R_PRONOUN))
    else:
        whom = somebody(draw, action)
        clause.negatable = clause.negatable and whom.definite
        clause.parts.append(Part(f"to {whom.en_object}", whom.de[DAT], E_TO, R_DATIVE))
    return clause


def prepositional_object(draw: Draw) -> Clause:
    """The boy takes part in the course: "nimmt am Kurs teil"."""
    action, preposition, case = draw.pick(verbs.PREPOSITIONAL)
    clause = Clause(person(draw, action), action, modals=TRAVELLER_MODALS)
    if action.kinds[0] == "person" and draw.chance(0.6):
        goal = somebody(draw, action)
    else:
        kind = draw.pick(action.kinds)
        goal = noun_phrase(draw, (kind,), action, determiners=("the", "the", "a", "this", "our", "your"), plural=0.3)
    clause.negatable = goal.definite
    clause.parts.append(Part(goal.en_object, prepositional(preposition, goal, case), E_OBJECT, R_GOAL))
    return clause


def event(draw: Draw) -> Clause:
    """The concert begins, ends, takes place, is cancelled."""
    action = draw.pick((verbs.BEGIN, verbs.END, verbs.TAKE_PLACE, verbs.TAKE_PLACE, verbs.BE_CANCELLED))
    subject = noun_phrase(draw, _EVENTS, action)
    clause = Clause(subject, action, modals=("will", "can", "should", "must"))
    if action is verbs.BE_CANCELLED:
        clause.modals = ("will",)
        if draw.chance(0.4):
            clause.parts.append(cause(draw))
    elif draw.chance(0.35 if action is verbs.TAKE_PLACE else 0.15):
        clause.parts.append(where(draw, ("shop",), rank=R_SITE))
    return clause


def duration(draw: Draw) -> Clause:
    """The lecture lasts two hours."""
    subject = noun_phrase(draw, _EVENTS, verbs.LAST, determiners=_EVENT_DETERMINERS, plural=0.0, adjective=0.5)
    english, german = numbers.number(draw.below(11) + 2)
    unit_en, unit_de = draw.pick((("hours", "Stunden"), ("minutes", "Minuten"), ("days", "Tage")))
    if unit_en == "minutes":
        english, german = numbers.number((draw.below(11) + 1) * 5)
    text = Part(f"{english} {unit_en}", f"{german} {unit_de}", E_OBJECT, R_OBJECT)
    if draw.chance(0.15):
        text = Part("an hour", "eine Stunde", E_OBJECT, R_OBJECT)
    return Clause(subject, verbs.LAST, [text], modals=("will", "can"), times="none", negatable=False)


def postpone(draw: Draw) -> Clause:
    """The boss postpones the meeting to Friday: "auf Freitag"."""
    action = verbs.TRANSITIVE_BY_KEY["postpone"]
    thing = noun_phrase(draw, _EVENTS, action, determiners=_EVENT_DETERMINERS, plural=0.1)
    english, german = draw.pick(words.DAYS)
    parts = [Part(thing.en, thing.de[ACC], E_OBJECT, R_OBJECT), Part(f"to {english}", f"auf {german}", E_GOAL, R_GOAL)]
    return Clause(person(draw, action), action, parts, modals=TRAVELLER_MODALS, times="none", negatable=False)


def invite(draw: Draw) -> Clause:
    """We invite Mr Dorner to the party: "laden Herrn Dorner zur Party ein"."""
    action = verbs.TRANSITIVE_BY_KEY["invite"]
    clause = Clause(person(draw, action), action, modals=TRAVELLER_MODALS)
    whom = somebody(draw, action)
    what = noun_phrase(draw, ("event",), None, determiners=("the", "the", "our"), plural=0.0, adjective=0.1)
    clause.negatable = whom.definite
    clause.parts.append(Part(whom.en_object, whom.de[ACC], E_OBJECT, R_OBJECT))
    clause.parts.append(Part(f"to {what.en}", prepositional("zu", what), E_GOAL, R_GOAL))
    return clause


def have(draw: Draw) -> Clause:
    """The guest has an appointment with the doctor; she has no tickets."""
    clause = Clause(person(draw, verbs.HAVE), verbs.HAVE, modals=("will", "must", "want to"), negatable=False)
    what = noun_phrase(draw, ("session",), verbs.HAVE, determiners=("a", "a", "no"), plural=0.0)
    clause.parts.append(Part(what.en, what.de[ACC], E_OBJECT, R_OBJECT))
    if draw.chance(0.45):
        with_whom = somebody(draw, verbs.HAVE)
        clause.parts.append(Part(f"with {with_whom.en_object}", prepositional("mit", with_whom), E_MANNER, R_MANNER))
    return clause


def opens(draw: Draw) -> Clause:
    """The library opens at half past six."""
    action = draw.pick((verbs.OPEN, verbs.CLOSE))
    subject = noun_phrase(draw, ("shop",), action)
    clause = Clause(subject, action, modals=("will", "can", "must"), times="range")
    if draw.chance(0.3):
        clause.parts.append(where(draw, ("area",), city=0.7))
    return clause


def _price(draw: Draw, limit: int) -> tuple[str, str]:
    if draw.chance(0.4):
        return numbers.price_words(draw.below(limit) + 1)
    return numbers.price_digits(draw.below(limit) + 2, draw.pick((0, 0, 20, 50, 80, 90, 95, 99)))


_PRICED = ("clothing", "luggage", "paper", "reading", "thing", "device", "furniture", "item")


def cost(draw: Draw, bare: bool = True) -> Clause:
    """The red jacket costs 45 euros; the apples cost 3.50 euros. ``bare`` allows "ham costs"."""
    small = draw.chance(0.4)
    kinds = ("food", "groceries", "drink") if small else _PRICED
    subject = noun_phrase(draw, kinds, verbs.COST, determiners=("the", "the", "this", "a", "your"), bare=bare)
    english, german = _price(draw, 18 if small else 99)
    parts = [Part(english, german, E_OBJECT, R_OBJECT)]
    return Clause(subject, verbs.COST, parts, modals=("will",), times="none", negatable=False)


def belong(draw: Draw) -> Clause:
    """The suitcase belongs to the doctor: "gehört dem Arzt"."""
    subject = noun_phrase(
        draw, ("clothing", "luggage", "paper", "reading", "thing"), verbs.BELONG, determiners=("the", "this")
    )
    whom = somebody(draw, verbs.BELONG)
    part = Part(f"to {whom.en_object}", whom.de[DAT], E_OBJECT, R_DATIVE)
    return Clause(subject, verbs.BELONG, [part], modals=(), times="none", negatable=whom.definite)


def like(draw: Draw) -> Clause:
    """The guest likes the hotel: "Das Hotel gefällt dem Gast", subject and object exchanged."""
    kinds = ("clothing", "luggage", "reading", "furniture", "device", "shop", "event", "area", "seaside", "item")
    thing = noun_phrase(draw, kinds, verbs.LIKE, determiners=("the", "the", "this", "my", "our", "your"))
    who = person(draw, verbs.LIKE)
    rank = R_PRONOUN if who in PRONOUNS else R_DATIVE
    # The English object has no German counterpart of its own, nor the German dative an English one.
    parts = [Part(thing.en_object, "", E_OBJECT, R_OBJECT), Part("", who.de[DAT], E_OBJECT, rank)]
    return Clause(
        who, verbs.LIKE, parts, german_subject=thing, modals=("will",), times="none", negatable=thing.definite
    )


def there_is(draw: Draw) -> Clause:
    """There is a pharmacy next to the station: "es gibt neben dem Bahnhof eine Apotheke" (accusative)."""
    kind = draw.pick(("shop", "site", "event"))
    what = noun_phrase(draw, (kind,), verbs.THERE_IS, determiners=("a", "a", "a", "no"), plural=0.0)
    subject = Phrase("there", "there", ("es", "es", "es"), what.en_agreement, THIRD, False)
    parts = [Part(what.en, what.de[ACC], E_OBJECT, R_STATE), where(draw)]
    times = "any" if kind == "event" else "none"
    return Clause(subject, verbs.THERE_IS, parts, modals=("will",), times=times, negatable=False)


def live(draw: Draw) -> Clause:
    """She lives in Lomburg; the doctor works next to the station; we stay in the hotel."""
    action = draw.pick((verbs.LIVE, verbs.WORK, verbs.STAY))
    clause = Clause(person(draw, action), action, modals=TRAVELLER_MODALS)
    if action is verbs.STAY and draw.chance(0.5):
        clause.parts.append(Part("at home", "zu Hause", E_GOAL, R_GOAL))
    else:
        clause.parts.append(where(draw, ("shop", "area"), city=0.55, rank=R_SITE))
    return clause


_HUMAN_STATES = tuple((english, german) for english, german, _ in words.ADJECTIVES["person"] if english != "new")


def human_state(draw: Draw) -> Clause:
    """The driver is ill."""
    subject = person(draw, adjective=0.0)
    english, german = draw.pick(_HUMAN_STATES)
    draw.combinations.append((english, subject.en.split()[-1]))
    return Clause(subject, verbs.BE, [Part(english, german, E_STATE, R_STATE)], times="any")


FRAMES = (
    *(transitive,) * 16,
    *(dative,) * 3,
    *(ditransitive,) * 4,
    *(prepositional_object,) * 5,
    *(event,) * 5,
    *(duration,) * 2,
    *(postpone, invite),
    *(have,) * 2,
    *(opens,) * 3,
    *(cost,) * 5,
    *(belong, like, like),
    *(there_is,) * 2,
    *(live,) * 3,
    *(human_state,) * 2,
)
