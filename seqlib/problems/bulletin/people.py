"""Frames of appointments, errands and shopping."""

from seqlib.problems.bulletin import numbers, phrases, verbs
from seqlib.problems.bulletin.clause import EN_THIRD, PRONOUNS, Clause, E, Part, Phrase, R
from seqlib.problems.bulletin.german import ACC, DAT, THIRD
from seqlib.problems.bulletin.lexicon import ROWS
from seqlib.problems.bulletin.nouns import NOUNS
from seqlib.problems.bulletin.phrases import Draw, noun_phrase, person, prepositional, somebody, where
from seqlib.problems.bulletin.transport import TRAVELLER_MODALS, cause
from seqlib.problems.bulletin.verbs import VERBS
from seqlib.problems.bulletin.words import ADJECTIVES, PAIRS

_EVENTS = ("event", "session")
_EVENT_DETERMINERS = ("the", "the", "the", "this", "our", "my", "your")


def measured(draw: Draw) -> Phrase:
    """An amount, accusative: "a cup of tea", "two kilos of apples" → "zwei Kilo Äpfel", "200 grams of cheese"."""
    count_en, count_de = numbers.number(draw.below(11) + 2)
    roll = draw.random()
    if roll < 0.4:
        food = draw.pick(NOUNS["food"])
        what, was = food.en_plural, food.de.plural[0]
        one, several = ("a kilo", "ein Kilo"), (f"{count_en} kilos", f"{count_de} Kilo")
    elif roll < 0.75:
        drink = draw.pick(NOUNS["drink"])
        what, was = drink.en, drink.de.singular[0]
        vessel = draw.pick(ROWS["vessels"])
        one, several = (f"a {vessel[0]}", vessel[2]), (f"{count_en} {vessel[1]}", f"{count_de} {vessel[3]}")
    else:
        food = draw.pick(NOUNS["groceries"])
        what, was = food.en, food.de.singular[0]
        grams = (draw.below(9) + 1) * 100
        one = several = f"{grams} grams", f"{grams} Gramm"
    english, german = one if draw.chance(0.4) else several
    english = f"{english} of {what}"
    return Phrase(english, english, phrases.uninflected(f"{german} {was}"), EN_THIRD, THIRD, False)


def _pronoun(draw: Draw, subject: Phrase) -> Phrase | None:
    """An object pronoun that cannot be the subject itself, or None."""
    chosen = draw.pick(PRONOUNS)
    group = PRONOUNS[:2] if subject in PRONOUNS[:2] else PRONOUNS[3:] if subject in PRONOUNS[3:] else (subject,)
    return None if chosen in group else chosen


def _does(draw: Draw, action: verbs.Verb) -> Clause:
    """What somebody does, or can, must, would like to do."""
    return Clause(person(draw, action), action, modals=TRAVELLER_MODALS)


def transitive(draw: Draw) -> Clause:
    """Somebody does something to a thing, an event or a person."""
    action = draw.pick(verbs.TRANSITIVE)
    clause = _does(draw, action)
    if action.key in verbs.UNASKED:
        clause.modals = ("will",)
    human = action.kinds[0] == "person"
    if human and not action.tail and draw.chance(0.2):
        pronoun = _pronoun(draw, clause.subject)
        if pronoun:
            clause.parts.append(Part(pronoun.en_object, pronoun.de[ACC], E.OBJECT, R.PRONOUN))
            return clause
    if human and draw.chance(0.6):
        thing = somebody(draw, action)
    elif action in verbs.TRANSITIVE[:4] and draw.chance(0.3):
        thing = measured(draw)
    else:
        thing = phrases.object_phrase(draw, action.kinds, action, draw.chance(0.25))
    clause.negatable = thing.definite
    clause.parts.append(Part(thing.en_object, thing.de[ACC], E.OBJECT, R.OBJECT))
    if draw.chance(0.12):
        clause.parts.append(where(draw, ("shop", "site")))
    return clause


def _dative(draw: Draw, clause: Clause, to: str, rank: E) -> Clause:
    """Adds to whom: a pronoun, name or noun."""
    pronoun = _pronoun(draw, clause.subject) if draw.chance(0.25) else None
    whom = pronoun or somebody(draw, clause.verb)
    clause.negatable = clause.negatable and (pronoun is not None or whom.definite)
    german_rank = R.PRONOUN if pronoun else R.DATIVE
    clause.parts.append(Part(f"{to}{whom.en_object}", whom.de[DAT], rank, german_rank))
    return clause


def dative(draw: Draw) -> Clause:
    """The guest helps the child: "hilft dem Kind"."""
    return _dative(draw, _does(draw, draw.pick(verbs.DATIVE)), "", E.OBJECT)


