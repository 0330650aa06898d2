"""Adjectives by the kind of noun they go with, weekdays, months, and other closed lists."""

from __future__ import annotations

from seqlib.problems.bulletin.german import adjective_stem


def pairs(text: str) -> tuple[tuple[str, str], ...]:
    """(English, German) from "new neu, old alt"; an English expression of two words is written with "_"."""
    items = (item.split() for item in text.replace("\n", " ").split(","))
    return tuple((english.replace("_", " "), german.replace("_", " ")) for english, german in items)


_COLOURS = "red rot, blue blau, green grün, yellow gelb, white weiß, black schwarz, grey grau, brown braun"
_EDIBLE = "fresh frisch, good gut, cheap billig, expensive teuer, delicious lecker, sweet süß"
_PLACE = "new neu, old alt, big groß, small klein, beautiful schön, famous berühmt, quiet ruhig"
_GOODS = (
    "new neu, old alt, cheap billig, expensive teuer, beautiful schön, big groß, small klein, used gebraucht"
)
_TALK = "important wichtig, long lang, short kurz, interesting interessant, boring langweilig, first erst, last letzt"

_ADJECTIVES = {
    "vehicle": f"""new neu, old alt, fast schnell, slow langsam, full voll, empty leer, small klein, big groß,
        first erst, last letzt, next nächst, direct direkt, modern modern, comfortable bequem, clean sauber,
        dirty schmutzig, additional zusätzlich, crowded überfüllt, special besonder, {_COLOURS}""",
    "person": """young jung, old alt, friendly freundlich, new neu, ill krank, healthy gesund, tired müde,
        strict streng, polite höflich, hungry hungrig, experienced erfahren, famous berühmt, nice nett,
        quiet ruhig, careful vorsichtig, happy glücklich, sad traurig, nervous nervös, rich reich, poor arm,
        clever klug, foreign ausländisch, impatient ungeduldig""",
    "relative": "young jung, old alt, friendly freundlich, ill krank, tired müde, nervous nervös, clever klug",
    "session": f"{_TALK}, next nächst, private privat, public öffentlich, difficult schwierig, planned geplant",
    "event": f"""{_TALK}, next nächst, private privat, public öffentlich, international international, big groß,
        urgent dringend, free kostenlos, annual jährlich, difficult schwierig, exciting spannend, new neu,
        official offiziell, loud laut, planned geplant""",
    "site": f"{_PLACE}, nearest nächst, empty leer, dark dunkel",
    "shop": f"""{_PLACE}, modern modern, nearest nächst, empty leer, cosy gemütlich, expensive teuer,
        cheap billig, popular beliebt""",
    "seaside": f"{_PLACE}, whole ganz, popular beliebt, remote abgelegen",
    "area": f"{_PLACE}, whole ganz, green grün, popular beliebt, remote abgelegen",
    "facility": "new neu, old alt, small klein, big groß, modern modern",
    "way": "new neu, old alt, long lang, short kurz, narrow schmal, wide breit, dangerous gefährlich, dark dunkel",
    "clothing": f"""{_COLOURS}, {_GOODS}, warm warm, light leicht, long lang, short kurz, thick dick, thin dünn,
        elegant elegant, wet nass, dry trocken, clean sauber, dirty schmutzig, dark dunkel, soft weich""",
    "luggage": f"{_COLOURS}, {_GOODS}, heavy schwer, light leicht, empty leer, full voll, practical praktisch",
    "paper": "new neu, old alt, valid gültig, important wichtig, cheap billig, expensive teuer, missing fehlend",
    "form": "new neu, old alt, long lang, short kurz, important wichtig, blue blau, missing fehlend",
    "reading": """new neu, old alt, interesting interessant, boring langweilig, thick dick, thin dünn,
        expensive teuer, cheap billig, exciting spannend, beautiful schön, long lang, short kurz""",
    "thing": f"{_COLOURS}, {_GOODS}, broken kaputt, clean sauber, dirty schmutzig, heavy schwer, light leicht",
    "item": f"{_COLOURS}, {_GOODS}, broken kaputt, modern modern, heavy schwer",
    "device": f"{_COLOURS}, {_GOODS}, broken kaputt, practical praktisch, modern modern, heavy schwer, light leicht",
    "furniture": f"{_COLOURS}, {_GOODS}, high hoch, low niedrig, comfortable bequem, modern modern, heavy schwer",
    "food": f"{_EDIBLE}, ripe reif, sour sauer, hard hart, soft weich, big groß, small klein, local regional",
    "groceries": f"{_EDIBLE}, soft weich, local regional",
    "drink": f"{_EDIBLE}, hot heiß, cold kalt, warm warm, bitter bitter, sour sauer",
    "weather": "strong stark, violent heftig, short kurz, dangerous gefährlich, sudden plötzlich, next nächst",
    "sky": "light leicht, persistent anhaltend, unexpected unerwartet",
    "opening": f"{_COLOURS}, small klein, big groß, old alt, new neu",
}
Adjective = tuple[str, str, str]
ADJECTIVES: dict[str, tuple[Adjective, ...]] = {
    kind: tuple((english, german, adjective_stem(german)) for english, german in pairs(text))
    for kind, text in _ADJECTIVES.items()
}
"""Adjectives by kind of noun: (English, German, German stem that endings join)."""

ATTRIBUTIVE_ONLY = frozenset(
    {"first", "last", "next", "nearest", "additional", "whole", "special", "missing"}
)
"""Adjectives that are never said after "is"; they stay singular or take a definite article."""

NEEDS_DEFINITE = frozenset({"first", "last", "next", "nearest", "whole"})

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
    "cold kalt, warm warm, hot heiß, cool kühl, sunny sonnig, cloudy bewölkt, foggy neblig, windy windig, "
    "dry trocken, wet nass, mild mild, stormy stürmisch, humid schwül, frosty frostig, dark dunkel, rainy regnerisch"
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
    ("the holiday", "des Feiertags"),
    ("the strike", "des Streiks"),
    ("the festival", "des Festes"),
    ("an accident", "eines Unfalls"),
    ("a strike", "eines Streiks"),
    ("a technical fault", "einer technischen Störung"),
    ("a demonstration", "einer Demonstration"),
    ("a power cut", "eines Stromausfalls"),
    ("construction work", "Bauarbeiten"),
)
"""What follows "because of" and, in the genitive (bare plurals apart), "wegen"."""
