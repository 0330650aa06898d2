"""German tables of the bulletin grammar against ones written by hand."""

from __future__ import annotations

import pytest

from seqlib.problems.bulletin import numbers, phrases, words
from seqlib.problems.bulletin.clause import Phrase
from seqlib.problems.bulletin.german import ACC, DAT, DEFINITE, NOM, adjective_stem, contract
from seqlib.problems.bulletin.nouns import NOUNS, noun
from seqlib.problems.bulletin.phrases import _plural, _singular, prepositional, uninflected

_ADJECTIVES = {entry[0]: entry for group in words.ADJECTIVES.values() for entry in group}


def np(name: str, determiner: str = "the", adjective: str = "") -> Phrase:
    return _singular(noun(name), determiner, _ADJECTIVES[adjective] if adjective else None)


def pl(name: str, determiner: tuple[str, str] = ("the", "d"), adjective: str = "", count: int = 0) -> Phrase:
    return _plural(noun(name), determiner, _ADJECTIVES[adjective] if adjective else None, count)


CASES = "nominative accusative dative".split()


@pytest.mark.parametrize(
    ("determiner", "rows"),
    [
        (
            "the",
            [
                "der alte Zug|die alte Fähre|das alte Boot",
                "den alten Zug|die alte Fähre|das alte Boot",
                "dem alten Zug|der alten Fähre|dem alten Boot",
            ],
        ),
        (
            "a",
            [
                "ein alter Zug|eine alte Fähre|ein altes Boot",
                "einen alten Zug|eine alte Fähre|ein altes Boot",
                "einem alten Zug|einer alten Fähre|einem alten Boot",
            ],
        ),
        (
            "this",
            [
                "dieser alte Zug|diese alte Fähre|dieses alte Boot",
                "diesen alten Zug|diese alte Fähre|dieses alte Boot",
                "diesem alten Zug|dieser alten Fähre|diesem alten Boot",
            ],
        ),
        (
            "every",
            [
                "jeder alte Zug|jede alte Fähre|jedes alte Boot",
                "jeden alten Zug|jede alte Fähre|jedes alte Boot",
                "jedem alten Zug|jeder alten Fähre|jedem alten Boot",
            ],
        ),
        (
            "no",
            [
                "kein alter Zug|keine alte Fähre|kein altes Boot",
                "keinen alten Zug|keine alte Fähre|kein altes Boot",
                "keinem alten Zug|keiner alten Fähre|keinem alten Boot",
            ],
        ),
        (
            "our",
            [
                "unser alter Zug|unsere alte Fähre|unser altes Boot",
                "unseren alten Zug|unsere alte Fähre|unser altes Boot",
                "unserem alten Zug|unserer alten Fähre|unserem alten Boot",
            ],
        ),
        (
            "your",
            [
                "Ihr alter Zug|Ihre alte Fähre|Ihr altes Boot",
                "Ihren alten Zug|Ihre alte Fähre|Ihr altes Boot",
                "Ihrem alten Zug|Ihrer alten Fähre|Ihrem alten Boot",
            ],
        ),
        (
            "",
            [
                "alter Zug|alte Fähre|altes Boot",
                "alten Zug|alte Fähre|altes Boot",
                "altem Zug|alter Fähre|altem Boot",
            ],
        ),
    ],
)  # fmt: skip
def test_singular_tables(determiner, rows):
    for case, row in enumerate(rows):
        for name, wanted in zip(("train", "ferry", "boat"), row.split("|"), strict=True):
            assert np(name, determiner, "old").de[case] == wanted, CASES[case]


