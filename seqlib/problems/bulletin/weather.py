"""Frames of weather reports."""

from seqlib.problems.bulletin.clause import ES, WIR, Clause, E, Part, Phrase, R
from seqlib.problems.bulletin.german import ACC, THIRD
from seqlib.problems.bulletin.nouns import NOUNS
from seqlib.problems.bulletin.numbers import number
from seqlib.problems.bulletin.phrases import Draw, mass_phrase, noun_phrase, person, the, uninflected, where
from seqlib.problems.bulletin.verbs import VERBS
from seqlib.problems.bulletin.words import PAIRS

_PLACES = ("area", "area", "seaside")
_TEMPERATURE = Phrase("the temperature", "the temperature", uninflected("die Temperatur"))
_SUN = Phrase("the sun", "the sun", uninflected("die Sonne"))
_MOON = Phrase("the moon", "the moon", ("der Mond", "den Mond", "dem Mond"))


def _perhaps_where(draw: Draw, likely: float = 0.6) -> list[Part]:
    return [where(draw, _PLACES)] if draw.chance(likely) else []


def precipitation(draw: Draw) -> Clause:
    """It rains in the valley."""
    action = draw.pick((VERBS["rain"], VERBS["rain"], VERBS["snow"], VERBS["hail"]))
    return Clause(ES, action, _perhaps_where(draw), modals=("will", "can"))


def sky(draw: Draw) -> Clause:
    """It is cold and windy on the coast; it gets warm."""
    english, german = draw.pick(PAIRS["sky_states"])
    if draw.chance(0.3):
        second = draw.pick(PAIRS["sky_states"])
        if second[0] != english:
            english, german = f"{english} and {second[0]}", f"{german} und {second[1]}"
    action = draw.pick((VERBS["be"], VERBS["be"], VERBS["get"]))
    parts = [Part(english, german, E.STATE, R.STATE), *_perhaps_where(draw)]
    return Clause(ES, action, parts, modals=("will",))


def _degrees(draw: Draw) -> tuple[str, str]:
    roll = draw.random()
    if roll < 0.35:
        value = draw.below(39) + 2
        return f"{value} degrees", f"{value} Grad"
    english, german = number(draw.below(37) + 2)
    if roll < 0.5:
        english, german = number(draw.below(18) + 2)
        return f"minus {english} degrees", f"minus {german} Grad"
    return f"{english} degrees", f"{german} Grad"


def temperature(draw: Draw) -> Clause:
    """The temperature rises to twenty-one degrees: "steigt auf einundzwanzig Grad"."""
    action = draw.pick((VERBS["rise"], VERBS["fall"]))
    english, german = _degrees(draw)
    parts = [Part(f"to {english}", f"auf {german}", E.GOAL, R.GOAL), *_perhaps_where(draw, 0.5)]
    return Clause(_TEMPERATURE, action, parts, modals=("will", "can"), negatable=False)


def sun(draw: Draw) -> Clause:
    """The sun shines, rises, sets."""
    action = draw.pick((VERBS["shine"], VERBS["shine"], VERBS["come_up"], VERBS["go_down"]))
    if action is VERBS["shine"]:
        return Clause(_SUN, action, _perhaps_where(draw, 0.7), modals=("will",))
    return Clause(draw.pick((_SUN, _SUN, _MOON)), action, modals=("will",))


def wind(draw: Draw) -> Clause:
    """The wind blows from the north-west: "weht aus Nordwesten"."""
    who, german_who = draw.pick(PAIRS["winds"])
    subject = Phrase(who, who, uninflected(german_who), definite=False)
    english, german = draw.pick(PAIRS["directions"])
    part = Part(f"from the {english}", f"aus {german}", E.GOAL, R.GOAL)
    return Clause(subject, VERBS["blow"], [part], modals=("will",))


def system(draw: Draw) -> Clause:
    """The storm weakens, moves to the east, reaches the coast."""
    action = draw.pick((VERBS["weaken"], VERBS["move"], VERBS["reach"], VERBS["reach"]))
    if action is VERBS["weaken"]:
        subject = the(draw.pick(NOUNS["sky"])) if draw.chance(0.5) else noun_phrase(draw, ("weather",), action)
        return Clause(subject, action, modals=("will", "can"))
    subject = noun_phrase(draw, ("weather",), action, determiners=("the", "the", "a", "this"))
    if action is VERBS["move"]:
        english, german = draw.pick(PAIRS["directions"])
        part = Part(f"to the {english}", f"nach {german}", E.GOAL, R.GOAL)
    elif draw.chance(0.5):
        city = draw.name("place")
        part = Part(city, city, E.OBJECT, R.OBJECT)
    else:
        goal = noun_phrase(draw, _PLACES, action, determiners=("the",), plural=0.0)
        part = Part(goal.en, goal.de[ACC], E.OBJECT, R.OBJECT)
    return Clause(subject, action, [part], modals=("will", "can"))


def _phenomenon(draw: Draw) -> Phrase:
    """Dense fog, a violent storm: what is expected or there."""
    if draw.chance(0.6):
        return mass_phrase(draw, draw.pick(NOUNS["sky"]), 0.6)
    return noun_phrase(draw, ("weather",), determiners=("a",), adjective=0.5)


def expect(draw: Draw) -> Clause:
    """We expect strong wind: "wir erwarten starken Wind"."""
    what = _phenomenon(draw)
    subject = WIR if draw.chance(0.6) else person(draw, VERBS["expect"])
    parts = [Part(what.en, what.de[ACC], E.OBJECT, R.OBJECT), *_perhaps_where(draw)]
    return Clause(subject, VERBS["expect"], parts, negatable=False, modals=())


def there_is(draw: Draw) -> Clause:
    """There is dense fog in the valley: "es gibt im Tal dichten Nebel"."""
    what = _phenomenon(draw)
    subject = Phrase("there", "there", ("es", "es", "es"), what.en_agreement, THIRD, False)
    parts = [Part(what.en, what.de[ACC], E.OBJECT, R.STATE), where(draw, _PLACES)]
    return Clause(subject, VERBS["there_is"], parts, modals=("will", "can"), negatable=False)


def road_ice(draw: Draw) -> Clause:
    """The path is dangerous: a state that weather brings about."""
    subject = noun_phrase(draw, ("way",), determiners=("the", "the", "this", "every"), adjective=0.0)
    english, german = draw.pick(PAIRS["road_states"])
    draw.combinations.append((english, subject.en.split()[-1]))
    return Clause(subject, VERBS["be"], [Part(english, german, E.STATE, R.STATE)], modals=("will", "can"))
