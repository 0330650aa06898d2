"""Clauses of the bulletin grammar against English and German written by hand."""

from __future__ import annotations

import pytest

from seqlib.problems.bulletin import numbers, verbs, words
from seqlib.problems.bulletin.clause import (
    ES,
    FRAU,
    ICH,
    PAST,
    SIE,
    WIR,
    Clause,
    E,
    Part,
    Phrase,
    R,
    english,
    english_base,
    german,
    german_after,
    german_last,
    german_request,
    german_zu,
)
from seqlib.problems.bulletin.german import ACC, DAT
from seqlib.problems.bulletin.nouns import noun
from seqlib.problems.bulletin.phrases import _plural, _singular, prepositional
from seqlib.problems.bulletin.verbs import VERBS

_ADJECTIVES = {entry[0]: entry for group in words.ADJECTIVES.values() for entry in group}


def np(name: str, determiner: str = "the", adjective: str = "") -> Phrase:
    return _singular(noun(name), determiner, _ADJECTIVES[adjective] if adjective else None)


def pl(name: str, determiner: tuple[str, str] = ("the", "d"), adjective: str = "", count: int = 0) -> Phrase:
    return _plural(noun(name), determiner, _ADJECTIVES[adjective] if adjective else None, count)


def when(en: str, de: str) -> Part:
    return Part(en, de, E.TIME, R.TIME, True)


def obj(phrase: Phrase) -> Part:
    return Part(phrase.en_object, phrase.de[ACC], E.OBJECT, R.OBJECT)


def acts(key: str) -> verbs.Verb:
    return verbs.TRANSITIVE_BY_KEY[key]


HERR = Phrase("Mr Dorner", "Mr Dorner", ("Herr Dorner", "Herrn Dorner", "Herrn Dorner"))
TODAY = when("today", "heute")
TOMORROW = when("tomorrow", "morgen")
IN_LOBURG = Part("in Loburg", "in Loburg", E.PLACE, R.SITE, True)
IN_TOWN = Part("in Loburg", "in Loburg", E.PLACE, R.PLACE, True)
TO_LOBURG = Part("to Loburg", "nach Loburg", E.GOAL, R.GOAL)
BY_TRAIN = Part("by train", "mit dem Zug", E.MANNER, R.MANNER)
STORM = Part("because of the storm", "wegen des Sturms", E.CAUSE, R.CAUSE, True)
DATIVE = {entry.base: entry for entry in verbs.DATIVE}
GIVES = {entry.base: entry for entry in verbs.DITRANSITIVE}


def half_past_seven() -> Part:
    english_words, german_words = numbers.clock_words(7, 30)
    return when(f"at {english_words}", f"um {german_words}")


def put(preposition_en: str, preposition_de: str, place: str, tense: str = "present") -> Clause:
    goal = Part(f"{preposition_en} {np(place).en}", prepositional(preposition_de, np(place), ACC), E.GOAL, R.GOAL)
    return Clause(np("man"), VERBS["put"], [obj(np("suitcase")), goal], tense=tense)


