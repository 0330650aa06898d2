"""Frames of timetables, disruptions and journeys. A frame makes a clause without tense, time and negation."""

from seqlib.problems.bulletin.clause import Clause, E, Part, Phrase, R
from seqlib.problems.bulletin.german import ACC, DAT
from seqlib.problems.bulletin.numbers import number
from seqlib.problems.bulletin.phrases import BY, Draw, going, noun_phrase, person, prepositional, vehicle, where
from seqlib.problems.bulletin.verbs import PREPOSITIONAL, VERBS
from seqlib.problems.bulletin.words import PAIRS, POSSESSIVES, STATES

TRAVELLER_MODALS = ("can", "must", "should", "may", "will", "would like to", "want to")


def cause(draw: Draw) -> Part:
    """ "because of the storm" → "wegen des Sturms"."""
    english, german = draw.pick(PAIRS["causes"])
    return Part(f"because of {english}", f"wegen {german}", E.CAUSE, R.CAUSE, True)


def _on_rails(subject: Phrase) -> bool:
    return any(word in subject.en for word in ("train", "tram", "line"))


def _platform(draw: Draw, english: str, german: str) -> Part:
    track = draw.below(24) + 1
    return Part(f"{english} platform {track}", f"{german} Gleis {track}", E.PLACE, R.SITE)


def depart(draw: Draw) -> Clause:
    """The train departs from platform 4."""
    action = VERBS["depart"]
    clause = Clause(vehicle(draw, action), action, modals=("will", "can", "must"), times="habit")
    if _on_rails(clause.subject) and draw.chance(0.7):
        clause.parts.append(_platform(draw, "from", "von"))
    elif draw.chance(0.3):
        clause.parts.append(where(draw, ("site",)))
    return clause


def arrive(draw: Draw) -> Clause:
    """The bus arrives in Lomburg."""
    action = VERBS["arrive"]
    if draw.chance(0.35):
        clause = Clause(person(draw, action), action, modals=("will", "should"))
    else:
        clause = Clause(vehicle(draw, action), action, modals=("will", "should"), times="habit")
    if _on_rails(clause.subject) and draw.chance(0.45):
        clause.parts.append(_platform(draw, "on", "auf"))
    elif draw.chance(0.65):
        clause.parts.append(where(draw, ("site",), rank=R.SITE))
    return clause


def stop(draw: Draw) -> Clause:
    """The tram stops at the bridge."""
    subject = vehicle(draw, VERBS["stop"])
    parts = [where(draw, ("site",), city=0.55, rank=R.SITE)]
    return Clause(subject, VERBS["stop"], parts, modals=("will", "must", "can"), times="habit")


def run(draw: Draw) -> Clause:
    """The bus runs from Lomburg to Mirafeld, or through the valley."""
    subject, roll = vehicle(draw, VERBS["run"]), draw.random()
    if roll < 0.45:
        first, last = draw.name("place"), draw.name("place")
        goal = Part(f"from {first} to {last}", f"von {first} nach {last}", E.GOAL, R.GOAL)
    elif roll < 0.75:
        through = noun_phrase(draw, ("area",), VERBS["run"], plural=0.0, determiners=("the",))
        goal = Part(f"through {through.en}", prepositional("durch", through), E.GOAL, R.GOAL)
    else:
        goal = going(draw, far=True)
    return Clause(subject, VERBS["run"], [goal], modals=("will", "can"), times="range")


def cancelled(draw: Draw) -> Clause:
    """The ferry is cancelled because of the fog."""
    subject = vehicle(draw, VERBS["be_cancelled"])
    return Clause(subject, VERBS["be_cancelled"], [cause(draw)] if draw.chance(0.4) else [], modals=("will",))


def late(draw: Draw) -> Clause:
    """The train is twenty minutes late."""
    subject = vehicle(draw, VERBS["be_late"])
    english, german = number(draw.below(98) + 2)
    english, german = ("an hour", "eine Stunde") if draw.chance(0.15) else (f"{english} minutes", f"{german} Minuten")
    parts = [Part(f"{english} late", f"{german} Verspätung", E.STATE, R.OBJECT)]
    if draw.chance(0.25):
        parts.append(cause(draw))
    return Clause(subject, VERBS["be_late"], parts, modals=("will",), negatable=False)


def carry_on(draw: Draw) -> Clause:
    """The coach continues to Lomburg."""
    subject = vehicle(draw, VERBS["continue"])
    return Clause(subject, VERBS["continue"], [going(draw, far=True)], modals=("will", "can"))


def turn_back(draw: Draw) -> Clause:
    """The ship turns back at the border."""
    subject = vehicle(draw, VERBS["turn_back"])
    parts = [where(draw, ("site",), rank=R.SITE) if draw.chance(0.6) else cause(draw)]
    return Clause(subject, VERBS["turn_back"], parts, modals=("will", "must", "should"))


