"""Named classification problems: small files of the published formats, written here, and what is read of them."""

import io
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from seqlib.problems import load_problem
from seqlib.util.errors import DataError

FILES = {
    "sst2": {"train.tsv": b"sentence\tlabel\r\na fine film\t1\r\nno\t0\r\n", "dev.tsv": b"label\tcontent\n0\tdull .\n"},
    "cola": {"train.tsv": b"gj04\t1\t\tThey eat.\ngj04\t0\t*\tThey eats.\n", "dev.tsv": b"gj04\t1\t\tWe go.\n"},
    "mrpc": dict.fromkeys(
        ("train.tsv", "dev.tsv", "msr_paraphrase_test.txt"),
        b"\xef\xbb\xbfQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t7\t8\tHe went.\tHe left.\n",
    ),
    "stsb": dict.fromkeys(
        ("train.tsv", "dev.tsv"), b"index\tsentence1\tsentence2\tscore\n0\tA plane.\tAn air plane.\t4.6\n"
    ),
    "ag_news": {
        "train.csv": b'"3","Oil #39;up","It rose\\again"\n"1","UN","Talks ""go"" on"\n',
        "test.csv": b'"4","Web","New, fast"\n',
    },
    "trec": {
        "train_5500.label": b"NUM:dist How far ?\nHUM:ind Who is \xf0 ?\n",
        "TREC_10.label": b"LOC:city Where ?\n",
    },
    "sms_spam": {"SMSSpamCollection": b"ham\tHi\nspam\tWIN now\nham\tok\nham\tyes\nspam\tfree\n"},
}
EXPECTED = {
    "sst2": ("train", [("a fine film", "", "positive"), ("no", "", "negative")]),
    "cola": ("train", [("They eat.", "", "acceptable"), ("They eats.", "", "unacceptable")]),
    "mrpc": ("test", [("He went.", "He left.", "equivalent")]),
    "stsb": ("dev", [("A plane.", "An air plane.", "4.6")]),
    "ag_news": ("train+dev", [("Oil'up It rose again", "", "Business"), ('UN Talks "go" on', "", "World")]),
    "trec": ("train+dev", [("How far ?", "", "NUM"), ("Who is ð ?", "", "HUM")]),
    "sms_spam": ("test", [("free", "", "spam")]),
}


def _written(folder: Path, name: str) -> Path:
    for file, content in FILES[name].items():
        (folder / file).write_bytes(content)
    return folder


@pytest.mark.parametrize("name", FILES)
def test_local_files(tmp_path: Path, name: str) -> None:
    problem = load_problem(f"classify_{name}", data_dir=_written(tmp_path, name))
    split, expected = EXPECTED[name]
    found = [(record.source, record.target, record.label) for record in problem.read(split)]
    assert sorted(found) == sorted(expected)
    assert problem.digest() == problem.digest()
    assert len(problem.targets([label for *_, label in expected])) == len(expected)
    assert problem.card()["licence"] and problem.card()["citation"]


@pytest.mark.parametrize("packed", [True, False])
def test_folders_of_reviews(tmp_path: Path, packed: bool) -> None:
    texts = {"pos/cv000_1.txt": "good\n", "neg/cv001_2.txt": "bad", "pos/cv900_3.txt": "fine", "README": "about"}
    if packed:
        with tarfile.open(tmp_path / "movie_reviews.tar.xz", "w:xz") as tar:
            for name, text in texts.items():
                info = tarfile.TarInfo(f"movie_reviews/{name}")
                info.size = len(text)
                tar.addfile(info, io.BytesIO(text.encode()))
    else:
        for name, text in texts.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
    problem = load_problem("classify_movie_reviews", data_dir=tmp_path)
    assert [(record.source, record.label) for record in problem.records("test")] == [("fine", "positive")]
    assert len([*problem.read("train+dev")]) == 2


def test_rows_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, config: str | None, split: str) -> list[dict[str, Any]]:
        assert (name, config, split) == ("nyu-mll/glue", "stsb", "validation")
        return [{"sentence1": "a", "sentence2": "b", "label": 2.5}]

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load))
    (record,) = load_problem("classify_stsb").records("dev")
    assert (record.source, record.target, record.label) == ("a", "b", "2.5")


@pytest.mark.parametrize(
    ("name", "file", "content", "message"),
    [
        ("sst2", "train.tsv", b"sentence\tlabels\nx\t1\n", r"train.tsv:1: there is no column 'label'"),
        ("sst2", "train.tsv", b"sentence\tlabel\nx\t7\n", r"train.tsv:2: the label is '7', expected 0, 1"),
        ("trec", "TREC_10.label", b"WHAT:x y\n", r"TREC_10.label:1: the label is 'WHAT'"),
        ("ag_news", "train.csv", b'"3"\n', r"train.csv:1: 1 columns"),
        ("sms_spam", "SMSSpamCollection", b"ham\n", r"SMSSpamCollection:1: 1 columns, expected at least 2"),
    ],
)
def test_damage_names_file_and_line(tmp_path: Path, name: str, file: str, content: bytes, message: str) -> None:
    problem = load_problem(f"classify_{name}", data_dir=_written(tmp_path, name))
    (tmp_path / file).write_bytes(content)
    with pytest.raises(DataError, match=message):
        [record for split in problem.splits() for record in problem.records(split)]


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"looked in .* for TREC_10.label .*--data_dir FOLDER"):
        next(load_problem("classify_trec", data_dir=tmp_path).records("test"))
    with pytest.raises(DataError, match="no --data_dir was given"):
        next(load_problem("classify_trec").records("test"))


def test_a_wrong_checksum_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (_written(tmp_path, "trec") / "TREC_10.label").rename(tmp_path / "test.label")
    load_problem("classify_trec", data_dir=tmp_path).digest()
    assert "test.label: differs from the published" in capfd.readouterr().err


def test_docstrings_by_module() -> None:
    problem = load_problem("classify_pydoc")
    texts = {split: list(problem.samples(split)) for split in problem.splits()}
    assert len(problem.labels.names) == 30 == len({label for _, label in texts["train"]})
    assert len(texts["train"]) > 1500 and len(texts["dev"]) > 150 and len(texts["test"]) > 150
    assert not {text.lower() for text, _ in texts["train"]} & {text.lower() for text, _ in texts["test"]}
    assert not any("asyncio" in text.lower() for text, label in texts["train"] if label == "asyncio")
