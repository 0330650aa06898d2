"""Random time adverbials, fitting to what the verb tells: past, habit or future."""

from seqlib.problems.bulletin import numbers
from seqlib.problems.bulletin.clause import PAST, E, Part, R
from seqlib.problems.bulletin.lexicon import ROWS
from seqlib.problems.bulletin.nouns import NOUNS
from seqlib.problems.bulletin.phrases import Draw, prepositional, the
from seqlib.problems.bulletin.words import PAIRS


def clock(draw: Draw) -> tuple[str, str]:
    """A time of day without "at": spoken, by the 24-hour timetable, or with a.m. and p.m."""
    roll = draw.random()
    if roll < 0.6:
        minute = draw.pick((0, 0, 0, 30, 30, 15, 45, 5, 10, 20, 40, 50, 55))
        return numbers.clock_words(draw.below(12) + 1, minute)
    minute = draw.below(12) * 5
    if roll < 0.85:
        return numbers.clock_24(draw.below(18) + 6, minute)
    return numbers.clock_12(draw.below(11) + 1, minute, draw.chance(0.6))


def at_clock(draw: Draw) -> tuple[str, str]:
    """A clock time with its preposition: "at half past seven" → "um halb acht"."""
    english, german = clock(draw)
    return f"at {english}", f"um {german}"


def date(draw: Draw) -> tuple[str, str]:
    """A date: "on 3 March" → "am 3. März", or in words."""
    month_en, month_de = draw.pick(PAIRS["months"])
    day = draw.below(31 if month_en != "February" else 28) + 1
    if month_en in ("April", "June", "September", "November"):
        day = min(day, 30)
    if draw.chance(0.5):
        return f"on {day} {month_en}", f"am {day}. {month_de}"
    english, german = numbers.ordinal(day)
    return f"on the {english} of {month_en}", f"am {german} {month_de}"


def _count(draw: Draw) -> tuple[str, str]:
    """A number of units in the dative: "three days" → "drei Tagen", "a day" → "einem Tag"."""
    unit = draw.pick(ROWS["units"])
    if draw.chance(0.3):
        return f"{'an' if unit[0] == 'hour' else 'a'} {unit[0]}", f"{unit[2]} {unit[1]}"
    how_many = numbers.number(draw.below(11) + 2)
    if unit[0] == "minute":
        how_many = numbers.number(draw.below(58) + 2)
    return f"{how_many[0]} {unit[0]}s", f"{how_many[1]} {unit[3]}"


def _weekday(draw: Draw, bare: float = 0.55) -> tuple[str, str]:
    english, german = draw.pick(PAIRS["days"])
    if draw.chance(bare):
        return f"on {english}", f"am {german}"
    part = draw.pick(PAIRS["daytimes"])
    return f"on {english} {part[0]}", f"am {german}{part[1].lower()}"


def _span(draw: Draw, which: str, stem: str) -> tuple[str, str]:
    """ "next week" → "nächste Woche", "last Friday" → "letzten Freitag" (accusative)."""
    if draw.chance(0.5):
        english, german = draw.pick(PAIRS["days"])
        return f"{which} {english}", f"{stem}en {german}"
    english, ending = draw.pick(PAIRS["spans"])
    return f"{which} {english}", f"{stem}{ending}"


def _around_event(draw: Draw) -> tuple[str, str]:
    phrase = the(draw.pick(NOUNS[draw.pick(("event", "session"))]))
    english, german = draw.pick((("after", "nach"), ("before", "vor")))
    return f"{english} {phrase.en}", prepositional(german, phrase, 2)


def _with_clock(draw: Draw, day: tuple[str, str]) -> tuple[str, str]:
    english, german = at_clock(draw)
    return f"{day[0]} {english}", f"{day[1]} {german}"


def past_time(draw: Draw) -> tuple[str, str]:
    """When something happened."""
    roll = draw.random()
    if roll < 0.4:
        return draw.pick(PAIRS["gone"])
    if roll < 0.55:
        return _span(draw, "last", "letzt")
    if roll < 0.7:
        english, german = _count(draw)
        return f"{english} ago", f"vor {german}"
    if roll < 0.8:
        return _with_clock(draw, ("yesterday", "gestern"))
    if roll < 0.9:
        return date(draw)
    return _around_event(draw)


def coming_time(draw: Draw) -> tuple[str, str]:
    """When something happens or will happen."""
    roll = draw.random()
    if roll < 0.26:
        return at_clock(draw)
    if roll < 0.4:
        return _with_clock(draw, draw.pick(PAIRS["coming"][:2]) if draw.chance(0.5) else _weekday(draw, bare=1.0))
    if roll < 0.62:
        return draw.pick(PAIRS["coming"])
    if roll < 0.7:
        return _weekday(draw)
    if roll < 0.76:
        return _span(draw, "next", "nächst")
    if roll < 0.82:
        english, german = _count(draw)
        return f"in {english}", f"in {german}"
    if roll < 0.88:
        return date(draw)
    if roll < 0.92:
        english, german = draw.pick(PAIRS["months"] if draw.chance(0.6) else PAIRS["seasons"])
        return f"in {english}", f"im {german}"
    return _around_event(draw)


def habit_time(draw: Draw, days: bool) -> tuple[str, str]:
    """When something happens again and again; ``days`` allows "from Monday to Friday"."""
    roll = draw.random() * (1.0 if days else 0.75)
    if roll < 0.3:
        english, german = draw.pick(PAIRS["days"])
        return f"on {english}s", f"{german.lower()}s"
    if roll < 0.5:
        return draw.pick(PAIRS["repeated"])
    if roll < 0.75:
        english, german = numbers.number(draw.below(29) + 2)
        unit_en, unit_de = draw.pick(PAIRS["durations"])
        return f"every {english} {unit_en}", f"alle {german} {unit_de}"
    start = draw.below(7)
    (first, erster), (last, letzter) = PAIRS["days"][start], PAIRS["days"][(start + 1 + draw.below(5)) % 7]
    return f"from {first} to {last}", f"von {erster} bis {letzter}"


def state_time(draw: Draw) -> tuple[str, str]:
    """How long a state lasts: "until Friday" → "bis Freitag", "until eight o'clock" → "bis acht Uhr"."""
    english, german = draw.pick(PAIRS["days"]) if draw.chance(0.5) else clock(draw)
    return f"until {english}", f"bis {german}"


def when(draw: Draw, tense: str, times: str, future: bool) -> Part:
    """A time adverbial for a clause of that tense; ``future`` rules out habits."""
    if tense == PAST:
        english, german = past_time(draw)
    elif times == "state" and draw.chance(0.35):
        english, german = state_time(draw)
    elif times in ("habit", "range") and not future and draw.chance(0.35):
        english, german = habit_time(draw, times == "range")
    else:
        english, german = coming_time(draw)
    return Part(english, german, E.TIME, R.TIME, True)
