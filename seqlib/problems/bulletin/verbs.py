"""Verbs in both languages and the kinds of noun they take.

A line: English base/past|German infinitive (prefix+stem), 3rd person, participle, h(aben) or s(ein)|kinds.
"""

from __future__ import annotations

from typing import NamedTuple

from seqlib.problems.bulletin.german import GermanVerb, german_verb
from seqlib.problems.bulletin.lexicon import LEXICON


class Verb(NamedTuple):
    """A verb in both languages. ``tail`` follows the English verb ("cancelled" in "is cancelled"); ``be`` verbs
    have no do-support. ``kinds`` are the kinds of object (or, for verbs without one, of subject)."""

    base: str
    third: str
    past: str
    tail: str
    be: bool
    de: GermanVerb
    kinds: tuple[str, ...]

    @property
    def key(self) -> str:
        """What held-out combinations know the verb by."""
        return f"{self.base} {self.tail}".strip()


def _third(word: str) -> str:
    if word in ("go", "do") or word.endswith(("s", "sh", "ch", "x")):
        return f"{word}es"
    if word == "have":
        return "has"
    if word.endswith("y") and word[-2] not in "aeiou":
        return f"{word[:-1]}ies"
    return f"{word}s"


def verb(english: str, german: str, kinds: str = "") -> Verb:
    """A verb from "pick/picked up" (or "be cancelled") and "ab+holen holt abgeholt h"."""
    head, _, rest = english.partition(" ")
    base, _, past = head.partition("/")
    return Verb(
        base, _third(base), past, rest, base == "be", german_verb(german.replace("+", "|")), tuple(kinds.split())
    )


def _table(name: str) -> tuple[Verb, ...]:
    return tuple(verb(*line.split("|")) for line in LEXICON["verbs"][name].splitlines())


def _with_preterite(entry: Verb, past: str, past_plural: str) -> Verb:
    return entry._replace(de=entry.de._replace(preterite=(past, past, past_plural)))


BE = _with_preterite(verb("be/was", "sein ist gewesen s"), "war", "waren")
BE = BE._replace(de=BE.de._replace(present=("bin", "ist", "sind")))
HAVE = _with_preterite(verb("have/had", "haben hat gehabt h"), "hatte", "hatten")
THERE_IS = _with_preterite(verb("be/was", "geben gibt gegeben h"), "gab", "gaben")
BE_LATE = _with_preterite(verb("be/was", "haben hat gehabt h"), "hatte", "hatten")
KNOW_THAT = verb("know/knew", "wissen weiß gewusst h")
KNOW_THAT = KNOW_THAT._replace(de=KNOW_THAT.de._replace(present=("weiß", "weiß", "wissen")))
GET = verb("get/got", "werden wird geworden s")
STAND = _with_preterite(verb("be/was", "stehen steht gestanden h"), "stand", "standen")

TRANSITIVE = _table("transitive")
"""Verbs with an accusative object."""

DATIVE = _table("dative")
"""Verbs with a dative object."""

DITRANSITIVE = _table("ditransitive")
"""Verbs with an accusative thing and a dative person: English "the book to the woman"."""

PREPOSITIONAL = tuple(
    (verb(english, german, kinds), preposition, case)
    for english, german, kinds, preposition, case in (
        ("wait/waited for", "warten wartet gewartet h", "person vehicle relative", "auf", 1),
        ("speak/spoke with", "sprechen spricht gesprochen h", "person relative", "mit", 2),
        ("look/looked after", "auf+passen passt aufgepasst h", "luggage relative", "auf", 1),
        ("take/took part in", "teil+nehmen nimmt teilgenommen h", "session event", "an", 2),
        ("ask/asked for", "bitten bittet gebeten h", "paper drink", "um", 1),
        ("come/came to", "kommen kommt gekommen s", "session event", "zu", 2),
    )
)
"""(verb, German preposition, case) of verbs with a prepositional object."""

DEPART = verb("depart/departed", "ab+fahren fährt abgefahren s")
ARRIVE = verb("arrive/arrived", "an+kommen kommt angekommen s")
STOP = verb("stop/stopped", "halten hält gehalten h")
RUN = verb("run/ran", "fahren fährt gefahren s")
BE_CANCELLED = verb("be/was cancelled", "aus+fallen fällt ausgefallen s")
CONTINUE = verb("continue/continued", "weiter+fahren fährt weitergefahren s")
TURN_BACK = verb("turn/turned back", "um+kehren kehrt umgekehrt s")
TRAVEL = verb("travel/travelled", "fahren fährt gefahren s")
GO = verb("go/went", "gehen geht gegangen s")
CHANGE = verb("change/changed trains", "um+steigen steigt umgestiegen s")
GET_ON = verb("get/got on", "ein+steigen steigt eingestiegen s")
GET_OFF = verb("get/got off", "aus+steigen steigt ausgestiegen s")
STAY = verb("stay/stayed", "bleiben bleibt geblieben s")
LIVE = verb("live/lived", "wohnen wohnt gewohnt h")
WORK = verb("work/worked", "arbeiten arbeitet gearbeitet h")
PUT = verb("put/put", "stellen stellt gestellt h")
BELONG = verb("belong/belonged", "gehören gehört gehört h")
LIKE = verb("like/liked", "gefallen gefällt gefallen h")
COST = verb("cost/cost", "kosten kostet gekostet h")
BEGIN = verb("begin/began", "an+fangen fängt angefangen h")
END = verb("end/ended", "auf+hören hört aufgehört h")
TAKE_PLACE = verb("take/took place", "statt+finden findet stattgefunden h")
LAST = verb("last/lasted", "dauern dauert gedauert h")
OPEN = verb("open/opened", "öffnen öffnet geöffnet h")
CLOSE = verb("close/closed", "schließen schließt geschlossen h")
RAIN = verb("rain/rained", "regnen regnet geregnet h")
SNOW = verb("snow/snowed", "schneien schneit geschneit h")
HAIL = verb("hail/hailed", "hageln hagelt gehagelt h")
SHINE = verb("shine/shone", "scheinen scheint geschienen h")
RISE = verb("rise/rose", "steigen steigt gestiegen s")
FALL = verb("fall/fell", "sinken sinkt gesunken s")
COME_UP = verb("come/came up", "auf+gehen geht aufgegangen s")
GO_DOWN = verb("go/went down", "unter+gehen geht untergegangen s")
WEAKEN = verb("weaken/weakened", "nach+lassen lässt nachgelassen h")
REACH = verb("reach/reached", "erreichen erreicht erreicht h")
BLOW = verb("blow/blew", "wehen weht geweht h")
MOVE = verb("move/moved", "ziehen zieht gezogen s")
EXPECT = verb("expect/expected", "erwarten erwartet erwartet h")

SAYING = _table("saying")
ASKING = _table("asking")
TRYING = _table("trying")
UNASKED = frozenset({"need", "lose", "miss", "see", "find"})
"""Verbs for what nobody is asked, or tries, to do."""

TRANSITIVE_BY_KEY = {entry.key: entry for entry in TRANSITIVE}
"""Verbs with an accusative object by their English base."""