@pytest.mark.parametrize(
    ("determiner", "forms"),
    [
        (("the", "d"), "die alten Züge|die alten Züge|den alten Zügen"),
        (("", ""), "alte Züge|alte Züge|alten Zügen"),
        (("these", "dies"), "diese alten Züge|diese alten Züge|diesen alten Zügen"),
        (("all", "all"), "alle alten Züge|alle alten Züge|allen alten Zügen"),
        (("many", "viel"), "viele alte Züge|viele alte Züge|vielen alten Zügen"),
        (("some", "einig"), "einige alte Züge|einige alte Züge|einigen alten Zügen"),
        (("my", "mein"), "meine alten Züge|meine alten Züge|meinen alten Zügen"),
        (("number", ""), "zwei alte Züge|zwei alte Züge|zwei alten Zügen"),
    ],
)
def test_plural_tables(determiner, forms):
    assert pl("train", determiner, "old").de == tuple(forms.split("|"))


def test_adjectives_with_odd_stems():
    assert np("jacket", "the", "expensive").de[DAT] == "der teuren Jacke"
    assert np("path", "a", "dark").de[ACC] == "einen dunklen Weg"
    assert np("guest", "a", "tired").de[NOM] == "ein müder Gast"
    assert np("milk", "", "expensive").de[DAT] == "teurer Milch"
    assert adjective_stem("grün") == "grün"


HAND_WRITTEN = {
    "train": "der Zug Züge",
    "bus": "der Bus Busse",
    "ship": "das Schiff Schiffe",
    "doctor": "der Arzt Ärzte",
    "guest": "der Gast Gäste",
    "child": "das Kind Kinder",
    "woman": "die Frau Frauen",
    "man": "der Mann Männer",
    "secretary": "die Sekretärin Sekretärinnen",
    "brother": "der Bruder Brüder",
    "mother": "die Mutter Mütter",
    "daughter": "die Tochter Töchter",
    "appointment": "der Termin Termine",
    "exam": "die Prüfung Prüfungen",
    "talk": "der Vortrag Vorträge",
    "station": "der Bahnhof Bahnhöfe",
    "airport": "der Flughafen Flughäfen",
    "town hall": "das Rathaus Rathäuser",
    "lake": "der See Seen",
    "museum": "das Museum Museen",
    "cinema": "das Kino Kinos",
    "library": "die Bibliothek Bibliotheken",
    "village": "das Dorf Dörfer",
    "forest": "der Wald Wälder",
    "valley": "das Tal Täler",
    "garden": "der Garten Gärten",
    "road": "die Straße Straßen",
    "path": "der Weg Wege",
    "coat": "der Mantel Mäntel",
    "dress": "das Kleid Kleider",
    "skirt": "der Rock Röcke",
    "hat": "der Hut Hüte",
    "shoe": "der Schuh Schuhe",
    "suitcase": "der Koffer Koffer",
    "basket": "der Korb Körbe",
    "passport": "der Pass Pässe",
    "book": "das Buch Bücher",
    "novel": "der Roman Romane",
    "glass": "das Glas Gläser",
    "knife": "das Messer Messer",
    "picture": "das Bild Bilder",
    "blanket": "die Decke Decken",
    "clock": "die Uhr Uhren",
    "bicycle": "das Fahrrad Fahrräder",
    "table": "der Tisch Tische",
    "chair": "der Stuhl Stühle",
    "bed": "das Bett Betten",
    "apple": "der Apfel Äpfel",
    "potato": "die Kartoffel Kartoffeln",
    "egg": "das Ei Eier",
    "storm": "der Sturm Stürme",
    "door": "die Tür Türen",
    "gate": "das Tor Tore",
    "party": "die Party Partys",
    "form": "das Formular Formulare",
}


def test_genders_and_plurals():
    for name, wanted in HAND_WRITTEN.items():
        article, singular, plural = wanted.split()
        entry = noun(name)
        gender = "der die das".split().index(article)
        assert (entry.de.gender, entry.de.singular[0], entry.de.plural[0]) == (gender, singular, plural), name
        assert DEFINITE[0][gender] == article


