"""Whole sentences: a frame gets tense, time and negation, and is worded as statement, question, request, ..."""

from bisect import bisect_right
from collections.abc import Callable

from seqlib.problems.bulletin import clause as grammar
from seqlib.problems.bulletin import people, transport, verbs, weather
from seqlib.problems.bulletin.clause import PAST, PRESENT, Clause, E, Part, Phrase, R, english, german
from seqlib.problems.bulletin.lexicon import LEXICON
from seqlib.problems.bulletin.phrases import Draw, person, vehicle
from seqlib.problems.bulletin.times import at_clock, when
from seqlib.problems.bulletin.verbs import VERBS
from seqlib.problems.bulletin.words import PAIRS

Pair = tuple[str, str]
Frame = Callable[[Draw], Clause]
_MODULES = {"transport": transport, "people": people, "weather": weather}


def _frames(group: str, module: str) -> tuple[Frame, ...]:
    """The frames of a module that LEXICON[group] names, each as often as stands behind "*"."""
    shares = (entry.partition("*") for entry in LEXICON[group][module].split())
    return tuple(getattr(_MODULES[module], name) for name, _, share in shares for _ in range(int(share or 1)))


_TRANSPORT, _PEOPLE, _WEATHER = (_frames("frames", name) for name in ("transport", "people", "weather"))
_ALL_FRAMES = (_TRANSPORT, _TRANSPORT, _PEOPLE, _PEOPLE, _WEATHER)
_REASONS = tuple(frame for module in LEXICON["reasons"] for frame in _frames("reasons", module))
_REQUESTS = tuple(frame for module in LEXICON["requests"] for frame in _frames("requests", module))


def _frame(draw: Draw) -> Clause:
    return draw.pick(draw.pick(_ALL_FRAMES))(draw)


def _adverb(draw: Draw, clause: Clause) -> bool:
    """Adds "often" or "probably" where it fits; True when it is one of frequency, which wants no single day."""
    if clause.modal not in ("", "will"):
        return False
    if clause.tense == PRESENT and not clause.modal and clause.times in ("habit", "range") and draw.chance(0.6):
        clause.adverb = Part(*draw.pick(PAIRS["frequency"]), 0, R.OFTEN)
        return True
    clause.adverb = Part(*draw.pick(PAIRS["likelihood"]), 0, R.LIKELY)
    return False


def finish(draw: Draw, clause: Clause, tense: str = "", time: float = 0.5) -> Clause:
    """Gives a frame's clause its tense (chosen unless given), modal, negation, adverb and time."""
    ambiguous = clause.verb.past == clause.verb.base
    if tense:
        clause.tense = tense
    elif not ambiguous and draw.chance(0.28):
        clause.tense = PAST
    if clause.tense == PRESENT and clause.modals and draw.chance(0.25):
        clause.modal = draw.pick(clause.modals)
    if clause.negatable and clause.subject.definite and clause.modal not in ("must", "would like to"):
        clause.negative = draw.chance(0.13)
    often = not clause.negative and draw.chance(0.08) and _adverb(draw, clause)
    if clause.times != "none" and draw.chance(time):
        if often:
            clause.parts.append(Part(*at_clock(draw), E.TIME, R.TIME))
        else:
            clause.parts.append(when(draw, clause.tense, clause.times, bool(clause.modal)))
    return clause


def _can_be_past(clause: Clause) -> bool:
    return clause.verb.past != clause.verb.base


def statement(draw: Draw) -> Pair:
    """One main clause, sometimes with time, place or cause in front."""
    clause = finish(draw, _frame(draw), time=0.65)
    fronts = [part for part in clause.parts if part.front]
    if fronts and draw.chance(0.35):
        front = draw.pick(fronts)
        return f"{front.en}, {english(clause, without=front)}.", f"{german(clause, front=front)}."
    if draw.chance(0.04):
        return f"unfortunately, {english(clause)}.", f"{german(clause, front=_UNFORTUNATELY)}."
    return f"{english(clause)}.", f"{german(clause)}."