def ditransitive(draw: Draw) -> Clause:
    """She shows the ticket to the driver: "zeigt dem Fahrer die Fahrkarte"."""
    action = draw.pick(verbs.DITRANSITIVE)
    clause = _does(draw, action)
    thing = phrases.object_phrase(draw, action.kinds, action, draw.chance(0.3))
    clause.negatable = thing.definite
    clause.parts.append(Part(thing.en_object, thing.de[ACC], E.OBJECT, R.OBJECT))
    return _dative(draw, clause, "to ", E.TO)


def prepositional_object(draw: Draw) -> Clause:
    """The boy takes part in the course: "nimmt am Kurs teil"."""
    action, preposition, case = draw.pick(verbs.PREPOSITIONAL)
    clause = _does(draw, action)
    if action.kinds[0] == "person" and draw.chance(0.6):
        goal = somebody(draw, action)
    else:
        kind = draw.pick(action.kinds)
        goal = noun_phrase(draw, (kind,), action, determiners=("the", "the", "a", "this", "our", "your"), plural=0.3)
    clause.negatable = goal.definite
    clause.parts.append(Part(goal.en_object, prepositional(preposition, goal, case), E.OBJECT, R.GOAL))
    return clause


def event(draw: Draw) -> Clause:
    """The concert begins, ends, takes place, is cancelled."""
    takes_place, cancelled = VERBS["take_place"], VERBS["be_cancelled"]
    action = draw.pick((VERBS["begin"], VERBS["end"], takes_place, takes_place, cancelled))
    clause = Clause(noun_phrase(draw, _EVENTS, action), action, modals=("will", "can", "should", "must"))
    if action is cancelled:
        clause.modals = ("will",)
        if draw.chance(0.4):
            clause.parts.append(cause(draw))
    elif draw.chance(0.35 if action is takes_place else 0.15):
        clause.parts.append(where(draw, ("shop",), rank=R.SITE))
    return clause


def duration(draw: Draw) -> Clause:
    """The lecture lasts two hours."""
    action = VERBS["last"]
    subject = noun_phrase(draw, _EVENTS, action, determiners=_EVENT_DETERMINERS, plural=0.0, adjective=0.5)
    english, german = numbers.number(draw.below(11) + 2)
    unit_en, unit_de = draw.pick(PAIRS["lengths"])
    if unit_en == "minutes":
        english, german = numbers.number((draw.below(11) + 1) * 5)
    text = Part(f"{english} {unit_en}", f"{german} {unit_de}", E.OBJECT, R.OBJECT)
    if draw.chance(0.15):
        text = Part("an hour", "eine Stunde", E.OBJECT, R.OBJECT)
    return Clause(subject, action, [text], modals=("will", "can"), times="none", negatable=False)


def postpone(draw: Draw) -> Clause:
    """The boss postpones the meeting to Friday: "auf Freitag"."""
    action = verbs.TRANSITIVE_BY_KEY["postpone"]
    thing = noun_phrase(draw, _EVENTS, action, determiners=_EVENT_DETERMINERS, plural=0.1)
    english, german = draw.pick(PAIRS["days"])
    parts = [Part(thing.en, thing.de[ACC], E.OBJECT, R.OBJECT), Part(f"to {english}", f"auf {german}", E.GOAL, R.GOAL)]
    return Clause(person(draw, action), action, parts, modals=TRAVELLER_MODALS, times="none", negatable=False)


def invite(draw: Draw) -> Clause:
    """We invite Mr Dorner to the party: "laden Herrn Dorner zur Party ein"."""
    action = verbs.TRANSITIVE_BY_KEY["invite"]
    clause = _does(draw, action)
    whom = somebody(draw, action)
    what = noun_phrase(draw, ("event",), determiners=("the", "the", "our"), plural=0.0, adjective=0.1)
    clause.negatable = whom.definite
    clause.parts.append(Part(whom.en_object, whom.de[ACC], E.OBJECT, R.OBJECT))
    clause.parts.append(Part(f"to {what.en}", prepositional("zu", what), E.GOAL, R.GOAL))
    return clause


def have(draw: Draw) -> Clause:
    """The guest has an appointment with the doctor; she has no tickets."""
    action = VERBS["have"]
    subject = person(draw, action)
    what = noun_phrase(draw, ("session",), action, determiners=("a", "a", "no"), plural=0.0)
    parts = [Part(what.en, what.de[ACC], E.OBJECT, R.OBJECT)]
    if draw.chance(0.45):
        whom = somebody(draw, action)
        parts.append(Part(f"with {whom.en_object}", prepositional("mit", whom), E.MANNER, R.MANNER))
    return Clause(subject, action, parts, modals=("will", "must", "want to"), negatable=False)


