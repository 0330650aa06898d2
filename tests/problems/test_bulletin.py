"""The bulletin language as a whole: an unambiguous function, splits kept apart, German that holds together."""

from __future__ import annotations

import math
import re
import zlib
from itertools import pairwise

import pytest

from seqlib.problems.bulletin import Bulletin, verbs, words
from seqlib.problems.bulletin.generator import PARTS
from seqlib.problems.bulletin.german import SEIN, modal
from seqlib.problems.bulletin.names import ENDS, EXCLUDED, MIDDLES, STARTS, is_held_out
from seqlib.problems.bulletin.nouns import NOUNS
from seqlib.problems.bulletin.offdomain import GIBBERISH, OFF_DOMAIN
from seqlib.problems.bulletin.verbs import Verb
from seqlib.problems.translate_bulletin import BulletinTranslation, ende
from seqlib.util.errors import UsageError


def all_names(kind):
    """Every name of a kind: place, surname or given."""
    middles = MIDDLES if kind == "given" else ("", *MIDDLES)
    made = [start + middle + end for start in STARTS for end in ENDS[kind] for middle in middles]
    return [name for name in made if name not in EXCLUDED]


def combination_split(pair):
    """The split that a combination belongs to."""
    return {0: "test", 1: "dev"}.get(zlib.crc32("|".join(pair).encode()) % PARTS, "train")


@pytest.fixture(scope="module")
def train():
    bulletin = Bulletin(0)
    return [bulletin.sample("train", number) for number in range(100_000)]


@pytest.fixture(scope="module")
def held_out():
    bulletin = Bulletin(0)
    return {split: list(bulletin.distinct(split, 500)) for split in ("dev", "test", "test_names")}


def test_the_same_english_never_has_two_translations(train, held_out):
    seen: dict[str, str] = {}
    for sample in [*train, *(sample for samples in held_out.values() for sample in samples)]:
        assert seen.setdefault(sample.source, sample.target) == sample.target
    assert len({sample.source for sample in train}) > 0.95 * len(train)


@pytest.mark.slow
def test_a_million_different_sentences():
    bulletin = Bulletin(0)
    seen: set[int] = set()
    for number in range(1_400_000):
        seen.add(hash(bulletin.sample("train", number).source))
    assert len(seen) >= 1_000_000


def test_the_language_has_more_than_a_million_sentences(train):
    """By the birthday bound: n draws with c repeats come from at least about n²/2c equally likely sentences, and
    unequal ones only repeat more often."""
    repeats = len(train) - len({sample.source for sample in train})
    language = len(train) ** 2 / (2 * max(repeats, 1))
    assert language > 1_000_000


def test_a_sample_is_a_pure_function_of_split_and_number():
    one, other = Bulletin(0), Bulletin(0)
    assert one.sample("train", 5) == other.sample("train", 5)
    assert [one.sample("test", n) for n in (9, 3)] == [other.sample("test", n) for n in (9, 3)]
    assert one.sample("train", 5) != Bulletin(1).sample("train", 5)
    with pytest.raises(ValueError, match="nope"):
        one.sample("nope", 0)


def test_pinned_samples():
    """Data must be the same on every machine and Python version, or scores could not be compared."""
    digest = zlib.crc32("\n".join(s.source + s.target for s in Bulletin(0).distinct("test", 50)).encode())
    assert digest == 3205801037


def test_splits_share_no_sentence_no_held_out_name_no_combination(train, held_out):
    sources = {sample.source for sample in train}
    for samples in held_out.values():
        ours = {sample.source for sample in samples}
        assert len(ours) == 500
        assert not ours & sources
        sources |= ours
    combinations = {pair for sample in train for pair in sample.combinations}
    assert {combination_split(pair) for pair in combinations} == {"train"}
    for split, other in (("test", "dev"), ("dev", "test")):
        for sample in held_out[split]:
            splits = {combination_split(pair) for pair in sample.combinations}
            assert split in splits
            assert other not in splits
            assert any(pair not in combinations for pair in sample.combinations)
    for sample in held_out["test_names"]:
        assert sample.names
        assert {combination_split(pair) for pair in sample.combinations} <= {"train"}