_UNFORTUNATELY = Part("unfortunately", "leider", 0, R.LIKELY)


def question(draw: Draw) -> Pair:
    """A yes-or-no question."""
    clause = finish(draw, _frame(draw), time=0.4)
    clause.negative = False
    if clause.adverb and clause.adverb.de_rank == R.LIKELY:
        clause.adverb = None
    return f"{english(clause, ask=True)}?", f"{german(clause, ask=True)}?"


def _asked_time(draw: Draw) -> tuple[Clause, str, str]:
    clause = finish(draw, _frame(draw), time=0.0)
    if clause.times != "none" and draw.chance(0.5):
        return clause, "when", "wann"
    return clause, "why", "warum"


def _asked_cost(draw: Draw) -> tuple[Clause, str, str]:
    clause = people.cost(draw, bare=False)
    clause.parts.clear()
    return clause, "how much", "wie viel"


def _asked_duration(draw: Draw) -> tuple[Clause, str, str]:
    clause = people.duration(draw)
    clause.parts.clear()
    return clause, "how long", "wie lange"


def _asked_place(draw: Draw) -> tuple[Clause, str, str]:
    name = draw.pick(("live", "work", "stop", "change", "get_off", "depart"))
    action = VERBS[name]
    subject = vehicle(draw, action) if name in ("stop", "depart") else person(draw, action)
    return finish(draw, Clause(subject, action, modals=("can", "must", "will")), time=0.3), "where", "wo"


def _asked(draw: Draw) -> tuple[Clause, str, str]:
    maker = draw.pick((_asked_cost, _asked_duration, *(_asked_place,) * 2, *(_asked_time,) * 8))
    clause, word, meaning = maker(draw)
    clause.negative = False
    clause.adverb = None
    return clause, word, meaning


def open_question(draw: Draw) -> Pair:
    """A question with when, why, where, how much or how long."""
    clause, word, meaning = _asked(draw)
    return f"{word} {english(clause, ask=True)}?", f"{meaning} {german(clause, ask=True)}?"


def _doable(draw: Draw, makers: tuple[Frame, ...], subject: Phrase) -> Clause:
    """A clause about that subject whose verb is something that one can be asked to do."""
    draw.subject = subject
    while True:
        clause = draw.pick(makers)(draw)
        if clause.verb.key not in verbs.UNASKED:
            draw.subject = None
            return clause
        draw.names.clear()
        draw.combinations.clear()


def request(draw: Draw) -> Pair:
    """A polite request: "Please bring the documents along." """
    clause = _doable(draw, _REQUESTS, grammar.SIE)
    if draw.chance(0.5):
        clause.parts.append(when(draw, PRESENT, "any", True))
    if clause.negatable and draw.chance(0.15):
        clause.negative = True
    refusal = "do not " if clause.negative else ""
    return f"please {refusal}{grammar.english_base(clause)}.", f"bitte {grammar.german_request(clause)}."


def with_clause(draw: Draw) -> Pair:
    """A main clause and a reason, condition or concession, in either order."""
    word, meaning = draw.pick(PAIRS["joins"])
    tense = PRESENT if word == "if" or draw.chance(0.65) else PAST
    main, side = _frame(draw), draw.pick(_REASONS)(draw)
    if not (_can_be_past(main) and _can_be_past(side)):
        tense = PRESENT
    main = finish(draw, main, tense, 0.25)
    side = finish(draw, side, tense, 0.15)
    if word == "if":
        side.modal, side.adverb = "", None
    if draw.chance(0.35):
        return (
            f"{word} {english(side)}, {english(main)}.",
            f"{meaning} {grammar.german_last(side)}, {grammar.german_after(main)}.",
        )
    comma = "," if word == "although" else ""
    return (
        f"{english(main)}{comma} {word} {english(side)}.",
        f"{german(main)}, {meaning} {grammar.german_last(side)}.",
    )


