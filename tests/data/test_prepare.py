"""prepare: what lies in the folder, the cache, atomicity, and every error on the way."""

import json
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import seqlib.data.prepare as module
from seqlib.data.batch import collate
from seqlib.data.clean import CleanRules
from seqlib.data.plan import bucket_plan
from seqlib.data.prepare import default_data_dir, prepare, read_texts
from seqlib.data.tokenizer import BytesTokenizer, train_tokenizer
from seqlib.problems.spec import ProblemSpec
from seqlib.problems.translation import Translation
from seqlib.util.errors import DataError, SeqlibError, UsageError


class Counting(Translation):
    """Numbers in words, as a problem that counts how often it is read."""

    name = "counting"
    source_language, target_language = "en", "de"
    tokenizer = "characters"
    vocab_size = 300
    reads = 0
    pairs = {
        "train": [(f"number {n}", f"Zahl {n}") for n in range(200)],
        "dev": [("one\nline", "eine\r\nZeile"), (" spaces  stay ", "\u2028 auch das"), ("", "leer")],
        "test": [("number 3", "Zahl drei")],
        "extra": [("x", "y")],
    }

    def splits(self) -> tuple[str, ...]:
        return tuple(self.pairs)

    def samples(self, split: str) -> Iterator[tuple[str, str]]:
        type(self).reads += 1
        return iter(self.pairs[split])


@pytest.fixture
def problem(monkeypatch: pytest.MonkeyPatch) -> Counting:
    monkeypatch.setattr(Counting, "reads", 0)
    return Counting()


def test_what_is_prepared(problem: Counting, tmp_path: Path) -> None:
    data = prepare(problem, tmp_path)
    assert data.folder.parent == tmp_path
    assert data.folder.name == f"counting-{data.digest[:12]}"
    assert {name: len(store) for name, store in data.stores.items()} == {"train": 200, "dev": 3, "test": 1, "extra": 1}
    assert data.spec == ProblemSpec(
        source_vocab=data.tokenizer.vocab_size,
        target_vocab=data.tokenizer.vocab_size,
        name="counting",
        source_language="en",
        target_language="de",
    )
    assert ProblemSpec.read(data.folder / "problem.json") == data.spec
    source, target = data.train.pair(7)
    assert (data.tokenizer.decode(source), data.tokenizer.decode(target)) == ("number 7", "Zahl 7")


def test_held_out_sentences_are_kept_as_they_are(problem: Counting, tmp_path: Path) -> None:
    data = prepare(problem, tmp_path)
    sources, targets = data.texts("dev")
    assert sources == ["one line", " spaces  stay ", ""]  # nothing is dropped; a line feed would break the file
    assert targets == ["eine\r Zeile", "\u2028 auch das", "leer"]
    with pytest.raises(UsageError, match="not kept"):
        data.texts("train")
    with pytest.raises(UsageError, match="unknown prepared split 'devv'; did you mean dev"):
        data.texts("devv")
    assert not list(data.folder.glob("train.*"))


def test_report(problem: Counting, tmp_path: Path) -> None:
    data = prepare(problem, tmp_path)
    report = json.loads((data.folder / "report.json").read_text())
    assert report["splits"]["train"]["pairs"] == 200
    assert report["splits"]["train"]["also_held_out"] == 1  # "number 3" is in test
    assert report["splits"]["train"]["source_tokens"] == sum(len(f"number {n}") for n in range(200))
    assert report["splits"]["dev"]["source_longest"] == len("spaces stay")
    assert report["problem"]["name"] == "counting"
    assert report["tokenizer"]["digest"] == data.tokenizer.digest
    table = data.report.table()
    assert "note: 1 sources of train also stand in a held-out split" in table
    assert "characters, vocabulary" in table