def test_test_names_are_seen_nowhere_else(train, held_out):
    known = {name for sample in [*train, *held_out["dev"], *held_out["test"]] for name in sample.names}
    fresh = {name for sample in held_out["test_names"] for name in sample.names}
    assert len(fresh) > 300
    assert not known & fresh
    assert all(is_held_out(name) for name in fresh)
    assert not any(is_held_out(name) for name in known)
    words_of_train = {word.strip(".,?") for sample in train for word in sample.source.split()}
    assert not fresh & words_of_train


def test_combinations_are_really_in_the_sentence(train):
    for sample in train[:20_000]:
        for _, word in sample.combinations:
            singular = [n for group in NOUNS.values() for n in group if n.en == word]
            forms = [singular[0].en, singular[0].en_plural] if singular else [word]
            assert any(form in sample.source.lower() for form in map(str.lower, forms)), sample


def test_names_are_copied_and_of_one_kind(train):
    named = [sample for sample in train if sample.names]
    assert 0.33 < len(named) / len(train) < 0.47
    for sample in named:
        assert all(name in sample.source and name in sample.target for name in sample.names)
    kinds = {kind: set(all_names(kind)) for kind in ENDS}
    assert not kinds["place"] & kinds["surname"]
    assert not kinds["place"] & kinds["given"]
    assert not kinds["surname"] & kinds["given"]
    assert sum(len(names) for names in kinds.values()) > 40_000
    vocabulary = {form for group in NOUNS.values() for n in group for form in (*n.de.singular, n.en.capitalize())}
    assert not vocabulary & (kinds["place"] | kinds["surname"] | kinds["given"])
    assert len(STARTS) * len(MIDDLES) > 1000
    every = sum(len(list(all_names(kind))) for kind in ENDS)
    assert math.isclose(sum(is_held_out(n) for k in kinds.values() for n in k) / every, 0.1, abs_tol=0.01)


def test_lengths_and_vocabulary(train):
    lengths = [len(sample.source.split()) for sample in train]
    assert 7 < sum(lengths) / len(lengths) < 11
    assert sum(4 <= length <= 16 for length in lengths) / len(lengths) > 0.93
    names = {name for sample in train for name in sample.names}
    for side, least, most in (("source", 850, 1050), ("target", 1200, 1450)):
        found = {word.strip(".,?").lower() for sample in train for word in getattr(sample, side).split()}
        found = {word for word in found if word.capitalize() not in names and not any(c.isdigit() for c in word)}
        assert least < len(found) < most, side


# German that holds together -------------------------------------------------------------------------------------


def _all_verbs() -> list[Verb]:
    single = list(verbs.VERBS.values())
    tables = [verbs.TRANSITIVE, verbs.DATIVE, verbs.DITRANSITIVE, verbs.SAYING, verbs.ASKING, verbs.TRYING]
    return [*single, *(entry for table in tables for entry in table), *(row[0] for row in verbs.PREPOSITIONAL)]


AUXILIARIES = {"habe", "hat", "haben", *SEIN}
MODALS = {form for name in "können müssen sollen wollen dürfen mögen werden".split() for form in modal(name)}
FINITE = {form for entry in _all_verbs() for form in (*entry.de.present, *(entry.de.preterite or ()))}
FINITE_LAST = {entry.de.prefix + form for entry in _all_verbs() for form in entry.de.present} | FINITE
FINITE |= AUXILIARIES | MODALS
FINITE_LAST |= AUXILIARIES | MODALS


def test_spelling_and_punctuation(train):
    for sample in train:
        for text in (sample.source, sample.target):
            assert text[0].isupper()
            assert text[-1] in ".?"
            assert "  " not in text
            assert not re.search(r"\s[.,?]|\.\.|,,|\{|\bNone\b", text), text
        assert (sample.source[-1] == "?") == (sample.target[-1] == "?")
        assert not re.search(r"[^,] (dass|weil|ob|obwohl|wenn) ", sample.target), sample.target


def test_subordinate_clauses_end_in_their_finite_verb(train):
    found = 0
    for sample in train[:40_000]:
        text = sample.target[:-1]
        match = re.search(r", (?:dass|weil|ob|obwohl|wenn|wann|warum) ([^,]+)$", text)
        if match:
            assert match[1].split()[-1] in FINITE_LAST, text
            found += 1
        match = re.match(r"(?:Weil|Wenn|Obwohl) ([^,]+), (\S+) ", text)
        if match:
            assert match[1].split()[-1] in FINITE_LAST, text
            assert match[2] in FINITE, text
            found += 1
    assert found > 2500


