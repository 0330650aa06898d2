"""People's own tables: what is found out about them, how they are split, and what is said of bad ones."""

import gzip
from collections import Counter
from pathlib import Path

import pytest

from seqlib.data.prepare import prepare
from seqlib.problems.classify_files import detect_encoding, from_data
from seqlib.util.errors import DataError, UsageError

ROWS = [f"the {kind} number {n},{kind}" for n in range(40) for kind in ("good", "bad", "odd")]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "reviews.csv"
    path.write_text("review,stars\n" + "\n".join(ROWS) + "\n")
    return path


def test_columns_labels_and_parts(table: Path, capfd: pytest.CaptureFixture[str]) -> None:
    problem = from_data(str(table), text="review", label="stars", dev_size=0.2, test_size=0.1)
    told = capfd.readouterr().err
    assert (problem.name, problem.labels.names) == ("classify_reviews", ("bad", "good", "odd"))
    assert "120 texts (text review, label stars, utf-8)" in told and "bad 40" in told
    for split, each in (("train", 28), ("dev", 8), ("test", 4)):
        assert Counter(record.label for record in problem.records(split)) == dict.fromkeys(problem.labels.names, each)


def test_copies_stay_together(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("\n".join(f"text {n % 30}\t{n % 2}" for n in range(300)) + "\n")
    problem = from_data(str(path), text="0", label="1", dev_size=0.3)
    train, dev = ({record.source for record in problem.records(split)} for split in ("train", "dev"))
    assert train and dev and not train & dev


@pytest.mark.parametrize(
    ("labels", "kind", "names"),
    [
        (["1", "2", "10"], "multi_class", ("1", "2", "10")),
        (["0.5", "1.5", "2"], "regression", ()),
        (["a;b", "b;c", "a;c", "a;b;c"], "multi_label", ("a", "b", "c")),
        (["yes", "no"], "multi_class", ("no", "yes")),
    ],
)
def test_what_labels_look_like(tmp_path: Path, labels: list[str], kind: str, names: tuple[str, ...]) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("text\tlabel\n" + "".join(f"text {n}\t{labels[n % len(labels)]}\n" for n in range(60)))
    found = from_data(str(path), text="text", label="label").labels
    assert (found.kind, found.names) == (kind, names)


def test_pairs_of_texts_in_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f'{{"a": "one {n}", "b": "two {n}", "same": {n % 2}}}\n' for n in range(40)))
    problem = from_data(str(path), text=("a", "b"), label="same")
    assert problem.labels.pairs
    assert {record.target.split()[0] for record in problem.records("train")} == {"two"}


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        ("é\n".encode() * 20, "utf-8"),
        ("é\n".encode("latin-1") * 20, "cp1252"),
        (b"\x81\xe9\n" * 9, "latin-1"),
        ("é\n".encode() * 30 + b"\xe9\n", "utf-8"),
        ("é".encode("utf-16"), "utf-16"),
    ],
)
def test_the_encoding_is_found(tmp_path: Path, content: bytes, encoding: str) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    assert detect_encoding(str(tmp_path / "a.txt")) == encoding
    assert detect_encoding(str(tmp_path / "a.txt"), "latin-1") == "latin-1"


def test_rows_that_cannot_be_used_are_counted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.csv"
    bad = "empty label,\nnot a number,NaN\n ,good\n"
    path.write_text("review,stars\n" + "\n".join(ROWS * 3) + "\n" + bad)
    problem = from_data(str(path), text="review", label="stars")
    told = capfd.readouterr().err
    assert "1 empty, 2 without a label or unreadable" in told and "a.csv:362: there is no label" in told
    data = prepare(problem, tmp_path / "cache", vocab_size=300, tokenizer="characters")
    assert len(data.store("train")) == len(data.targets("train"))
    cleaning = data.report.cleaning.reasons
    assert (cleaning["unreadable"].count, cleaning["empty"].count) == (2, 1)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"text": "reviews", "label": "stars"}, DataError, r"no column 'reviews' in the header .*did you mean review"),
        ({"text": "review", "label": "star"}, DataError, r"no column 'star' in the header .*did you mean stars"),
        ({"text": (), "label": "stars"}, UsageError, "name that of the text"),
        ({"text": "stars", "label": "review"}, DataError, "120 different values in 120 rows"),
    ],
)
def test_wrong_columns(table: Path, settings: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        from_data(str(table), **settings)


def test_a_label_that_train_has_not(table: Path, tmp_path: Path) -> None:
    test = tmp_path / "test.csv"
    test.write_text("review,stars\nfine,good\nwell,goood\n")
    problem = from_data(str(table), text="review", label="stars", test=str(test))
    with pytest.raises(DataError, match=r"test.csv:3: unknown label 'goood'; did you mean good"):
        prepare(problem, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("classify_*/"))  # no half cache


def test_a_truncated_archive(table: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.csv.gz"
    path.write_bytes(gzip.compress(table.read_bytes())[:-20])
    with pytest.raises(DataError, match=r"cut.csv.gz: the compressed file is damaged or cut short"):
        from_data(str(path), text="review", label="stars")


def test_one_label_alone(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("text\tlabel\none\tgood\ntwo\tgood\n")
    with pytest.raises(DataError, match="all texts have the label 'good'"):
        from_data(str(tmp_path / "a.tsv"), text="text", label="label")
