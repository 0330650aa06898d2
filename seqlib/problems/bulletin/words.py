"""Adjectives by the kind of noun they go with, weekdays, months, and other closed lists."""

from __future__ import annotations

from seqlib.problems.bulletin.german import adjective_stem


def pairs(text: str) -> tuple[tuple[str, str], ...]:
    """(English, German) from "new neu, old alt"; an English expression of two words is written with "_"."""
    items = (item.split() for item in text.replace("\n", " ").split(","))
    return tuple((english.replace("_", " "), german.replace("_", " ")) for english, german in items)


_COLOURS = "red rot, blue blau, green grün, black schwarz"
_EDIBLE = "fresh frisch, good gut, cheap billig, expensive teuer, delicious lecker, sweet süß"
_PLACE = "new neu, old alt, big groß, small klein, beautiful schön, quiet ruhig"
_TALK = "important wichtig, long lang, short kurz, interesting interessant, boring langweilig, first erst, last letzt"

_ADJECTIVES = {
    "vehicle": """new neu, old alt, fast schnell, slow langsam, full voll, empty leer, first erst, last letzt,
        next nächst""",
    "person": """young jung, old alt, friendly freundlich, new neu, ill krank, tired müde, polite höflich,
        nervous nervös, careful vorsichtig""",
    "relative": "young jung, old alt, friendly freundlich, ill krank, tired müde, nervous nervös",
    "session": f"{_TALK}, next nächst, difficult schwierig",
    "event": f"{_TALK}, next nächst, private privat",
    "site": f"{_PLACE}, nearest nächst, empty leer, dark dunkel",
    "shop": f"{_PLACE}, nearest nächst, modern modern, popular beliebt",
    "seaside": f"{_PLACE}, whole ganz, popular beliebt",
    "area": f"{_PLACE}, whole ganz, green grün, popular beliebt",
    "facility": "new neu, old alt, small klein, big groß, modern modern",
    "way": "new neu, old alt, long lang, short kurz, narrow schmal, wide breit, dangerous gefährlich, dark dunkel",
    "clothing": f"{_COLOURS}, new neu, old alt, cheap billig, expensive teuer, warm warm",
    "luggage": f"{_COLOURS}, new neu, old alt, heavy schwer, light leicht, empty leer",
    "paper": "new neu, old alt, valid gültig, important wichtig, cheap billig, expensive teuer",
    "form": "new neu, old alt, long lang, short kurz, important wichtig, blue blau",
    "reading": """new neu, old alt, interesting interessant, boring langweilig, cheap billig, expensive teuer,
        beautiful schön, long lang, short kurz""",
    "thing": f"{_COLOURS}, new neu, old alt, cheap billig, expensive teuer, broken kaputt",
    "item": f"{_COLOURS}, new neu, old alt, expensive teuer, broken kaputt, heavy schwer",
    "device": """new neu, old alt, cheap billig, expensive teuer, big groß, small klein, broken kaputt,
        modern modern, heavy schwer""",
    "furniture": """new neu, old alt, expensive teuer, big groß, small klein, black schwarz, modern modern,
        heavy schwer, comfortable bequem""",
    "food": f"{_EDIBLE}, big groß, small klein, local regional",
    "groceries": f"{_EDIBLE}, local regional",
    "drink": f"{_EDIBLE}, hot heiß, cold kalt, warm warm",
    "weather": "strong stark, violent heftig, short kurz, dangerous gefährlich, next nächst",
    "sky": "light leicht, persistent anhaltend, unexpected unerwartet",
    "opening": f"{_COLOURS}, new neu, old alt, big groß, small klein",
}
Adjective = tuple[str, str, str]
ADJECTIVES: dict[str, tuple[Adjective, ...]] = {
    kind: tuple((english, german, adjective_stem(german)) for english, german in pairs(text))
    for kind, text in _ADJECTIVES.items()
}
"""Adjectives by kind of noun: (English, German, German stem that endings join)."""

NEEDS_DEFINITE = frozenset({"first", "last", "next", "nearest", "whole"})
"""Adjectives that take a singular noun and the definite article."""

DAYS = pairs(
    "Monday Montag, Tuesday Dienstag, Wednesday Mittwoch, Thursday Donnerstag, Friday Freitag, "
    "Saturday Samstag, Sunday Sonntag"
)
MONTHS = pairs(
    "January Januar, February Februar, March März, April April, May Mai, June Juni, July Juli, August August, "
    "September September, October Oktober, November November, December Dezember"
)
SEASONS = pairs("spring Frühling, summer Sommer, autumn Herbst, winter Winter")
DAYTIMES = pairs("morning Morgen, afternoon Nachmittag, evening Abend")
DIRECTIONS = pairs(
    "north Norden, south Süden, east Osten, west Westen, north-east Nordosten, south-west Südwesten, "
    "north-west Nordwesten, south-east Südosten"
)
SKY_STATES = pairs(
    "cold kalt, warm warm, hot heiß, cool kühl, sunny sonnig, cloudy bewölkt, foggy neblig, windy windig, dry trocken"
)
COMPARATIVES = pairs(
    "faster schneller, cheaper billiger, older älter, newer neuer, bigger größer, smaller kleiner, better besser, "
    "more_expensive teurer, more_modern moderner"
)
FREQUENCY = pairs("often oft, always immer, usually meistens, sometimes manchmal, rarely selten")
LIKELIHOOD = pairs("probably wahrscheinlich, certainly sicher")

DETERMINERS_SINGULAR = {
    "the": "d",
    "a": "ein",
    "this": "dies",
    "every": "jed",
    "no": "kein",
    "my": "mein",
    "our": "unser",
    "your": "Ihr",
    "his": "sein",
    "her": "ihr",
}
"""English determiner → German stem, before a singular noun. "d" stands for the definite article."""

POSSESSIVES = ("my", "our", "your", "his", "her")

CAUSES = (
    ("the storm", "des Sturms"),
    ("the thunderstorm", "des Gewitters"),
    ("the rain", "des Regens"),
    ("the snow", "des Schnees"),
    ("the fog", "des Nebels"),
    ("the heat", "der Hitze"),
    ("the strike", "des Streiks"),
    ("an accident", "eines Unfalls"),
    ("a technical fault", "einer technischen Störung"),
    ("construction work", "Bauarbeiten"),
)
"""What follows "because of" and, in the genitive (bare plurals apart), "wegen"."""