def test_verb_second_after_a_front(train):
    found = 0
    fronts = "Gestern|Leider|Übermorgen|Vorgestern|Bald|Jetzt|Heute Abend|Heute Nachmittag|Am Wochenende|Letzte Nacht"
    for sample in train:
        match = re.match(rf"(?:{fronts}) (\S+)", sample.target)
        if match and "," in sample.source and match[1] not in ("um", "Abend"):
            assert match[1] in FINITE, sample.target
            found += 1
    assert found > 300


STATEMENTS = {
    " departs": "ab", " depart": "ab", " arrives": "an", " takes place": "statt", " begins": "an", " gets off": "aus",
    " changes trains": "um", " turns back": "um", " continues": "weiter", " picks up": "ab", " calls": "an",
    " invites": "ein", " turns off": "aus", " turns on": "ein", " fills in": "aus", " brings along": "mit",
    " takes along": "mit", " gives back": "zurück", " takes part in": "teil", " listens to": "zu", " tries on": "an",
    " looks after": "auf", " weakens": "nach",
}  # fmt: skip


def test_separable_prefixes_stand_at_the_end_of_the_clause(train):
    found = dict.fromkeys(STATEMENTS, 0)
    said = re.compile(rf"\w({'|'.join(STATEMENTS)})\b")
    bent = re.compile(r" (can|cannot|must|should|may|will|not|to \w+(e|t|k|y|w)) ")
    loose = re.compile(r" (ab|statt|teil|weiter|zurück) (?!und )[a-zäöüA-Z]")
    for sample in train:
        target = sample.target
        assert not loose.search(target), target
        match = said.search(sample.source)
        if (
            match
            and target[-1] == "."
            and "," not in target
            and " und " not in target
            and not bent.search(sample.source)
        ):
            assert target.endswith(f" {STATEMENTS[match[1]]}."), target
            found[match[1]] += 1
    assert all(found.values()), found


def test_participles_and_infinitives_stand_at_the_end(train):
    participles = {entry.de.participle for entry in _all_verbs()}
    for sample in train[:40_000]:
        text = sample.target[:-1]
        if "," in text or " und " in text:
            continue
        first = text.split()
        if any(word in AUXILIARIES for word in first) and any(word in participles for word in first):
            assert first[-1] in participles or first[-1] in FINITE_LAST, text


DATIVE_FORMS = {"dem", "der", "den"}
DATIVE_FORMS |= {
    stem + end for stem in "ein kein mein unser Ihr sein ihr dies jed".split() for end in ("em", "er", "en")
}
DATIVE_FORMS |= {"allen", "vielen", "einigen"}
ACCUSATIVE_FORMS = {"den", "die", "das", "ein", "eine", "einen", "unser", "unsere", "unseren"}
DETERMINER = re.compile(
    r"^(der|die|das|dem|den|(ein|kein|mein|unser|Ihr|sein|ihr)(e|en|em|er|es)?|(dies|jed)(e|en|em|er|es)|alle[nr]?|vielen?|einigen?)$"
)


def _after(text: str, preposition: str) -> list[str]:
    tokens = re.sub(r"[.,?]", " |", text).split()
    return [after for before, after in pairwise(tokens) if before == preposition]


@pytest.mark.parametrize("preposition", ["mit", "von", "bei", "gegenüber", "aus", "seit"])
def test_dative_prepositions(train, preposition):
    for sample in train[:40_000]:
        for word in _after(sample.target, preposition):
            if DETERMINER.match(word):
                assert word in DATIVE_FORMS, sample.target


def test_accusative_and_genitive_prepositions(train):
    for sample in train[:40_000]:
        for word in _after(sample.target, "durch"):
            assert word in ACCUSATIVE_FORMS, sample.target
        for word in _after(sample.target, "wegen"):
            assert word in {"des", "der", "eines", "einer", "Bauarbeiten"}, sample.target


def test_motion_takes_the_accusative_and_rest_the_dative(train):
    moved = rested = 0
    for sample in train:
        match = re.search(r"\b(?:unter|hinter|neben|vor) (\w+) (?:\w+ )?(?:Tisch|Stuhl|Schrank)\b", sample.target)
        if match and re.search(r"\bput", sample.source, re.IGNORECASE):
            moved += match[1].endswith("en")
            assert match[1].endswith("en"), sample.target
        elif match and re.search(r"\b(is|are|was|were|be)\b", sample.source, re.IGNORECASE):
            rested += match[1].endswith("em")
    assert moved > 50
    assert rested > 50


