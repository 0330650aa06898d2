"""Frames of timetables, disruptions and journeys. A frame makes a clause without tense, time and negation."""

from __future__ import annotations

from seqlib.problems.bulletin import verbs, words
from seqlib.problems.bulletin.clause import (
    E_CAUSE,
    E_GOAL,
    E_MANNER,
    E_OBJECT,
    E_PLACE,
    E_STATE,
    R_CAUSE,
    R_GOAL,
    R_MANNER,
    R_OBJECT,
    R_SITE,
    R_STATE,
    Clause,
    Part,
    Phrase,
)
from seqlib.problems.bulletin.german import ACC, DAT
from seqlib.problems.bulletin.numbers import number
from seqlib.problems.bulletin.phrases import (
    BY,
    Draw,
    noun_phrase,
    person,
    prepositional,
    vehicle,
    where,
    whither_far,
    whither_near,
)

TRAVELLER_MODALS = ("can", "must", "should", "may", "will", "would like to", "want to")


def cause(draw: Draw) -> Part:
    """ "because of the storm" → "wegen des Sturms"."""
    english, german = draw.pick(words.CAUSES)
    return Part(f"because of {english}", f"wegen {german}", E_CAUSE, R_CAUSE, True)


def _on_rails(subject: Phrase) -> bool:
    return any(word in subject.en for word in ("train", "tram", "line"))


def _platform(draw: Draw, english: str, german: str) -> Part:
    track = draw.below(24) + 1
    return Part(f"{english} platform {track}", f"{german} Gleis {track}", E_PLACE, R_SITE)


def depart(draw: Draw) -> Clause:
    """The train departs from platform 4."""
    clause = Clause(vehicle(draw, verbs.DEPART), verbs.DEPART, modals=("will", "can", "must"), times="habit")
    if _on_rails(clause.subject) and draw.chance(0.7):
        clause.parts.append(_platform(draw, "from", "von"))
    elif draw.chance(0.3):
        clause.parts.append(where(draw, ("site",)))
    return clause


def arrive(draw: Draw) -> Clause:
    """The bus arrives in Lomburg."""
    if draw.chance(0.35):
        clause = Clause(person(draw, verbs.ARRIVE), verbs.ARRIVE, modals=("will", "should"))
    else:
        clause = Clause(vehicle(draw, verbs.ARRIVE), verbs.ARRIVE, modals=("will", "should"), times="habit")
    if _on_rails(clause.subject) and draw.chance(0.45):
        clause.parts.append(_platform(draw, "on", "auf"))
    elif draw.chance(0.65):
        clause.parts.append(where(draw, ("site",), rank=R_SITE))
    return clause


def stop(draw: Draw) -> Clause:
    """The tram stops at the bridge."""
    clause = Clause(vehicle(draw, verbs.STOP), verbs.STOP, modals=("will", "must", "can"), times="habit")
    clause.parts.append(where(draw, ("site",), city=0.55, rank=R_SITE))
    return clause


def run(draw: Draw) -> Clause:
    """The bus runs from Lomburg to Mirafeld, or through the valley."""
    clause = Clause(vehicle(draw, verbs.RUN), verbs.RUN, modals=("will", "can"), times="range")
    roll = draw.random()
    if roll < 0.45:
        first, last = draw.name("place"), draw.name("place")
        clause.parts.append(Part(f"from {first} to {last}", f"von {first} nach {last}", E_GOAL, R_GOAL))
    elif roll < 0.75:
        through = noun_phrase(draw, ("area",), verbs.RUN, plural=0.0, determiners=("the",))
        clause.parts.append(Part(f"through {through.en}", prepositional("durch", through), E_GOAL, R_GOAL))
    else:
        clause.parts.append(whither_far(draw))
    return clause


def cancelled(draw: Draw) -> Clause:
    """The ferry is cancelled because of the fog."""
    clause = Clause(vehicle(draw, verbs.BE_CANCELLED), verbs.BE_CANCELLED, modals=("will",))
    if draw.chance(0.4):
        clause.parts.append(cause(draw))
    return clause


def late(draw: Draw) -> Clause:
    """The train is twenty minutes late."""
    clause = Clause(vehicle(draw, verbs.BE_LATE), verbs.BE_LATE, modals=("will",), negatable=False)
    english, german = number(draw.below(98) + 2)
    if draw.chance(0.15):
        clause.parts.append(Part("an hour late", "eine Stunde Verspätung", E_STATE, R_OBJECT))
    else:
        clause.parts.append(Part(f"{english} minutes late", f"{german} Minuten Verspätung", E_STATE, R_OBJECT))
    if draw.chance(0.25):
        clause.parts.append(cause(draw))
    return clause


def carry_on(draw: Draw) -> Clause:
    """The coach continues to Lomburg."""
    clause = Clause(vehicle(draw, verbs.CONTINUE), verbs.CONTINUE, modals=("will", "can"))
    clause.parts.append(whither_far(draw))
    return clause


def turn_back(draw: Draw) -> Clause:
    """The ship turns back at the border."""
    clause = Clause(vehicle(draw, verbs.TURN_BACK), verbs.TURN_BACK, modals=("will", "must", "should"))
    clause.parts.append(where(draw, ("site",), rank=R_SITE) if draw.chance(0.6) else cause(draw))
    return clause


_STATES = {
    "way": "closed geschlossen, blocked blockiert, clear frei, closed geschlossen",
    "facility": "broken kaputt, out_of_order außer_Betrieb, dirty schmutzig",
    "vehicle": "full voll, empty leer, on_time pünktlich, crowded überfüllt, dirty schmutzig",
    "shop": "closed geschlossen, open geöffnet, crowded überfüllt, full voll, empty leer",
}
_STATE_PAIRS = {kind: words.pairs(text) for kind, text in _STATES.items()}