def state(draw: Draw) -> Clause:
    """The road is closed; the bus is full; the museum is open."""
    kind = draw.pick(tuple(STATES))
    subject = vehicle(draw, adjective=0.0) if kind == "vehicle" else noun_phrase(draw, (kind,), adjective=0.0)
    english, german = draw.pick(STATES[kind])
    draw.combinations.append((english, subject.en.split()[-1]))
    clause = Clause(subject, VERBS["be"], [Part(english, german, E.STATE, R.STATE)], times="state")
    if kind != "vehicle" and german in ("blockiert", "geschlossen") and draw.chance(0.4):
        clause.parts.append(cause(draw))
    return clause


def compare(draw: Draw) -> Clause:
    """The bus is cheaper than the train."""
    kind = draw.pick(("vehicle", "shop", "clothing", "device"))
    english, german = draw.pick(PAIRS["comparatives"][:8] if kind == "vehicle" else PAIRS["comparatives"][1:9])
    determiners = ("the", "this") if kind in ("vehicle", "shop") else ("the", "this", *POSSESSIVES)
    subject, other = (noun_phrase(draw, (kind,), determiners=determiners, plural=0.0, adjective=0.0) for _ in range(2))
    text = Part(f"{english} than {other.en}", f"{german} als {other.de[0]}", E.STATE, R.STATE)
    return Clause(subject, VERBS["be"], [text], times="none", modals=())


def go_far(draw: Draw) -> Clause:
    """Mrs Keller travels to Lomburg by train: "fährt mit dem Zug nach Lomburg"."""
    goal, action = [going(draw, far=True)], VERBS["travel"]
    clause = Clause(person(draw, action), action, goal, modals=TRAVELLER_MODALS, times="habit")
    if draw.chance(0.6):
        clause.parts.append(Part(*draw.pick(BY), E.MANNER, R.MANNER))
    return clause


def go_near(draw: Draw) -> Clause:
    """The child goes to the museum."""
    who = person(draw, VERBS["go"])
    return Clause(who, VERBS["go"], [going(draw, far=False)], modals=TRAVELLER_MODALS, times="habit")


def change(draw: Draw) -> Clause:
    """We change trains in Lomburg; the guest gets on at the main station; I get off near the church."""
    action = draw.pick((VERBS["change"], VERBS["get_on"], VERBS["get_off"]))
    clause = Clause(person(draw, action), action, modals=TRAVELLER_MODALS, times="habit")
    if action is VERBS["get_on"] and draw.chance(0.5):
        into = noun_phrase(draw, ("vehicle",), action, determiners=("the", "the", "this", "a"), plural=0.0)
        clause.parts.append(Part(into.en, prepositional("in", into, ACC), E.OBJECT, R.GOAL))
    if draw.chance(0.75):
        clause.parts.append(where(draw, ("site",), rank=R.SITE))
    return clause


def with_vehicle(draw: Draw) -> Clause:
    """The tourist waits for the bus: verbs with a prepositional object that is a vehicle."""
    action, preposition, case = PREPOSITIONAL[0]
    goal = noun_phrase(draw, ("vehicle",), action, determiners=("the", "the", "this", "a", "our"))
    part = Part(goal.en, prepositional(preposition, goal, case), E.OBJECT, R.GOAL)
    clause = Clause(person(draw, action), action, [part], modals=TRAVELLER_MODALS)
    if draw.chance(0.4):
        clause.parts.append(where(draw, ("site",)))
    return clause


def put(draw: Draw) -> Clause:
    """I put the suitcase under the table (accusative); the suitcase is under the table (dative)."""
    english, german = draw.pick(PAIRS["put_where"])
    kinds = ("furniture",) if german in ("unter", "hinter") else ("furniture", "opening")
    at = noun_phrase(draw, kinds, determiners=("the", "the", "my", "your"), plural=0.0)
    if draw.subject is not None or draw.chance(0.5):
        action = VERBS["put"]
        thing = noun_phrase(draw, ("luggage",), action, determiners=("the", "the", "a", "my"), plural=0.1)
        goal = Part(f"{english} {at.en}", prepositional(german, at, ACC), E.GOAL, R.GOAL)
        who, parts = person(draw, action), [Part(thing.en, thing.de[ACC], E.OBJECT, R.OBJECT), goal]
        return Clause(who, action, parts, modals=TRAVELLER_MODALS, negatable=thing.definite)
    thing = noun_phrase(draw, ("luggage",), VERBS["stand"], determiners=("the", "the", "this", "my"), plural=0.1)
    part = Part(f"{english} {at.en}", prepositional(german, at, DAT), E.PLACE, R.SITE)
    return Clause(thing, VERBS["stand"], [part], modals=("can", "must"))