def test_dative_plurals_and_weak_nouns():
    assert [noun(name).de.plural[2] for name in ("train", "child", "woman", "cinema", "garden", "apple")] == [
        "Zügen", "Kindern", "Frauen", "Kinos", "Gärten", "Äpfeln"
    ]  # fmt: skip
    weak = {"customer": "Kunden", "boy": "Jungen", "ticket machine": "Fahrkartenautomaten"}
    for name, form in weak.items():
        assert noun(name).de.singular[1:] == (form, form)
        assert noun(name).de.singular[0] != form
    found = {n.en for group in NOUNS.values() for n in group if n.de.singular[0] != n.de.singular[1]}
    assert found == set(weak)


def test_english_names_of_nouns_are_unique_and_german_ones_capitalised():
    every = [entry for group in NOUNS.values() for entry in group]
    assert len({entry.en for entry in every}) == len(every)
    assert all(form[0].isupper() for entry in every for form in (*entry.de.singular, *entry.de.plural) if form)


NUMBERS = """null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn
siebzehn achtzehn neunzehn zwanzig einundzwanzig zweiundzwanzig dreiundzwanzig vierundzwanzig fünfundzwanzig
sechsundzwanzig siebenundzwanzig achtundzwanzig neunundzwanzig dreißig einunddreißig zweiunddreißig
dreiunddreißig vierunddreißig fünfunddreißig sechsunddreißig siebenunddreißig achtunddreißig neununddreißig vierzig
einundvierzig zweiundvierzig dreiundvierzig vierundvierzig fünfundvierzig sechsundvierzig siebenundvierzig
achtundvierzig neunundvierzig fünfzig einundfünfzig zweiundfünfzig dreiundfünfzig vierundfünfzig fünfundfünfzig
sechsundfünfzig siebenundfünfzig achtundfünfzig neunundfünfzig sechzig einundsechzig zweiundsechzig
dreiundsechzig vierundsechzig fünfundsechzig sechsundsechzig siebenundsechzig achtundsechzig neunundsechzig siebzig
einundsiebzig zweiundsiebzig dreiundsiebzig vierundsiebzig fünfundsiebzig sechsundsiebzig siebenundsiebzig
achtundsiebzig neunundsiebzig achtzig einundachtzig zweiundachtzig dreiundachtzig vierundachtzig fünfundachtzig
sechsundachtzig siebenundachtzig achtundachtzig neunundachtzig neunzig einundneunzig zweiundneunzig dreiundneunzig
vierundneunzig fünfundneunzig sechsundneunzig siebenundneunzig achtundneunzig neunundneunzig hundert""".split()


def test_number_words():
    assert [numbers.number_de(n) for n in range(101)] == NUMBERS
    assert [numbers.number_en(n) for n in (0, 13, 20, 21, 45, 80, 99, 100)] == [
        "zero", "thirteen", "twenty", "twenty-one", "forty-five", "eighty", "ninety-nine", "a hundred"
    ]  # fmt: skip


def test_ordinals():
    wanted = {1: "first ersten", 2: "second zweiten", 3: "third dritten", 5: "fifth fünften", 7: "seventh siebten"}
    wanted |= {8: "eighth achten", 9: "ninth neunten", 12: "twelfth zwölften", 19: "nineteenth neunzehnten"}
    wanted |= {20: "twentieth zwanzigsten", 21: "twenty-first einundzwanzigsten", 30: "thirtieth dreißigsten"}
    wanted |= {
        16: "sixteenth sechzehnten",
        31: "thirty-first einunddreißigsten",
        28: "twenty-eighth achtundzwanzigsten",
    }
    for n, text in wanted.items():
        assert " ".join(numbers.ordinal(n)) == text


HOURS = "ein zwei drei vier fünf sechs sieben acht neun zehn elf zwölf".split()
COUNTED = ["eins", *HOURS[1:]]


