"""Multi30k from local files and from the hub's library; every way it can be missing."""

import gzip
import sys
from pathlib import Path
from types import ModuleType

import pytest

from seqlib.problems.translate_multi30k import deen, ende, enfr
from seqlib.util.errors import DataError, UsageError


@pytest.fixture
def real(shared_data: Path) -> Path:
    return shared_data / "multi30k"


@pytest.mark.parametrize("factory", [ende, deen, enfr])
def test_real_files(real: Path, factory, capsys) -> None:
    problem = factory(real)
    found = {split: list(problem.samples(split)) for split in problem.splits()}
    assert {split: len(pairs) for split, pairs in found.items()} == problem.sizes
    problem.digest()
    assert capsys.readouterr().err == ""  # these are the published files
    english = found["test"][0][problem.source_language != "en"]
    assert english == "A man in an orange hat starring at something."


def test_reversed_is_the_other_direction(real: Path) -> None:
    assert list(ende(real).reversed().samples("dev")) == list(deen(real).samples("dev"))


def test_other_names_and_packings(tmp_path: Path) -> None:
    for name in ("train.en", "train.de", "valid.en", "dev.de", "test2016.en", "test_2016_flickr.de"):
        (tmp_path / name).write_text(f"{name}\n")
    (tmp_path / "train.de").unlink()
    (tmp_path / "train.de.gz").write_bytes(gzip.compress(b"packed\n"))
    problem = ende(tmp_path)
    assert [list(problem.samples(split)) for split in ("train", "dev", "test")] == [
        [("train.en", "packed")],
        [("valid.en", "dev.de")],
        [("test2016.en", "test_2016_flickr.de")],
    ]


def test_other_content_is_told(tmp_path: Path, capsys) -> None:
    for stem in ("train", "val", "test_2016_flickr"):
        for language in ("en", "de"):
            (tmp_path / f"{stem}.{language}").write_text("x\n")
    first = ende(tmp_path).digest()
    said = capsys.readouterr().err
    assert "train.en: differs from the published train.en" in said
    (tmp_path / "val.de").write_text("y\n")
    assert ende(tmp_path).digest() != first


def test_missing_files(tmp_path: Path) -> None:
    (tmp_path / "trian.en").write_text("")
    with pytest.raises(
        DataError, match=r"looked in .* for train\.en \(plain, \.gz or \.zst\) .*near: trian\.en.*--data_dir"
    ):
        next(ende(tmp_path).samples("train"))
    with pytest.raises(DataError, match=r"there is no folder .*; to use local files pass --data_dir"):
        ende(tmp_path / "none").digest()
    with pytest.raises(UsageError, match="unknown split 'valid'"):
        next(ende(tmp_path).samples("valid"))


def test_unequal_files(tmp_path: Path) -> None:
    (tmp_path / "train.en").write_text("a\nb\n")
    (tmp_path / "train.de").write_text("a\n")
    with pytest.raises(DataError, match=r"train\.en has 2 lines but .*train\.de has 1"):
        list(ende(tmp_path).samples("train"))


def hub(monkeypatch: pytest.MonkeyPatch, load) -> None:
    library = ModuleType("datasets")
    library.load_dataset = load
    monkeypatch.setitem(sys.modules, "datasets", library)


def test_from_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load(name: str, config: str | None, split: str):
        asked.append((name, split))
        return [{"en": "a dog", "de": "ein Hund"}]

    hub(monkeypatch, load)
    assert list(ende().samples("dev")) == [("a dog", "ein Hund")]
    assert list(deen().samples("train")) == [("ein Hund", "a dog")]
    assert asked == [("bentrevett/multi30k", "validation"), ("bentrevett/multi30k", "train")]
    assert ende().digest() != deen().digest()
    assert ende().describe()["origin"].startswith("hub: ")


def test_hub_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, config: str | None, split: str):
        raise ConnectionError("no route")

    hub(monkeypatch, load)
    with pytest.raises(DataError, match=r"could not be fetched from the hub \(no route\); .*--data_dir"):
        next(ende().samples("train"))
    with pytest.raises(DataError, match="not on the hub in a form that can be read; to use local files"):
        next(enfr().samples("train"))


def test_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"no --data_dir was given, and the datasets library.*is not installed"):
        next(ende().samples("train"))