def opens(draw: Draw) -> Clause:
    """The library opens at half past six."""
    action = draw.pick((VERBS["open"], VERBS["close"]))
    subject = noun_phrase(draw, ("shop",), action)
    parts = [where(draw, ("area",), city=0.7)] if draw.chance(0.3) else []
    return Clause(subject, action, parts, modals=("will", "can", "must"), times="range")


def _price(draw: Draw, limit: int) -> tuple[str, str]:
    if draw.chance(0.4):
        return numbers.price_words(draw.below(limit) + 1)
    return numbers.price_digits(draw.below(limit) + 2, draw.pick((0, 0, 20, 50, 80, 90, 95, 99)))


_PRICED = ("clothing", "luggage", "paper", "reading", "thing", "device", "furniture", "item")


def cost(draw: Draw, bare: bool = True) -> Clause:
    """The red jacket costs 45 euros; the apples cost 3.50 euros. ``bare`` allows "ham costs"."""
    small = draw.chance(0.4)
    kinds = ("food", "groceries", "drink") if small else _PRICED
    subject = noun_phrase(draw, kinds, VERBS["cost"], determiners=("the", "the", "this", "a", "your"), bare=bare)
    parts = [Part(*_price(draw, 18 if small else 99), E.OBJECT, R.OBJECT)]
    return Clause(subject, VERBS["cost"], parts, modals=("will",), times="none", negatable=False)


def belong(draw: Draw) -> Clause:
    """The suitcase belongs to the doctor: "gehört dem Arzt"."""
    kinds, action = ("clothing", "luggage", "paper", "reading", "thing"), VERBS["belong"]
    subject = noun_phrase(draw, kinds, action, determiners=("the", "this"))
    whom = somebody(draw, action)
    part = Part(f"to {whom.en_object}", whom.de[DAT], E.OBJECT, R.DATIVE)
    return Clause(subject, action, [part], modals=(), times="none", negatable=whom.definite)


def like(draw: Draw) -> Clause:
    """The guest likes the hotel: "Das Hotel gefällt dem Gast", subject and object exchanged."""
    action = VERBS["like"]
    kinds = ("clothing", "luggage", "reading", "furniture", "device", "shop", "event", "area", "seaside", "item")
    thing = noun_phrase(draw, kinds, action, determiners=("the", "the", "this", "my", "our", "your"))
    who = person(draw, action)
    rank = R.PRONOUN if who in PRONOUNS else R.DATIVE
    # The English object has no German counterpart of its own, nor the German dative an English one.
    parts = [Part(thing.en_object, "", E.OBJECT, R.OBJECT), Part("", who.de[DAT], E.OBJECT, rank)]
    clause = Clause(who, action, parts, modals=("will",), times="none", negatable=thing.definite)
    clause.german_subject = thing
    return clause


def there_is(draw: Draw) -> Clause:
    """There is a pharmacy next to the station: "es gibt neben dem Bahnhof eine Apotheke" (accusative)."""
    kind, action = draw.pick(("shop", "site", "event")), VERBS["there_is"]
    what = noun_phrase(draw, (kind,), action, determiners=("a", "a", "a", "no"), plural=0.0)
    subject = Phrase("there", "there", ("es", "es", "es"), what.en_agreement, THIRD, False)
    parts = [Part(what.en, what.de[ACC], E.OBJECT, R.STATE), where(draw)]
    times = "any" if kind == "event" else "none"
    return Clause(subject, action, parts, modals=("will",), times=times, negatable=False)


def live(draw: Draw) -> Clause:
    """She lives in Lomburg; the doctor works next to the station; we stay in the hotel."""
    action = draw.pick((VERBS["live"], VERBS["work"], VERBS["stay"]))
    clause = _does(draw, action)
    if action is VERBS["stay"] and draw.chance(0.5):
        clause.parts.append(Part("at home", "zu Hause", E.GOAL, R.GOAL))
    else:
        clause.parts.append(where(draw, ("shop", "area"), city=0.55, rank=R.SITE))
    return clause


_HUMAN_STATES = tuple((english, german) for english, german, _ in ADJECTIVES["person"] if english != "new")


def human_state(draw: Draw) -> Clause:
    """The driver is ill."""
    subject = person(draw, adjective=0.0)
    english, german = draw.pick(_HUMAN_STATES)
    draw.combinations.append((english, subject.en.split()[-1]))
    return Clause(subject, VERBS["be"], [Part(english, german, E.STATE, R.STATE)], times="any")