def test_clock_times_of_all_quarter_hours():
    for hour in range(1, 13):
        now, following = COUNTED[hour - 1], COUNTED[hour % 12]
        assert numbers.clock_words(hour, 0)[1] == f"{HOURS[hour - 1]} Uhr"
        assert numbers.clock_words(hour, 15)[1] == f"Viertel nach {now}"
        assert numbers.clock_words(hour, 30)[1] == f"halb {following}"
        assert numbers.clock_words(hour, 45)[1] == f"Viertel vor {following}"


def test_other_clock_times():
    assert numbers.clock_words(1, 0) == ("one o'clock", "ein Uhr")
    assert numbers.clock_words(12, 30) == ("half past twelve", "halb eins")
    assert numbers.clock_words(7, 40) == ("twenty to eight", "zwanzig vor acht")
    assert numbers.clock_words(12, 55) == ("five to one", "fünf vor eins")
    assert numbers.clock_words(1, 10) == ("ten past one", "zehn nach eins")
    assert numbers.clock_24(6, 5) == ("6:05", "6:05 Uhr")
    assert numbers.clock_12(5, 45, True) == ("5:45 p.m.", "17:45 Uhr")
    assert numbers.clock_12(11, 0, False) == ("11:00 a.m.", "11:00 Uhr")
    with pytest.raises(ValueError, match="25"):
        numbers.clock_words(3, 25)


def test_prices():
    assert numbers.price_words(1) == ("one euro", "einen Euro")
    assert numbers.price_words(21) == ("twenty-one euros", "einundzwanzig Euro")
    assert numbers.price_digits(3, 50) == ("3.50 euros", "3,50 Euro")
    assert numbers.price_digits(12, 5) == ("12.05 euros", "12,05 Euro")
    assert numbers.price_digits(45, 0) == ("45 euros", "45 Euro")


@pytest.mark.parametrize(
    ("preposition", "name", "case", "wanted"),
    [
        ("in", "park", DAT, "im Park"),
        ("in", "school", DAT, "in der Schule"),
        ("in", "school", ACC, "in die Schule"),
        ("in", "museum", ACC, "ins Museum"),
        ("in", "park", ACC, "in den Park"),
        ("an", "lake", DAT, "am See"),
        ("an", "coast", ACC, "an die Küste"),
        ("an", "window", ACC, "ans Fenster"),
        ("auf", "table", DAT, "auf dem Tisch"),
        ("auf", "table", ACC, "auf den Tisch"),
        ("zu", "station", None, "zum Bahnhof"),
        ("zu", "pharmacy", None, "zur Apotheke"),
        ("bei", "entrance", None, "beim Eingang"),
        ("von", "airport", None, "vom Flughafen"),
        ("durch", "forest", None, "durch den Wald"),
        ("mit", "tram", None, "mit der Straßenbahn"),
        ("vor", "church", DAT, "vor der Kirche"),
        ("hinter", "hotel", DAT, "hinter dem Hotel"),
        ("gegenüber", "school", DAT, "gegenüber der Schule"),
        ("nach", "concert", DAT, "nach dem Konzert"),
    ],
)
def test_prepositions(preposition, name, case, wanted):
    assert prepositional(preposition, np(name), case) == wanted


def test_a_preposition_refuses_the_wrong_case():
    with pytest.raises(ValueError, match="mit"):
        prepositional("mit", np("tram"), ACC)
    with pytest.raises(ValueError, match="hinter"):
        prepositional("hinter", np("tram"))
    assert contract("zu", "den Zügen") == "zu den Zügen"


def test_small_words():
    assert np("exam", "a").en == "an exam"
    assert np("coat", "a", "expensive").en == "an expensive coat"
    assert phrases.article_a("used coat") == "a"
    assert phrases.article_a("urgent meeting") == "an"
    assert uninflected("Dr. Ros") == ("Dr. Ros", "Dr. Ros", "Dr. Ros")
    assert dict(phrases.BY)["by ferry"] == "mit der Fähre"
    assert dict(words.PAIRS["causes"])["an accident"] == "eines Unfalls"
