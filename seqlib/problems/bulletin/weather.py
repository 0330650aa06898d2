"""Frames of weather reports."""

from __future__ import annotations

from seqlib.problems.bulletin import numbers, verbs, words
from seqlib.problems.bulletin.clause import (
    E_GOAL,
    E_OBJECT,
    E_STATE,
    ES,
    R_GOAL,
    R_OBJECT,
    R_STATE,
    WIR,
    Clause,
    Part,
    Phrase,
)
from seqlib.problems.bulletin.german import ACC, THIRD
from seqlib.problems.bulletin.nouns import NOUNS
from seqlib.problems.bulletin.phrases import Draw, mass_phrase, noun_phrase, person, the, uninflected, where

_PLACES = ("area", "area", "seaside")
_TEMPERATURE = Phrase("the temperature", "the temperature", uninflected("die Temperatur"))
_SUN = Phrase("the sun", "the sun", uninflected("die Sonne"))
_MOON = Phrase("the moon", "the moon", ("der Mond", "den Mond", "dem Mond"))
_WINDS = ("the wind", "a strong wind", "the cold wind", "a light wind")
_WIND_FORMS = ("der Wind", "ein starker Wind", "der kalte Wind", "ein leichter Wind")


def precipitation(draw: Draw) -> Clause:
    """It rains in the valley."""
    action = draw.pick((verbs.RAIN, verbs.RAIN, verbs.SNOW, verbs.HAIL))
    clause = Clause(ES, action, modals=("will", "can"))
    if draw.chance(0.6):
        clause.parts.append(where(draw, _PLACES))
    return clause


def sky(draw: Draw) -> Clause:
    """It is cold and windy on the coast; it gets warm."""
    english, german = draw.pick(words.SKY_STATES)
    if draw.chance(0.3):
        second = draw.pick(words.SKY_STATES)
        if second[0] != english:
            english, german = f"{english} and {second[0]}", f"{german} und {second[1]}"
    action = draw.pick((verbs.BE, verbs.BE, verbs.GET))
    clause = Clause(ES, action, [Part(english, german, E_STATE, R_STATE)], modals=("will",))
    if draw.chance(0.6):
        clause.parts.append(where(draw, _PLACES))
    return clause


def _degrees(draw: Draw) -> tuple[str, str]:
    roll = draw.random()
    if roll < 0.35:
        value = draw.below(39) + 2
        return f"{value} degrees", f"{value} Grad"
    english, german = numbers.number(draw.below(37) + 2)
    if roll < 0.5:
        english, german = numbers.number(draw.below(18) + 2)
        return f"minus {english} degrees", f"minus {german} Grad"
    return f"{english} degrees", f"{german} Grad"


def temperature(draw: Draw) -> Clause:
    """The temperature rises to twenty-one degrees: "steigt auf einundzwanzig Grad"."""
    action = draw.pick((verbs.RISE, verbs.FALL))
    english, german = _degrees(draw)
    part = Part(f"to {english}", f"auf {german}", E_GOAL, R_GOAL)
    clause = Clause(_TEMPERATURE, action, [part], modals=("will", "can"), negatable=False)
    if draw.chance(0.5):
        clause.parts.append(where(draw, _PLACES))
    return clause


def sun(draw: Draw) -> Clause:
    """The sun shines, rises, sets."""
    action = draw.pick((verbs.SHINE, verbs.SHINE, verbs.COME_UP, verbs.GO_DOWN))
    subject = _SUN if action is verbs.SHINE else draw.pick((_SUN, _SUN, _MOON))
    clause = Clause(subject, action, modals=("will",))
    if action is verbs.SHINE and draw.chance(0.7):
        clause.parts.append(where(draw, _PLACES))
    return clause


def wind(draw: Draw) -> Clause:
    """The wind blows from the north-west: "weht aus Nordwesten"."""
    which = draw.below(len(_WINDS))
    forms = uninflected(_WIND_FORMS[which])
    subject = Phrase(_WINDS[which], _WINDS[which], forms, definite=False)
    english, german = draw.pick(words.DIRECTIONS)
    part = Part(f"from the {english}", f"aus {german}", E_GOAL, R_GOAL)
    return Clause(subject, verbs.BLOW, [part], modals=("will",))


def system(draw: Draw) -> Clause:
    """The storm weakens, moves to the east, reaches the coast."""
    action = draw.pick((verbs.WEAKEN, verbs.MOVE, verbs.REACH, verbs.REACH))
    if action is verbs.WEAKEN:
        subject = the(draw.pick(NOUNS["sky"])) if draw.chance(0.5) else noun_phrase(draw, ("weather",), action)
        return Clause(subject, action, modals=("will", "can"))
    subject = noun_phrase(draw, ("weather",), action, determiners=("the", "the", "a", "this"))
    clause = Clause(subject, action, modals=("will", "can"))
    if action is verbs.MOVE:
        english, german = draw.pick(words.DIRECTIONS)
        clause.parts.append(Part(f"to the {english}", f"nach {german}", E_GOAL, R_GOAL))
    elif draw.chance(0.5):
        city = draw.name("place")
        clause.parts.append(Part(city, city, E_OBJECT, R_OBJECT))
    else:
        goal = noun_phrase(draw, _PLACES, action, determiners=("the",), plural=0.0)
        clause.parts.append(Part(goal.en, goal.de[ACC], E_OBJECT, R_OBJECT))
    return clause


def _phenomenon(draw: Draw) -> Phrase:
    """Dense fog, a violent storm: what is expected or there."""
    if draw.chance(0.6):
        return mass_phrase(draw, draw.pick(NOUNS["sky"]), 0.6)
    return noun_phrase(draw, ("weather",), None, determiners=("a",), adjective=0.5)


def expect(draw: Draw) -> Clause:
    """We expect strong wind: "wir erwarten starken Wind"."""
    what = _phenomenon(draw)
    subject = WIR if draw.chance(0.6) else person(draw, verbs.EXPECT)
    clause = Clause(
        subject, verbs.EXPECT, [Part(what.en, what.de[ACC], E_OBJECT, R_OBJECT)], negatable=False, modals=()
    )
    if draw.chance(0.6):
        clause.parts.append(where(draw, _PLACES))
    return clause


def there_is(draw: Draw) -> Clause:
    """There is dense fog in the valley: "es gibt im Tal dichten Nebel"."""
    what = _phenomenon(draw)
    subject = Phrase("there", "there", ("es", "es", "es"), what.en_agreement, THIRD, False)
    parts = [Part(what.en, what.de[ACC], E_OBJECT, R_STATE), where(draw, _PLACES)]
    return Clause(subject, verbs.THERE_IS, parts, modals=("will", "can"), negatable=False)


def road_ice(draw: Draw) -> Clause:
    """The path is dangerous: a state that weather brings about."""
    subject = noun_phrase(draw, ("way",), None, determiners=("the", "the", "this", "every"), adjective=0.0)
    english, german = draw.pick((("wet", "nass"), ("dangerous", "gefährlich"), ("icy", "vereist"), ("dry", "trocken")))
    draw.combinations.append((english, subject.en.split()[-1]))
    return Clause(subject, verbs.BE, [Part(english, german, E_STATE, R_STATE)], modals=("will", "can"))


FRAMES = (
    precipitation,
    precipitation,
    sky,
    sky,
    temperature,
    temperature,
    sun,
    wind,
    system,
    system,
    expect,
    there_is,
    road_ice,
)
SHORT = (precipitation, sky, sun, system, road_ice)
"""Frames that make good reasons and conditions."""