def state(draw: Draw) -> Clause:
    """The road is closed; the bus is full; the museum is open."""
    kind = draw.pick(("way", "facility", "vehicle", "shop"))
    subject = vehicle(draw, adjective=0.0) if kind == "vehicle" else noun_phrase(draw, (kind,), adjective=0.0)
    english, german = draw.pick(_STATE_PAIRS[kind])
    draw.combinations.append((english, subject.en.split()[-1]))
    clause = Clause(subject, verbs.BE, [Part(english, german, E_STATE, R_STATE)], times="state")
    if kind != "vehicle" and german in ("blockiert", "geschlossen") and draw.chance(0.4):
        clause.parts.append(cause(draw))
    return clause


def compare(draw: Draw) -> Clause:
    """The bus is cheaper than the train."""
    kind = draw.pick(("vehicle", "shop", "clothing", "device"))
    english, german = draw.pick(words.COMPARATIVES[:8] if kind == "vehicle" else words.COMPARATIVES[1:9])
    determiners = ("the", "this") if kind in ("vehicle", "shop") else ("the", "this", *words.POSSESSIVES)
    subject = noun_phrase(draw, (kind,), None, determiners=determiners, plural=0.0, adjective=0.0)
    other = noun_phrase(draw, (kind,), None, determiners=determiners, plural=0.0, adjective=0.0)
    text = Part(f"{english} than {other.en}", f"{german} als {other.de[0]}", E_STATE, R_STATE)
    return Clause(subject, verbs.BE, [text], times="none", modals=())


def go_far(draw: Draw) -> Clause:
    """Mrs Keller travels to Lomburg by train: "fährt mit dem Zug nach Lomburg"."""
    goal = [whither_far(draw)]
    clause = Clause(person(draw, verbs.TRAVEL), verbs.TRAVEL, goal, modals=TRAVELLER_MODALS, times="habit")
    if draw.chance(0.6):
        english, german = draw.pick(BY)
        clause.parts.append(Part(english, german, E_MANNER, R_MANNER))
    return clause


def go_near(draw: Draw) -> Clause:
    """The child goes to the museum."""
    clause = Clause(person(draw, verbs.GO), verbs.GO, modals=TRAVELLER_MODALS, times="habit")
    clause.parts.append(whither_near(draw))
    return clause


def change(draw: Draw) -> Clause:
    """We change trains in Lomburg; the guest gets on at the main station; I get off near the church."""
    action = draw.pick((verbs.CHANGE, verbs.GET_ON, verbs.GET_OFF))
    clause = Clause(person(draw, action), action, modals=TRAVELLER_MODALS, times="habit")
    if action is verbs.GET_ON and draw.chance(0.5):
        into = noun_phrase(draw, ("vehicle",), action, determiners=("the", "the", "this", "a"), plural=0.0)
        named = action._replace(tail="on")
        clause.verb = named
        clause.parts.append(Part(into.en, prepositional("in", into, ACC), E_OBJECT, R_GOAL))
    if draw.chance(0.75):
        clause.parts.append(where(draw, ("site",), rank=R_SITE))
    return clause


def with_vehicle(draw: Draw) -> Clause:
    """The tourist waits for the bus: verbs with a prepositional object that is a vehicle."""
    action, preposition, case = verbs.PREPOSITIONAL[0]
    goal = noun_phrase(draw, ("vehicle",), action, determiners=("the", "the", "this", "a", "our"))
    part = Part(goal.en, prepositional(preposition, goal, case), E_OBJECT, R_GOAL)
    clause = Clause(person(draw, action), action, [part], modals=TRAVELLER_MODALS)
    if draw.chance(0.4):
        clause.parts.append(where(draw, ("site",)))
    return clause


def put(draw: Draw) -> Clause:
    """I put the suitcase under the table (accusative); the suitcase is under the table (dative)."""
    english, german = draw.pick(
        (("under", "unter"), ("next to", "neben"), ("behind", "hinter"), ("in front of", "vor"))
    )
    at = noun_phrase(
        draw,
        ("furniture",) if german in ("unter", "hinter") else ("furniture", "opening"),
        None,
        determiners=("the", "the", "my", "your"),
        plural=0.0,
    )
    if draw.subject is not None or draw.chance(0.5):
        thing = noun_phrase(draw, ("luggage",), verbs.PUT, determiners=("the", "the", "a", "my"), plural=0.1)
        parts = [
            Part(thing.en, thing.de[ACC], E_OBJECT, R_OBJECT),
            Part(f"{english} {at.en}", prepositional(german, at, ACC), E_GOAL, R_GOAL),
        ]
        clause = Clause(person(draw, verbs.PUT), verbs.PUT, parts, modals=TRAVELLER_MODALS)
        clause.negatable = thing.definite
        return clause
    thing = noun_phrase(draw, ("luggage",), verbs.STAND, determiners=("the", "the", "this", "my"), plural=0.1)
    part = Part(f"{english} {at.en}", prepositional(german, at, DAT), E_PLACE, R_SITE)
    return Clause(thing, verbs.STAND, [part], modals=("can", "must"))


FRAMES = (
    *(depart,) * 4,
    *(arrive,) * 3,
    *(stop,) * 3,
    *(run,) * 3,
    *(cancelled,) * 2,
    *(late,) * 2,
    *(carry_on, turn_back),
    *(state,) * 4,
    compare,
    *(go_far,) * 3,
    *(go_near,) * 3,
    *(change,) * 3,
    with_vehicle,
    *(put,) * 2,
)
