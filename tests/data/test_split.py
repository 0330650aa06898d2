"""Held-out parts by hash, and split expressions."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqlib.data.records import Record
from seqlib.data.split import HashSplit, Part, parse_split, read_split, source_key
from seqlib.util.errors import UsageError

SIZES = {"train": 10, "dev": 3}


def stream(split: str):
    return (Record(f"{split}{place}", "", split, place) for place in range(SIZES[split]))


def read(expression: str) -> list[str]:
    return [record.source for record in read_split(expression, SIZES, stream)]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("train", range(10)),
        ("train[:80%]", range(8)),
        ("train[80%:]", range(8, 10)),
        ("train[2:5]", range(2, 5)),
        ("train[-3:]", range(7, 10)),
        ("train[:-3]", range(7)),
        ("train[-20%:]", range(8, 10)),
        ("train[25%:50%]", range(2, 5)),
        ("train[5:100]", range(5, 10)),
        ("train[5:2]", []),
        ("train[-5:2]", []),
        ("train[:]", range(10)),
        ("train[:0%]", []),
    ],
)
def test_expressions(expression: str, expected) -> None:
    assert read(expression) == [f"train{place}" for place in expected]


def test_joined() -> None:
    assert read("train[:2] + dev") == ["train0", "train1", "dev0", "dev1", "dev2"]


@given(st.integers(0, 1000), st.lists(st.integers(0, 100), max_size=5))
def test_percents_tile(size: int, cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), 100]
    limits = [Part("x", f"{a}%", f"{b}%").limits(size) for a, b in pairwise(edges)]
    assert limits[0][0] == 0
    assert limits[-1][1] == size
    assert all(one[1] == two[0] for one, two in pairwise(limits))


def test_bad_expressions() -> None:
    for expression in ("train[", "train[:5", "", "train+", "train[a:b]", "train[1]", "train[:1:2]", "train[:0.5]"):
        with pytest.raises(UsageError, match="cannot read"):
            parse_split(expression, SIZES)
    with pytest.raises(UsageError, match="more than 100%"):
        parse_split("train[:101%]", SIZES)
    with pytest.raises(UsageError, match="unknown split 'trian'; did you mean train"):
        read_split("trian", SIZES, stream)


def test_hash_split_holds_copies_together() -> None:
    split = HashSplit(0.3, 0.3)
    for text in ("Hello world", "Grüße", "x"):
        assert split.split_of(text) == split.split_of(f"  {text.upper()} ") == split.split_of(text.replace(" ", "\t"))
    assert source_key("e\u0301") == source_key("é")
    assert source_key("a b") != source_key("ab")


def test_hash_split_is_stable() -> None:
    """The same on every machine and in every version: these must never change."""
    assert source_key("Hello world") == 5814608031911216775


def test_hash_split_sizes() -> None:
    split = HashSplit.sized(100_000)
    found = [split.split_of(f"sentence {place}") for place in range(100_000)]
    assert found.count("dev") == pytest.approx(2000, abs=200)
    assert found.count("test") == pytest.approx(2000, abs=200)
    assert HashSplit.sized(1000) == HashSplit(0.1, 0.1)
    assert HashSplit.sized(50) == HashSplit(0.1, 0.1)
    assert HashSplit.sized(10_000, 0.05, 500) == HashSplit(0.05, 0.05)
    assert HashSplit.sized(10**7) == HashSplit(0.0002, 0.0002)
    assert HashSplit.sized(100, 0.0, 0.0) == HashSplit(0, 0)


def test_nothing_left_to_train_on() -> None:
    with pytest.raises(UsageError, match="leave nothing to train on"):
        HashSplit.sized(100, 60, 60)
    with pytest.raises(UsageError, match="leave nothing"):
        HashSplit(-0.1, 0)


@given(st.text())
def test_keys_take_any_text(text: str) -> None:
    assert 0 <= source_key(text) < 2**64
    assert HashSplit(0.2, 0.2).split_of(text) in ("train", "dev", "test")