def test_the_second_call_reads_nothing(problem: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepare(problem, tmp_path)
    monkeypatch.setattr(module, "_spool", None)
    again = prepare(Counting(), tmp_path)
    assert again.folder == first.folder
    assert again.report == first.report
    assert again.tokenizer.digest == first.tokenizer.digest


def test_the_digest_sees_data_and_options(problem: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [
        prepare(problem, tmp_path).digest,
        prepare(problem, tmp_path, vocab_size=301).digest,
        prepare(problem, tmp_path, tokenizer="bytes").digest,
        prepare(problem, tmp_path, tokenizer=BytesTokenizer()).digest,
        prepare(problem, tmp_path, seed=1).digest,
        prepare(problem, tmp_path, splits={"train": "train[:50%]"}).digest,
        prepare(problem.reversed(), tmp_path).digest,
    ]
    monkeypatch.setattr(Counting, "pairs", {**Counting.pairs, "test": [("other", "anders")]})
    made.append(prepare(problem, tmp_path).digest)
    monkeypatch.setattr(module, "CODE_VERSION", 99)
    made.append(prepare(problem, tmp_path).digest)
    assert len(set(made)) == len(made)


def test_split_expressions(problem: Counting, tmp_path: Path) -> None:
    data = prepare(problem, tmp_path, splits={"train": "train[:80%]+dev", "small": "train[:5]"})
    assert {name: len(store) for name, store in data.stores.items()} == {
        "train": 163,
        "dev": 3,
        "test": 1,
        "extra": 1,
        "small": 5,
    }
    assert data.report.splits["train"].also_held_out == 8  # all of dev, numbers 0-4 in small (3 in test too)
    with pytest.raises(UsageError, match="unknown split 'trian'"):
        prepare(problem, tmp_path, splits={"train": "trian"})
    with pytest.raises(UsageError, match="cannot name a split"):
        prepare(problem, tmp_path, splits={"../x": "train"})


def test_reversed(problem: Counting, tmp_path: Path) -> None:
    data = prepare(problem.reversed(), tmp_path)
    assert data.spec.name == "counting_rev"
    assert (data.spec.source_language, data.spec.target_language) == ("de", "en")
    source, target = data.train.pair(7)
    assert (data.tokenizer.decode(source), data.tokenizer.decode(target)) == ("Zahl 7", "number 7")
    assert problem.reversed().reversed() is problem


def test_cleaning_touches_train_alone(problem: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = {**Counting.pairs, "train": [*Counting.pairs["train"], ("", "x"), ("same", "same"), ("number 1", "Zahl 1")]}
    monkeypatch.setattr(Counting, "pairs", pairs)
    monkeypatch.setattr(Counting, "cleaning", CleanRules())
    data = prepare(problem, tmp_path)
    assert {name: len(store) for name, store in data.stores.items()} == {"train": 200, "dev": 3, "test": 1, "extra": 1}
    assert (data.report.cleaning.read, data.report.cleaning.kept) == (203, 200)
    assert data.report.cleaning.reasons["duplicate"].samples == [("counting:train", 203, "number 1", "Zahl 1")]


def test_a_given_tokenizer_is_used(problem: Counting, tmp_path: Path) -> None:
    tokenizer = train_tokenizer("unigram", ["number", "Zahl one two three"], 300)
    data = prepare(problem, tmp_path, tokenizer=tokenizer)
    assert data.tokenizer.digest == tokenizer.digest
    with pytest.raises(UsageError, match="vocab_size 17 is not that of the tokenizer"):
        prepare(problem, tmp_path, tokenizer=tokenizer, vocab_size=17)
    with pytest.raises(UsageError, match="unknown tokenizer 'bite'"):
        prepare(problem, tmp_path, tokenizer="bite")


def test_a_damaged_folder_is_made_again(problem: Counting, tmp_path: Path) -> None:
    data = prepare(problem, tmp_path)
    for name in ("train/tokens.bin", "report.json", "tokenizer/seqlib_tokenizer.json", "dev.src"):
        path = data.folder / name
        good = path.read_bytes()
        path.write_bytes(good[:-3])
        assert prepare(problem, tmp_path).folder == data.folder
        assert len(path.read_bytes()) == pytest.approx(len(good), abs=8)  # report.json holds the seconds
    data = prepare(problem, tmp_path)
    (data.folder / "dev.src").write_text("one line only\n")  # after it was opened
    with pytest.raises(DataError, match="the sentences of dev are damaged"):
        data.texts("dev")


def test_a_failure_leaves_nothing(problem: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_encode", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(SeqlibError, match=r"no space left to write .*bytes free"):
        prepare(problem, tmp_path)
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == []
    monkeypatch.undo()
    assert len(prepare(Counting(), tmp_path).train) == 200


def _prepare_in_process(folder: str) -> str:
    return str(prepare(Counting(), folder).folder)


def test_several_processes_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    with context.Pool(3) as pool:
        folders = pool.map(_prepare_in_process, [str(tmp_path)] * 3)
    assert len(set(folders)) == 1
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 1


def test_no_train_pair(problem: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Counting, "pairs", {"train": [("", "x")], "dev": [("a", "b")]})
    monkeypatch.setattr(Counting, "cleaning", CleanRules())
    with pytest.raises(DataError, match=r"counting: no pair is left to train on\n1 pairs read, 0 kept"):
        prepare(problem, tmp_path)
    monkeypatch.setattr(Counting, "pairs", {"test": [("a", "b")]})
    with pytest.raises(UsageError, match="counting has no train split"):
        prepare(problem, tmp_path)


def test_a_place_that_cannot_be_written(problem: Counting, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file, not a folder; choose another --cache_dir"):
        prepare(problem, tmp_path / "file")


def test_default_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SEQLIB_CACHE", str(tmp_path))
    assert default_data_dir() == tmp_path / "data"
    monkeypatch.delenv("SEQLIB_CACHE")
    assert default_data_dir().parts[-2:] == ("seqlib", "data")


def test_texts_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_texts(tmp_path / "none")
    (tmp_path / "bad").write_bytes(b"\xff\n")
    with pytest.raises(DataError, match="damaged at byte 0"):
        read_texts(tmp_path / "bad")


def test_imports_are_cheap() -> None:
    code = (
        "import sys, seqlib.data.prepare, seqlib.data.batch, seqlib.problems\n"
        "heavy = {'sentencepiece', 'rich', 'datasets', 'filelock', 'platformdirs', 'requests'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_real_corpus(shared_data: Path, tmp_path: Path) -> None:
    """Multi30k: all pairs of every split survive, and a whole epoch can be collated fast."""
    from seqlib.problems.translate_multi30k import ende

    problem = ende(shared_data / "multi30k")
    data = prepare(problem, tmp_path, tokenizer="bpe")
    assert {name: len(store) for name, store in data.stores.items()} == {"train": 29000, "dev": 1014, "test": 1000}
    assert data.tokenizer.vocab_size == 4000
    assert data.texts("test") == tuple(map(list, zip(*problem.samples("test"), strict=True)))
    plan = bucket_plan(data.train.lengths(), tokens=2048, max_length=80, seed=0, epoch=0, digest=data.train.digest)
    assert plan.padding_share < 0.25
    assert plan.dropped == 0
    started = time.perf_counter()
    tokens = sum(int((collate(data.train, planned, data.spec).tgt_out >= 0).sum()) for planned in plan.batches)
    assert tokens == data.report.splits["train"].target_tokens + 29000
    assert 29000 / (time.perf_counter() - started) > 50_000
    assert all(np.diff(data.train.offsets) >= 0)
