"""The translation base, the spec, and finding problems by name."""

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from seqlib.data.records import Record
from seqlib.data.tokenizer import BytesTokenizer
from seqlib.problems import list_problems, load_problem
from seqlib.problems.spec import ProblemSpec
from seqlib.problems.translation import Translation
from seqlib.util.errors import DataError, UsageError


class Small(Translation):
    name, source_language, target_language = "small", "en", "de"
    licence, citation = "none", "nobody"

    def __init__(self, word: str = "dog") -> None:
        self.word = word

    def splits(self) -> tuple[str, ...]:
        return "train", "dev"

    def samples(self, split: str) -> Iterator[tuple[str, str]]:
        self.check_split(split)
        return iter([(f"{self.word} {split} {n}", f"Hund {n}") for n in range(10)])


SPEC = ProblemSpec(source_vocab=100, target_vocab=100, name="x", source_language="en", target_language="de")


def test_spec_round_trip(tmp_path: Path) -> None:
    assert ProblemSpec.from_json(SPEC.to_json()) == SPEC
    (tmp_path / "problem.json").write_text(SPEC.to_json())
    assert ProblemSpec.read(tmp_path / "problem.json") == SPEC
    assert (SPEC.task, SPEC.pad_id, SPEC.bos_id, SPEC.eos_id, SPEC.shared_vocab) == ("translation", 0, 1, 2, True)
    assert SPEC.metrics == ("bleu", "chrf")
    with pytest.raises(AttributeError):
        SPEC.pad_id = 3


def test_spec_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"problem\.json: cannot be read"):
        ProblemSpec.read(tmp_path / "problem.json")
    good = json.loads(SPEC.to_json())
    for bad in ({**good, "extra": 1}, {"task": "translation"}, {**good, "source_vocab": "x"}):
        (tmp_path / "problem.json").write_text(json.dumps(bad))
        with pytest.raises(DataError, match=r"problem\.json: not a problem spec"):
            ProblemSpec.read(tmp_path / "problem.json")
    with pytest.raises(DataError, match="not a problem spec"):
        ProblemSpec.from_json("{")


def test_base() -> None:
    problem = Small()
    assert next(problem.records("dev")) == Record("dog dev 0", "Hund 0", "small:dev", 1)
    assert [record.line for record in problem.read("train[:20%]+dev[8:]")] == [1, 2, 9, 10]
    tokenizer = BytesTokenizer()
    assert problem.encode(("a", "bc"), tokenizer) == (tokenizer.encode("a"), tokenizer.encode("bc"))
    spec = problem.spec(tokenizer)
    assert (spec.source_vocab, spec.name, spec.source_language) == (260, "small", "en")
    assert problem.describe()["licence"] == "none"
    with pytest.raises(UsageError, match="unknown split 'trian'; did you mean train"):
        problem.samples("trian")


def test_records_alone_are_enough() -> None:
    class Other(Small):
        samples = Translation.samples

        def records(self, split: str) -> Iterator[Record]:
            yield Record("a", "b", "f", 1)
            yield Record("", "", "f", 2, "f:2: unreadable")

    found = Other().samples("train")
    assert next(found) == ("a", "b")
    with pytest.raises(DataError, match="f:2: unreadable"):
        next(found)


def test_a_class_without_pairs_says_so() -> None:
    with pytest.raises(NotImplementedError, match="splits"):
        Translation().splits()
    with pytest.raises(NotImplementedError, match="samples"):
        next(Translation().records("train"))


def test_digest_sees_content() -> None:
    assert Small().digest() == Small().digest() != Small("cat").digest()


def test_reversed() -> None:
    problem = Small()
    back = problem.reversed()
    assert (back.name, back.source_language, back.target_language) == ("small_rev", "de", "en")
    assert next(back.samples("train")) == ("Hund 0", "dog train 0")
    assert next(back.records("train")).source == "Hund 0"
    assert back.digest() != problem.digest()
    assert back.licence == problem.licence
    tokenizer = BytesTokenizer()
    assert back.encode(("bc", "a"), tokenizer) == (tokenizer.encode("bc"), tokenizer.encode("a"))
    assert back.reversed() is problem


def test_problems_by_name(tmp_path: Path) -> None:
    assert {f"translate_multi30k_{pair}" for pair in ("ende", "deen", "enfr")} <= set(list_problems())
    assert "translate_files_from_data" not in list_problems()
    problem = load_problem("translate-multi30k-ende", data_dir=tmp_path)
    assert (problem.name, problem.source_language) == ("translate_multi30k_ende", "en")
    assert load_problem("translate_multi30k_ende_rev").source_language == "de"
    with pytest.raises(UsageError, match="unknown problem 'translate_multi30k_endd'; did you mean translate_multi30k_"):
        load_problem("translate_multi30k_endd")
    with pytest.raises(UsageError, match="translate_multi30k_ende has no option 'colour'; it takes data_dir"):
        load_problem("translate_multi30k_ende", colour=1)


def test_problems_of_users(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from seqlib.problems.translation import Translation\nclass Mine(Translation):\n    name = 'mine'\nnumber = 3\n"
    )
    assert load_problem(f"{tmp_path / 'mine.py'}:Mine").name == "mine"
    with pytest.raises(UsageError, match="is of type int, expected a function or class"):
        load_problem(f"{tmp_path / 'mine.py'}:number")


def test_spec_is_what_msgspec_says() -> None:
    assert msgspec.json.decode(SPEC.to_json())["source_vocab"] == 100