ARTICLES = {
    "der": {"m", "f"}, "die": {"f"}, "das": {"n"}, "dem": {"m", "n"}, "den": {"m"},
    "ein": {"m", "n"}, "eine": {"f"}, "einen": {"m"}, "einem": {"m", "n"}, "einer": {"f"},
    "diese": {"f"}, "dieses": {"n"}, "diesen": {"m"}, "diesem": {"m", "n"}, "jede": {"f"}, "jedes": {"n"},
    "dieser": {"m", "f"}, "jeder": {"m", "f"}, "zum": {"m", "n"}, "zur": {"f"}, "im": {"m", "n"}, "ins": {"n"},
    "am": {"m", "n"}, "beim": {"m", "n"}, "vom": {"m", "n"},
}  # fmt: skip
HAND_GENDERS = {
    "m": "Zug Bus Nachtzug Arzt Gast Termin Bahnhof Flughafen See Park Mantel Hut Rock Brief Pass Tisch Stuhl "
    "Schrank Apfel Käse Kaffee Tee Wind Regen Schnee Nebel Sturm Weg Supermarkt Garten Wald Korb Kurs",
    "f": "Straßenbahn Fähre Frau Prüfung Besprechung Brücke Schule Kirche Apotheke Stadt Küste Straße Jacke "
    "Tasche Fahrkarte Rechnung Zeitung Lampe Birne Milch Butter Bibliothek Hochzeit Party Tür Linie",
    "n": "Schiff Boot Kind Konzert Museum Kino Hotel Rathaus Dorf Tal Hemd Kleid Buch Formular Paket Radio Fahrrad "
    "Bett Regal Ei Brot Wasser Bier Tor",
}  # fmt: skip


def test_articles_agree_with_genders_known_by_hand(train):
    genders = {word: gender for gender, line in HAND_GENDERS.items() for word in line.split()}
    checked = 0
    for sample in train:
        tokens = re.sub(r"[.,?]", "", sample.target).split()
        for position, word in enumerate(tokens):
            if word not in genders:
                continue
            for back in (1, 2):
                article = tokens[position - back].lower() if position >= back else ""
                between = tokens[position - 1] if back == 2 else ""
                if article in ARTICLES and (back == 1 or re.fullmatch(r"[a-zäöüß]+(e|en|er|es)", between)):
                    if back == 2 and between in FINITE | {"diesen", "ihren", "seinen", "keinen", "unseren", "einen"}:
                        break
                    assert genders[word] in ARTICLES[article], sample.target
                    checked += 1
                    break
    assert checked > 20_000


def test_adjectives_after_der_end_in_e_or_en(train):
    for sample in train[:40_000]:
        for article, adjective in re.findall(r"\b(dem|des|im|zum|zur|beim|am) ([a-zäöüß]+) [A-ZÄÖÜ]", sample.target):
            if adjective not in FINITE | {"viele", "drei", "zwei"}:
                assert adjective.endswith("en"), (article, sample.target)


# The problem ------------------------------------------------------------------------------------------------------


def test_the_problem():
    problem = BulletinTranslation(train_size=200)
    assert problem.splits() == ("train", "dev", "test", "test_names")
    assert [len(list(problem.samples(split))) for split in problem.splits()] == [200, 500, 500, 300]
    assert list(problem.samples("train")) == list(problem.samples("train"))
    assert len({source for source, _ in problem.samples("train")}) == 200
    assert problem.digest() == BulletinTranslation(train_size=200).digest()
    assert problem.digest() != ende().digest()
    assert problem.in_domain(5) == [source for source, _ in problem.samples("test")][:5]
    with pytest.raises(UsageError, match="train_size"):
        BulletinTranslation(train_size=0)
    with pytest.raises(UsageError, match="test_names"):
        list(problem.samples("test_nams"))


def test_off_domain_sentences_are_not_of_the_language(train):
    assert len(OFF_DOMAIN) == len(set(OFF_DOMAIN)) >= 100
    assert len(GIBBERISH) >= 10
    ours = {sample.source for sample in train}
    assert not ours & {*OFF_DOMAIN, *GIBBERISH}
    assert ende().off_domain() == list(OFF_DOMAIN)
    assert ende().gibberish() == list(GIBBERISH)
    assert len(words.PAIRS["causes"]) == len(set(words.PAIRS["causes"]))
