"""Parquet files and data sets of the hub. What reads them is the extra `data`; without it only errors are tested."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from seqlib.data.columnar import data_bytes, local_handle
from seqlib.data.prepare import prepare
from seqlib.data.sources import PairSource, absolute_source, parse_data
from seqlib.problems.translate_files import from_data
from seqlib.util.errors import DataError, UsageError

ROWS = [(f"sentence {n}", f"Satz {n}") for n in range(10_000)]


@pytest.fixture
def arrow() -> Any:
    return pytest.importorskip("pyarrow", reason="pyarrow (extra `data`) is not installed")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The library `datasets`, its cache in a temporary folder."""
    pytest.importorskip("pyarrow", reason="pyarrow (extra `data`) is not installed")
    datasets = pytest.importorskip("datasets", reason="datasets (extra `data`) is not installed")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "hub"))
    datasets.disable_progress_bars()
    return datasets


def parquet(arrow: Any, file: Path, **columns: Any) -> str:
    import pyarrow.parquet

    pyarrow.parquet.write_table(arrow.table(columns), file, row_group_size=3000)
    return str(file)


def pairs(source: PairSource) -> list[tuple[str, str]]:
    return [record.pair() for record in source.records()]


def test_parquet(arrow: Any, tmp_path: Path) -> None:
    english, german = ([row[side] for row in ROWS] for side in (0, 1))
    flat = parquet(arrow, tmp_path / "flat.parquet", id=list(range(len(ROWS))), de=german, en=english)
    source = PairSource((flat,), languages=("en", "de"))
    assert pairs(source) == ROWS
    assert pairs(source.swapped()) == [(b, a) for a, b in ROWS]
    assert (source.count(), source.found_languages()) == (len(ROWS), ("en", "de"))
    assert [record.line for record in source.records()][4095:4098] == [4096, 4097, 4098]
    nested = parquet(arrow, tmp_path / "nested.parquet", translation=[{"en": a, "de": b} for a, b in ROWS])
    problem = from_data(nested)
    assert (problem.source_language, problem.target_language) == ("en", "de")
    assert pairs(problem.corpora[0]) == ROWS
    named = PairSource((nested,), source="translation.de", target="translation.en")
    assert pairs(named) == [(b, a) for a, b in ROWS]
    weights = [0.5 * (n % 3) for n in range(len(ROWS))]
    weighed = parquet(arrow, tmp_path / "w.parquet", src=english, tgt=german, w=weights)
    assert [record.weight for record in PairSource((weighed,), weight="w").records()] == weights


def test_a_folder_is_prepared_from_parquet(arrow: Any, tmp_path: Path) -> None:
    english, german = ([row[side] for row in ROWS[:400]] for side in (0, 1))
    file = parquet(arrow, tmp_path / "corpus.en-de.parquet", src=[*english[:-1], None], tgt=german)
    data = prepare(from_data(file), tmp_path / "cache", tokenizer="bytes", vocab_size=None)
    reason = data.report.cleaning.reasons["unreadable"]
    assert (len(data.train) + len(data.dev) + len(data.test), reason.count) == (399, 1)
    assert reason.samples[0][1:3] == (400, "field 'src' is null, expected a string")


def test_rows_that_cannot_be_read_are_told(arrow: Any, tmp_path: Path) -> None:
    file = parquet(
        arrow, tmp_path / "bad.parquet", src=["a", None, "c\0", "d"], tgt=["A", "B", "C", "D"], n=[1, 2, 3, 4]
    )
    problems = [r.problem for r in PairSource((file,)).records(strict=False)]
    assert problems == [
        "",
        f"{file}:2: field 'src' is null, expected a string",
        f"{file}:3: field 'src' has a NUL: the data are binary or damaged",
        "",
    ]
    with pytest.raises(DataError, match=r"bad.parquet:1: field 'n' is int, expected a string"):
        pairs(PairSource((file,), source="n", target="tgt"))
    with pytest.raises(DataError, match=r"there is no column 'scr' \(columns: src, tgt, n\); did you mean src"):
        pairs(PairSource((file,), source="scr", target="tgt"))


def test_damaged_files(arrow: Any, tmp_path: Path) -> None:
    whole = Path(parquet(arrow, tmp_path / "whole.parquet", src=["a" * 500] * 9, tgt=["b"] * 9)).read_bytes()
    cut, noise = tmp_path / "cut.parquet", tmp_path / "noise.parquet"
    cut.write_bytes(whole[:-30])
    noise.write_bytes(b"no table at all")
    for file in (cut, noise):
        with pytest.raises(DataError, match=rf"{file.name}: not a Parquet table, or damaged or cut short"):
            PairSource((str(file),)).check()
    with pytest.raises(DataError, match=r"hole.parquet: there is no such file; did you mean whole.parquet"):
        from_data(str(tmp_path / "hole.parquet"))
    fields = parquet(arrow, tmp_path / "fields.parquet", one=["a"], two=["b"])
    with pytest.raises(DataError, match=r"fields.parquet: the fields are one, two; name the two to use, --columns"):
        from_data(fields)


def test_a_data_set_of_the_hub(hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for split, chosen in (("train", ROWS), ("validation", ROWS[:7])):
        lines = [json.dumps({"translation": {"en": a, "de": b}, "score": 1}) for a, b in chosen]
        (folder / f"{split}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    source = PairSource(("hf:corpus",))
    assert pairs(source) == ROWS and source.count() == len(ROWS)
    assert source.found_languages() == ("en", "de")
    assert pairs(PairSource((f"hf:{folder}:validation",))) == ROWS[:7]
    assert pairs(PairSource(("hf:corpus:default:train[:20]",))) == ROWS[:20]
    assert source.digest() == PairSource(("hf:corpus",)).digest() != PairSource(("hf:corpus:validation",)).digest()
    assert absolute_source("hf:corpus:validation") == f"hf:{folder}:validation"
    assert data_bytes("hf:corpus") > 100_000
    problem = from_data("hf:corpus", dev="hf:corpus:validation")
    assert (problem.name, len(list(problem.samples("dev")))) == ("translate_files_ende", 7)
    with pytest.raises(DataError, match=r"hf:corpus:test: cannot be loaded: .*check name, configuration and split"):
        PairSource(("hf:corpus:test",)).check()
    with pytest.raises(
        DataError, match=r"there is no column 'score2' \(columns: translation\.en, translation\.de, score\)"
    ):
        pairs(PairSource(("hf:corpus",), weight="score2"))


def test_handles() -> None:
    assert parse_data("hf:org/name:de-en:train") == ("hf:org/name:de-en:train",)
    assert absolute_source("hf:org/name") == local_handle("hf:org/name") == "hf:org/name"


@pytest.mark.parametrize("library", ["pyarrow", "datasets"])
def test_without_the_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    if library == "datasets":
        pytest.importorskip("pyarrow", reason="pyarrow (extra `data`) is not installed")
    (tmp_path / "a.parquet").touch()
    monkeypatch.setitem(sys.modules, library, None)
    for file in ("hf:some/name", *([str(tmp_path / "a.parquet")] if library == "pyarrow" else [])):
        with pytest.raises(UsageError, match=rf"{file}: reading it needs .*{library}.* the extra `data`"):
            PairSource((file,)).check()


@pytest.mark.parametrize("handle", ["hf:", "hf:a:b:c:d", "hf:a::b"])
def test_bad_handles(hub: Any, handle: str) -> None:
    with pytest.raises(UsageError, match=r"expected hf:name, hf:name:split, hf:name:config or hf:name:config:split"):
        PairSource((handle,)).check()
