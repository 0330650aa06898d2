"""Parallel corpora in every format, and the errors for what does not fit."""

import gzip
import json
from pathlib import Path

import pytest

from seqlib.data.sources import PairSource, parse_data
from seqlib.util.errors import DataError, UsageError

PAIRS = [("a dog", "ein Hund"), ('a "big" cat, old', "eine Katze"), ("snow", "Schnee ❄")]


def make(folder: Path, name: str, text: str) -> str:
    path = folder / name
    data = text.encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return str(path)


def pairs(source: PairSource) -> list[tuple[str, str]]:
    return [record.pair() for record in source.records()]


def csv_of(rows: list[tuple[str, ...]]) -> str:
    return "".join(",".join('"' + field.replace('"', '""') + '"' for field in row) + "\n" for row in rows)


FORMS = {
    "plain.tsv": "".join(f"{a}\t{b}\n" for a, b in PAIRS),
    "header.tsv": "id\tde\ten\n" + "".join(f"7\t{b}\t{a}\n" for a, b in PAIRS),
    "plain.csv": csv_of(PAIRS),
    "header.csv": csv_of([("target", "source"), *((b, a) for a, b in PAIRS)]),
    "named.jsonl": "".join(json.dumps({"source": a, "target": b}) + "\n" for a, b in PAIRS),
    "codes.jsonl": "".join(json.dumps({"de": b, "en": a}) + "\n\n" for a, b in PAIRS),
    "nested.ndjson": "".join(json.dumps({"translation": {"de": b, "en": a}}) + "\n" for a, b in PAIRS),
}


@pytest.mark.parametrize("packing", ["", ".gz"])
@pytest.mark.parametrize("name", FORMS)
def test_tables(tmp_path: Path, name: str, packing: str) -> None:
    file = make(tmp_path, name + packing, FORMS[name])
    source = PairSource((file,), languages=("en", "de"))
    assert pairs(source) == PAIRS
    assert pairs(source.swapped()) == [(b, a) for a, b in PAIRS]
    assert source.digest() == PairSource((file,), languages=("en", "de")).digest() != source.swapped().digest()


def test_two_files(tmp_path: Path) -> None:
    files = tuple(
        make(tmp_path, f"a.{code}.gz", "".join(pair[side] + "\n" for pair in PAIRS))
        for side, code in enumerate(("en", "de"))
    )
    source = PairSource(files)
    assert pairs(source) == PAIRS
    assert pairs(source.swapped()) == [(b, a) for a, b in PAIRS]
    assert [record.line for record in source.records()] == [1, 2, 3]


@pytest.mark.parametrize("columns", [(1, 0), ("de", "en")])
def test_columns_asked_for(tmp_path: Path, columns: tuple[str | int, str | int]) -> None:
    text = "en\tde\n" * isinstance(columns[0], str) + "x\ty\n"
    file = make(tmp_path, "a.tsv", text)
    assert pairs(PairSource((file,), "utf-8", *columns)) == [("y", "x")]


@pytest.mark.parametrize(("first", "second"), [(3, 2), (2, 3), (0, 1), (1, 0)])
def test_unequal_lines(tmp_path: Path, first: int, second: int) -> None:
    files = make(tmp_path, "a.en", "x\n" * first), make(tmp_path, "a.de", "y\n" * second)
    with pytest.raises(DataError, match=rf"a\.en has {first} lines but .*a\.de has {second}"):
        pairs(PairSource(files))


def test_lines_in_csv_fields(tmp_path: Path) -> None:
    file = make(tmp_path, "a.csv", 'one,eins\n"two\nlines","zwei\r\nZeilen"\n\nlast,letzte\n')
    records = list(PairSource((file,)).records())
    assert [record.pair() for record in records][1:] == [("two lines", "zwei Zeilen"), ("last", "letzte")]
    assert [record.line for record in records] == [1, 2, 6]


def test_bad_rows_are_reported_or_raise(tmp_path: Path) -> None:
    file = make(tmp_path, "a.tsv", "a\tb\nonly one\nc\td\n")
    with pytest.raises(DataError, match=r"a\.tsv:2: 1 column, expected at least 2"):
        pairs(PairSource((file,)))
    kept = list(PairSource((file,)).records(strict=False))
    assert [bool(record.problem) for record in kept] == [False, True, False]
    with pytest.raises(DataError, match="1 column"):
        kept[1].pair()