def reported(draw: Draw) -> Pair:
    """Somebody says that ..., asks whether ..., knows when ..."""
    roll = draw.random()
    if roll < 0.55:
        action = draw.pick((*verbs.SAYING, VERBS["know_that"]))
        head = Clause(person(draw, action, named=0.4), action)
        inner = finish(draw, _frame(draw), time=0.35)
        return f"{english(head)} that {english(inner)}.", f"{german(head)}, dass {grammar.german_last(inner)}."
    action = draw.pick((*verbs.ASKING, VERBS["know_that"], VERBS["know_that"]))
    head = Clause(person(draw, action, named=0.4), action)
    if action is VERBS["know_that"] and head.subject.definite:
        head.negative = True
    if roll < 0.8:
        inner = finish(draw, _frame(draw), time=0.35)
        inner.negative = False
        return f"{english(head)} whether {english(inner)}.", f"{german(head)}, ob {grammar.german_last(inner)}."
    inner, word, meaning = _asked(draw)
    return f"{english(head)} {word} {english(inner)}.", f"{german(head)}, {meaning} {grammar.german_last(inner)}."


def infinitive(draw: Draw) -> Pair:
    """It is important to fill in the form: "es ist wichtig, das Formular auszufüllen"; somebody tries to ..."""
    inner = _doable(draw, _REQUESTS[:7], grammar.ICH)
    if draw.chance(0.5):
        word, meaning = draw.pick(PAIRS["impersonal"])
        return f"it is {word} to {grammar.english_base(inner)}.", f"es ist {meaning}, {grammar.german_zu(inner)}."
    action = draw.pick(verbs.TRYING)
    head = Clause(person(draw, action, named=0.35), action)
    if draw.chance(0.45):
        head.tense = PAST
    return f"{english(head)} to {grammar.english_base(inner)}.", f"{german(head)}, {grammar.german_zu(inner)}."


def two_predicates(draw: Draw) -> Pair:
    """One subject, two predicates: "fährt um acht Uhr ab und kommt um zehn Uhr an"."""
    maker, group = draw.pick(
        (
            (transport.depart, (transport.arrive,)),
            (people.transitive, (people.transitive, people.ditransitive, transport.go_near)),
            (transport.stop, (transport.carry_on, transport.run)),
            (transport.go_far, (transport.go_near, people.live)),
        )
    )
    tense = PAST if draw.chance(0.3) else PRESENT
    first = maker(draw)
    draw.subject = first.subject
    second = draw.pick(group)(draw)
    draw.subject = None
    if not (_can_be_past(first) and _can_be_past(second)):
        tense = PRESENT
    first.modals = second.modals = ()
    first, second = finish(draw, first, tense, 0.4), finish(draw, second, tense, 0.3)
    first.negative = second.negative = False
    text = f"{english(first)} and {english(second, subject=False)}."
    return text, f"{german(first)} und {grammar.german_more(second)}."


def contrast(draw: Draw) -> Pair:
    """Two main clauses joined by "but"."""
    first = finish(draw, _frame(draw), time=0.25)
    second = finish(draw, draw.pick(_REASONS)(draw), time=0.25)
    return f"{english(first)}, but {english(second)}.", f"{german(first)}, aber {german(second)}."


_KINDS: dict[Callable[[Draw], Pair], float] = {
    statement: 0.56,
    question: 0.68,
    open_question: 0.76,
    request: 0.86,
    with_clause: 0.91,
    reported: 0.95,
    infinitive: 0.97,
    two_predicates: 0.99,
    contrast: 1.0,
}
"""Kinds of sentence with their cumulative shares."""
_MAKERS, _LIMITS = tuple(_KINDS), tuple(_KINDS.values())


def sentence(draw: Draw) -> Pair:
    """One sentence and its translation, both starting with a capital letter."""
    source, target = _MAKERS[bisect_right(_LIMITS, draw.random())](draw)
    if source.endswith("m.."):  # a full stop after "p.m." is not written twice
        source = source[:-1]
    return source[0].upper() + source[1:], target[0].upper() + target[1:]
