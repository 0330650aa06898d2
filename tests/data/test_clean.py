"""Cleaning: every reason, the report, the set of seen keys."""

import json

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqlib.data.clean import CleanReport, CleanRules, SeenKeys, clean
from seqlib.data.records import Record
from seqlib.util.errors import DataError


def records(pairs: list[tuple[str, str]]) -> list[Record]:
    return [Record(source, target, "a.en", line) for line, (source, target) in enumerate(pairs, 1)]


DIRTY = [
    ("a dog", "ein Hund"),
    ("", "leer"),
    ("empty", "  "),
    ("x" * 2001, "y" * 2001),
    ("short", "an answer that is far too long for it, " * 3),
    ("same", " same "),
    ("a  dog", "ein Hund "),
    ("a dog", "der Hund"),
]


def test_every_reason_once() -> None:
    report = CleanReport()
    kept = list(clean(records(DIRTY), CleanRules(), report))
    assert [record.line for record in kept] == [1, 8]
    counts = {name: reason.count for name, reason in report.reasons.items()}
    assert counts == {
        "unreadable": 0,
        "empty": 2,
        "over-long": 1,
        "length ratio": 1,
        "source = target": 1,
        "duplicate": 1,
    }
    assert (report.read, report.kept, report.dropped) == (8, 2, 6)
    assert report.reasons["duplicate"].samples == [("a.en", 7, "a  dog", "ein Hund ")]
    table = report.table()
    assert "8 pairs read, 2 kept, 6 dropped (75.00 %)" in table
    assert "a.en:7: a  dog ||| ein Hund" in table
    assert msgspec.convert(json.loads(json.dumps(report.to_json())), CleanReport) == report


def test_only_empty() -> None:
    report = CleanReport()
    kept = list(clean(records(DIRTY), CleanRules.only_empty(), report))
    assert len(kept) == 6
    assert report.reasons["empty"].count == 2


def test_at_most_five_samples_and_texts_are_cut() -> None:
    report = CleanReport()
    assert not list(clean(records([("x" * 3000, "y" * 3000)] * 9), CleanRules(), report))
    reason = report.reasons["over-long"]
    assert (reason.count, len(reason.samples)) == (9, 5)
    assert reason.samples[0][2:] == ("x" * 59 + "… (3,000 characters)", "y" * 59 + "… (3,000 characters)")


def test_length_ratio_is_fair_to_scripts() -> None:
    fair = [
        ("Thank you very much for your kind letter of last week.", "谢谢您上周的来信。"),
        ("OK", "Einverstanden"),
        ("hello my dear friends, how are you?", "γειά σας αγαπητοί μου φίλοι, τι κάνετε;"),
    ]
    assert len(list(clean(records(fair), CleanRules(), CleanReport()))) == 3


def bad(line: int) -> Record:
    return Record("", "", "a.en", line, f"a.en:{line}: byte 3 (0xff) is not utf-8")


def test_a_few_unreadable_lines_are_dropped() -> None:
    report = CleanReport()
    good = records([(f"word {place}", f"Wort {place}") for place in range(300)])
    assert len(list(clean([*good, bad(301)], CleanRules(), report))) == 300
    assert report.reasons["unreadable"].samples == [("a.en", 301, "byte 3 (0xff) is not utf-8", "")]


def test_many_unreadable_lines_refuse_the_file() -> None:
    good = records([("a", "b"), ("c", "d")])
    with pytest.raises(DataError, match=r"a\.en:3: byte 3 .*\n1 of 3 lines cannot be read"):
        list(clean([*good, bad(3)], CleanRules(), CleanReport()))


def test_a_wrong_encoding_is_refused_early() -> None:
    read = 0

    def endless():
        nonlocal read
        while True:
            read += 1
            yield bad(read)

    with pytest.raises(DataError, match="cannot be read"):
        list(clean(endless(), CleanRules(), CleanReport()))
    assert read < 20_000


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 40), max_size=20), max_size=12))
def test_seen_keys_is_a_set(chunks: list[list[int]]) -> None:
    keys, seen = SeenKeys(), set()
    for chunk in chunks:
        expected = []
        for key in chunk:
            expected.append(key not in seen)
            seen.add(key)
        assert keys.add(np.array(chunk, np.uint64)).tolist() == expected
    assert len(keys) == len(seen)


def test_seen_keys_are_64_bit() -> None:
    keys = SeenKeys()
    big = np.array([2**64 - 1, 2**63, 2**53 + 1, 2**53], np.uint64)
    assert keys.add(big).all()
    assert not keys.add(big).any()
