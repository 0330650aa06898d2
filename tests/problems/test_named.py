"""Named problems: local copies of their formats, what is said when they are missing, the hub, embedded ones."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner

import seqlib
from seqlib.cli import main
from seqlib.problems import list_problems, load, load_problem
from seqlib.util.errors import DataError, UsageError

DATA = {
    "lm_tinyshakespeare": {
        "tinyshakespeare.txt.gz": "First Citizen:\nBefore we proceed, hear me.\n\nAll:\nSpeak.\n" * 10
    },
    "lm_wikitext2": {
        "wiki.train.tokens": " \n = Title = \n text one .\n",
        "wiki.valid.tokens": " text two .\n",
        "wiki.test.tokens": " text three .\n",
    },
    "lm_enwik8": {"enwik8": "<mediawiki>\n  <page>ä</page>\n"},
    "lm_tinystories": {
        "TinyStories-train.txt": "Once upon a time\n\nthere was a cat.\n<|endoftext|>\nA dog ran.\n<|endoftext|>\n",
        "TinyStories-valid.txt": "The end.\n<|endoftext|>\n",
    },
    "translate_iwslt14_deen": {f"{s}.{c}": f"{s} {c}\n" for s in ("train", "valid", "test") for c in ("de", "en")},
    "translate_wmt14_ende": {
        f"{s}.{c}": f"{s} {c}\n" for s in ("train", "newstest2013", "newstest2014") for c in ("de", "en")
    },
    "translate_wmt19_ende": {f"{s}.{c}": f"{s} {c}\n" for s in ("train", "newstest2018") for c in ("de", "en")},
}


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        data = text.encode()
        (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return folder


@pytest.mark.parametrize("name", DATA)
def test_local_files_of_the_published_format(name: str, tmp_path: Path) -> None:
    problem = load_problem(name, data_dir=write(tmp_path, DATA[name]))
    records = {split: list(problem.records(split)) for split in problem.splits()}
    assert records["train"] and len(problem.digest()) >= 64
    assert list(load(name, "train[:1]", data_dir=tmp_path)) == records["train"][:1]
    card = problem.card()
    assert all(card[field] for field in ("name", "task", "source", "licence", "citation", "sizes", "how", "metrics"))
    assert set(card["sizes"]) <= set(card["splits"])


def test_what_the_texts_are(tmp_path: Path) -> None:
    text = DATA["lm_tinyshakespeare"]["tinyshakespeare.txt.gz"]
    problem = load_problem("lm_tinyshakespeare", data_dir=write(tmp_path, DATA["lm_tinyshakespeare"]))
    train, dev = ("".join(record.source for record in problem.records(split)) for split in ("train", "dev"))
    assert train + dev == text and len(train) == int(0.9 * len(text))
    stories = load_problem("lm_tinystories", data_dir=write(tmp_path, DATA["lm_tinystories"]))
    assert [r.source for r in stories.records("train")] == ["Once upon a time\n\nthere was a cat.", "A dog ran."]
    pairs = load_problem("translate_wmt14_ende", data_dir=write(tmp_path, DATA["translate_wmt14_ende"]))
    assert [record.pair() for record in pairs.records("test")] == [("newstest2014 en", "newstest2014 de")]


def test_a_file_that_differs_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    load_problem("lm_tinyshakespeare", data_dir=write(tmp_path, DATA["lm_tinyshakespeare"])).digest()
    assert "differs from the published input.txt" in caplog.text


def test_published_files_have_their_digest(shared_data: Path, caplog: pytest.LogCaptureFixture) -> None:
    problem = load_problem("lm_tinyshakespeare", data_dir=shared_data / "lm")
    problem.digest()
    assert not caplog.records
    sizes = {split: sum(len(record.source) for record in problem.records(split)) for split in problem.splits()}
    assert sizes == problem.sizes


@pytest.mark.parametrize("name", [name for name in DATA if name not in ("lm_wikitext2", "lm_tinystories")])
def test_missing_files_are_told(name: str, tmp_path: Path) -> None:
    (tmp_path / "wrong.txt").write_text("")
    with pytest.raises(DataError, match=rf"{name}: looked in .* and found none.*--data_dir FOLDER"):
        list(load_problem(name, data_dir=tmp_path).records("train"))
    with pytest.raises(DataError, match=r"there is no folder .*--data_dir FOLDER"):
        list(load_problem(name, data_dir=tmp_path / "none").records("train"))


def test_the_hub_is_asked_without_local_files(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    fake = ModuleType("datasets")

    def load_dataset(handle: str, config: str | None, split: str) -> list[dict]:
        asked.append((handle, config, split))
        if split == "train":
            raise OSError("no network")
        return [{"text": " a line\n", "translation": {"de": "eins", "en": "one"}}]

    fake.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", fake)
    assert [r.source for r in load("lm_wikitext2", "dev")] == [" a line\n"]
    assert [r.pair() for r in load("translate_wmt14_ende", "dev")] == [("one", "eins")]
    assert asked == [("Salesforce/wikitext", "wikitext-2-raw-v1", "validation"), ("wmt/wmt14", "de-en", "validation")]
    with pytest.raises(DataError, match=r"Salesforce/wikitext could not be fetched .*no network.*--data_dir FOLDER"):
        list(load("lm_wikitext2", "train"))
    with pytest.raises(DataError, match=r"not on the hub in a form that can be read; pass --data_dir"):
        list(load("translate_iwslt14_deen", "dev"))


def test_python_documents_itself() -> None:
    problem = load_problem("lm_pydoc")
    dev = [record.source for record in problem.records("dev")]
    assert 20 < len(dev) < 2000 and dev == [record.source for record in problem.records("dev")]
    assert not set(dev) & {record.source for record in load("lm_pydoc", "train[:200]")}


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("copy", lambda s, t: s == t),
        ("reverse", lambda s, t: s[::-1] == t),
        ("sort", lambda s, t: sorted(s) == [*t]),
        ("addition", lambda s, t: sum(int(n[::-1]) for n in s.split("+")) == int(t[::-1])),
    ],
)  # fmt: skip
def test_algorithms(name: str, check) -> None:
    problem = load_problem(f"algorithmic_{name}", longest=6, train=2000)
    sources: dict[str, set[str]] = {}
    for split in problem.splits():
        pairs = [record.pair() for record in problem.records(split)]
        assert all(check(*pair) for pair in pairs) and len({source for source, _ in pairs}) == len(pairs)
        sources[split] = {source for source, _ in pairs}
    assert not sources["train"] & (sources["dev"] | sources["test"]) and len(sources["train"]) > 1500
    lengths = {
        split: {len(source.replace(" ", "").replace("+", "")) for source in found} for split, found in sources.items()
    }
    assert max(lengths["train"]) <= 7 and max(lengths["test_long"]) > 10


def test_info_and_load(tmp_path: Path) -> None:
    for name in ("lm_enwik8", "translate_multi30k_ende", "algorithmic_sort"):
        assert name in list_problems()
        card = json.loads(CliRunner().invoke(main.group, ["info", name]).output)
        assert card["name"] == name and card["how"] and card["splits"][0] == "train"
    write(tmp_path, DATA["lm_wikitext2"])
    lines = [r.source for r in seqlib.problems.load("lm_wikitext2", split="train[:67%]+dev", data_dir=tmp_path)]
    assert lines == [" \n", " = Title = \n", " text two .\n"]
    with pytest.raises(UsageError, match="unknown split 'tran'"):
        load("lm_wikitext2", "tran", data_dir=tmp_path)