MAIN = [
    # separable verbs, verb second
    (Clause(np("train"), VERBS["depart"], [TODAY]), "the train departs today", "der Zug fährt heute ab"),
    (Clause(pl("bus"), VERBS["depart"]), "the buses depart", "die Busse fahren ab"),
    (Clause(ICH, VERBS["arrive"], [IN_LOBURG]), "I arrive in Loburg", "ich komme in Loburg an"),
    (
        Clause(np("concert"), VERBS["take_place"], [TOMORROW]),
        "the concert takes place tomorrow",
        "das Konzert findet morgen statt",
    ),
    (
        Clause(np("course"), VERBS["begin"], [half_past_seven()]),
        "the course begins at half past seven",
        "der Kurs fängt um halb acht an",
    ),
    (Clause(WIR, acts("invite"), [obj(HERR)]), "we invite Mr Dorner", "wir laden Herrn Dorner ein"),
    (Clause(SIE, acts("turn off"), [obj(np("lamp"))]), "you turn off the lamp", "Sie schalten die Lampe aus"),
    (Clause(np("ferry", "no"), VERBS["be_cancelled"]), "no ferry is cancelled", "keine Fähre fällt aus"),
    # perfect with haben and sein, preterite of sein and haben
    (Clause(np("train"), VERBS["depart"], tense=PAST), "the train departed", "der Zug ist abgefahren"),
    (
        Clause(np("child"), acts("pick up"), [obj(np("parcel"))], tense=PAST),
        "the child picked up the parcel",
        "das Kind hat das Paket abgeholt",
    ),
    (Clause(ICH, VERBS["stay"], [IN_LOBURG], tense=PAST), "I stayed in Loburg", "ich bin in Loburg geblieben"),
    (Clause(ES, VERBS["rain"], [IN_TOWN], tense=PAST), "it rained in Loburg", "es hat in Loburg geregnet"),
    (
        Clause(np("road"), VERBS["be"], [Part("closed", "geschlossen", E.STATE, R.STATE)], tense=PAST),
        "the road was closed",
        "die Straße war geschlossen",
    ),
    (Clause(WIR, VERBS["have"], [obj(np("exam", "a"))], tense=PAST), "we had an exam", "wir hatten eine Prüfung"),
    # modals and future, infinitive last
    (
        Clause(ICH, acts("fill in"), [obj(np("form"))], modal="must"),
        "I must fill in the form",
        "ich muss das Formular ausfüllen",
    ),
    (
        Clause(FRAU, acts("sign"), [obj(np("letter"))], modal="want to"),
        "she wants to sign the letter",
        "sie will den Brief unterschreiben",
    ),
    (
        Clause(SIE, acts("try on"), [obj(np("jacket"))], modal="may"),
        "you may try on the jacket",
        "Sie dürfen die Jacke anprobieren",
    ),
    (Clause(ES, VERBS["snow"], modal="will"), "it will snow", "es wird schneien"),
    (
        Clause(HERR, VERBS["travel"], [TO_LOBURG, BY_TRAIN], modal="would like to"),
        "Mr Dorner would like to travel to Loburg by train",
        "Herr Dorner möchte mit dem Zug nach Loburg fahren",
    ),
    (Clause(pl("guest"), VERBS["change"], modal="can"), "the guests can change trains", "die Gäste können umsteigen"),
    # order of time, manner, place
    (
        Clause(WIR, VERBS["travel"], [TO_LOBURG, BY_TRAIN, TOMORROW]),
        "we travel to Loburg by train tomorrow",
        "wir fahren morgen mit dem Zug nach Loburg",
    ),
    (
        Clause(np("bus"), VERBS["be_cancelled"], [STORM, TODAY]),
        "the bus is cancelled today because of the storm",
        "der Bus fällt heute wegen des Sturms aus",
    ),
    # accusative, dative, both
    (
        Clause(np("boy"), acts("see"), [obj(np("customer", "a"))]),
        "the boy sees a customer",
        "der Junge sieht einen Kunden",
    ),
    (
        Clause(np("woman"), DATIVE["help"], [Part("the boy", np("boy").de[DAT], E.OBJECT, R.DATIVE)]),
        "the woman helps the boy",
        "die Frau hilft dem Jungen",
    ),
    (
        Clause(FRAU, GIVES["give"], [obj(np("key")), Part("to the guest", np("guest").de[DAT], E.TO, R.DATIVE)]),
        "she gives the key to the guest",
        "sie gibt dem Gast den Schlüssel",
    ),
    (
        Clause(HERR, GIVES["show"], [obj(np("ticket")), Part("to me", ICH.de[DAT], E.TO, R.PRONOUN), TODAY]),
        "Mr Dorner shows the ticket to me today",
        "Herr Dorner zeigt mir heute die Fahrkarte",
    ),
    # two-way prepositions
    (
        put("under", "unter", "table"),
        "the man puts the suitcase under the table",
        "der Mann stellt den Koffer unter den Tisch",
    ),
    (
        put("next to", "neben", "door", PAST),
        "the man put the suitcase next to the door",
        "der Mann hat den Koffer neben die Tür gestellt",
    ),
    (
        Clause(
            np("suitcase"),
            VERBS["stand"],
            [Part("under the table", prepositional("unter", np("table"), DAT), E.PLACE, R.SITE)],
        ),
        "the suitcase is under the table",
        "der Koffer steht unter dem Tisch",
    ),
    # negation
    (
        Clause(np("tram"), VERBS["stop"], [IN_LOBURG], negative=True),
        "the tram does not stop in Loburg",
        "die Straßenbahn hält nicht in Loburg",
    ),
    (
        Clause(ICH, acts("find"), [obj(np("key", "my"))], negative=True),
        "I do not find my key",
        "ich finde meinen Schlüssel nicht",
    ),
    (
        Clause(np("bus"), VERBS["arrive"], [TODAY], negative=True, modal="can"),
        "the bus cannot arrive today",
        "der Bus kann heute nicht ankommen",
    ),
    (
        Clause(WIR, acts("open"), [obj(np("window"))], negative=True, tense=PAST),
        "we did not open the window",
        "wir haben das Fenster nicht geöffnet",
    ),
    (
        Clause(ES, VERBS["be"], [Part("cold", "kalt", E.STATE, R.STATE), IN_TOWN], negative=True),
        "it is not cold in Loburg",
        "es ist in Loburg nicht kalt",
    ),
    # subject and object exchanged
    (
        Clause(
            np("guest"),
            VERBS["like"],
            [obj(np("hotel"))._replace(de=""), Part("", np("guest").de[DAT], E.OBJECT, R.DATIVE)],
            german_subject=np("hotel"),
        ),
        "the guest likes the hotel",
        "das Hotel gefällt dem Gast",
    ),
    (
        Clause(
            ICH,
            VERBS["like"],
            [obj(pl("shoe"))._replace(de=""), Part("", ICH.de[DAT], E.OBJECT, R.PRONOUN)],
            german_subject=pl("shoe"),
        ),
        "I like the shoes",
        "die Schuhe gefallen mir",
    ),
]