def test_bad_bytes_in_every_format(tmp_path: Path) -> None:
    for name, text in [
        ("a.tsv", b"a\tb\nx\xff\ty\n"),
        ("a.csv", b"a,b\nx\xff,y\n"),
        ("b.jsonl", b'{"source": "a", "target": "b"}\n{"\xff"\n'),
    ]:
        (tmp_path / name).write_bytes(text)
        source = PairSource((str(tmp_path / name),))
        with pytest.raises(DataError, match=rf"{name}:2: byte \d+ \(0xff\)"):
            pairs(source)
        assert [bool(record.problem) for record in source.records(strict=False)] == [False, True]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nonsense", r"a\.jsonl:2: not JSON"),
        ("[1]", r"a\.jsonl:2: expected a JSON object, got list"),
        ('{"source": "x"}', r"a\.jsonl:2: there is no field 'target'"),
        ('{"source": "x", "target": 3}', r"a\.jsonl:2: field 'target' is int, expected a string"),
    ],
)
def test_bad_json(tmp_path: Path, line: str, message: str) -> None:
    file = make(tmp_path, "a.jsonl", '{"source": "a", "target": "b"}\n' + line + "\n")
    with pytest.raises(DataError, match=message):
        pairs(PairSource((file,)))
    assert [bool(record.problem) for record in PairSource((file,)).records(strict=False)] == [False, True]


def test_fields_that_cannot_be_guessed(tmp_path: Path) -> None:
    file = make(tmp_path, "a.jsonl", '{"french": "a", "german": "b"}\n')
    with pytest.raises(DataError, match=r"the fields are french, german; name the two"):
        pairs(PairSource((file,)))
    assert pairs(PairSource((file,), "utf-8", "french", "german")) == [("a", "b")]


def test_bad_csv(tmp_path: Path) -> None:
    file = make(tmp_path, "a.csv", 'a,b\n"open,c\n')
    with pytest.raises(DataError, match=r"a\.csv:\d: the row that begins here is not CSV"):
        pairs(PairSource((file,)))


def test_unknown_column(tmp_path: Path) -> None:
    file = make(tmp_path, "a.tsv", "english\tgerman\nx\ty\n")
    with pytest.raises(DataError, match=r"no column 'germn' in the header \(english, german\); did you mean german"):
        pairs(PairSource((file,), "utf-8", "english", "germn"))


@pytest.mark.parametrize("name", ["a.tsv", "a.jsonl", "a.csv"])
def test_empty_table(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="the file is empty"):
        pairs(PairSource((make(tmp_path, name, ""),)))


def test_options_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one file must be"):
        PairSource(("a.en",))
    with pytest.raises(UsageError, match="both the source and the target"):
        PairSource(("a.tsv",), "utf-8", "x")
    with pytest.raises(UsageError, match="not for two parallel text files"):
        PairSource(("a.en", "a.de"), "utf-8", 0, 1)
    with pytest.raises(UsageError, match="got 3 files"):
        PairSource(("a", "b", "c"))
    with pytest.raises(UsageError, match="expected two parallel text files"):
        parse_data("a,b,c")
    with pytest.raises(DataError, match="is a folder"):
        pairs(PairSource((str(tmp_path), str(tmp_path))))
    assert parse_data("a.en, a.de") == ("a.en", "a.de")
    assert parse_data(make(tmp_path, "a,b.tsv", "")) == (str(tmp_path / "a,b.tsv"),)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.tsv", "en\tde\tw\none\teins\t2\ntwo\tzwei\t0.5\nthree\tdrei\tmuch\nfour\tvier\t-1\n"),
        ("c.csv", 'en,de,w\none,eins,2\ntwo,zwei,"0.5"\nthree,drei,much\nfour,vier,-1\n'),
        (
            "c.jsonl",
            '{"en": "one", "de": "eins", "w": 2}\n{"en": "two", "de": "zwei", "w": "0.5"}\n'
            '{"en": "three", "de": "drei", "w": null}\n{"en": "four", "de": "vier", "w": -1}\n',
        ),
    ],
)
def test_weights(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    source = PairSource((str(file),), languages=("en", "de"), weight="w")
    first, second, third, fourth = source.records(strict=False)
    assert (first.source, first.weight, second.weight) == ("one", 2.0, 0.5)
    for record in (third, fourth):
        assert f"{file}:{record.line}: the weight" in record.problem
        assert "is not a number of at least 0" in record.problem
    assert source.swapped().weight == "w"
    assert source.digest() != PairSource((str(file),), languages=("en", "de")).digest()
    assert source.count() == 4