@pytest.mark.parametrize(("clause", "source", "target"), MAIN, ids=[row[1] for row in MAIN])
def test_main_clauses(clause, source, target):
    assert english(clause) == source
    assert german(clause) == target


def test_inversion_after_a_front():
    clause = Clause(np("train"), VERBS["depart"], [TODAY])
    assert english(clause, without=TODAY) == "the train departs"
    assert german(clause, front=TODAY) == "heute fährt der Zug ab"
    clause = Clause(pl("road", ("all", "all")), VERBS["be"], [Part("closed", "geschlossen", E.STATE, R.STATE), STORM])
    assert german(clause, front=STORM) == "wegen des Sturms sind alle Straßen geschlossen"
    clause = Clause(HERR, acts("call"), [obj(np("doctor")), TOMORROW], tense=PAST)
    assert german(clause, front=TOMORROW) == "morgen hat Herr Dorner den Arzt angerufen"


@pytest.mark.parametrize(
    ("clause", "source", "target"),
    [
        (Clause(np("train"), VERBS["depart"]), "does the train depart", "fährt der Zug ab"),
        (
            Clause(FRAU, acts("buy"), [obj(np("coat", "this"))], tense=PAST),
            "did she buy this coat",
            "hat sie diesen Mantel gekauft",
        ),
        (
            Clause(ES, VERBS["be"], [Part("sunny", "sonnig", E.STATE, R.STATE)], modal="will"),
            "will it be sunny",
            "wird es sonnig sein",
        ),
        (
            Clause(SIE, VERBS["live"], [IN_LOBURG], modal="want to"),
            "do you want to live in Loburg",
            "wollen Sie in Loburg wohnen",
        ),
        (Clause(np("bus"), VERBS["be_cancelled"]), "is the bus cancelled", "fällt der Bus aus"),
    ],
)
def test_questions(clause, source, target):
    assert english(clause, ask=True) == source
    assert german(clause, ask=True) == target


@pytest.mark.parametrize(
    ("clause", "target"),
    [
        (Clause(np("train"), VERBS["depart"], [TODAY]), "der Zug heute abfährt"),
        (Clause(np("train"), VERBS["depart"], tense=PAST), "der Zug abgefahren ist"),
        (Clause(np("train"), VERBS["depart"], modal="must"), "der Zug abfahren muss"),
        (Clause(ES, VERBS["rain"], negative=True), "es nicht regnet"),
        (
            Clause(np("pharmacy"), VERBS["be"], [Part("open", "geöffnet", E.STATE, R.STATE)]),
            "die Apotheke geöffnet ist",
        ),
        (Clause(np("driver"), acts("call"), [obj(HERR)], modal="will"), "der Fahrer Herrn Dorner anrufen wird"),
        (Clause(np("party"), VERBS["take_place"], negative=True), "die Party nicht stattfindet"),
    ],
)
def test_subordinate_clauses_put_the_verb_last(clause, target):
    assert german_last(clause) == target


def test_main_clause_after_a_subordinate_one_begins_with_its_verb():
    assert german_after(Clause(np("concert"), VERBS["take_place"], negative=True)) == "findet das Konzert nicht statt"


def test_requests_and_infinitives():
    clause = Clause(SIE, acts("bring along"), [obj(pl("document")), TOMORROW])
    assert english_base(clause) == "bring along the documents tomorrow"
    assert german_request(clause) == "bringen Sie morgen die Dokumente mit"
    assert german_zu(clause) == "morgen die Dokumente mitzubringen"
    assert german_zu(Clause(ICH, acts("buy"), [obj(np("bread", ""))])) == "Brot zu kaufen"
    assert german_zu(Clause(ICH, acts("fill in"), [obj(np("form"))])) == "das Formular auszufüllen"
