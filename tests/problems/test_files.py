"""People's own files as a problem: languages, held-out parts, cleaning, reversal, errors."""

import json
from pathlib import Path

import pytest

from seqlib.data.clean import CleanRules
from seqlib.data.prepare import prepare
from seqlib.data.split import source_key
from seqlib.problems.translate_files import FileTranslation, from_data
from seqlib.util.errors import DataError, UsageError

COUNT = 2000


@pytest.fixture
def corpus(tmp_path: Path) -> str:
    """2000 pairs, 100 of them with a source that stands twice (and differs in case)."""
    english = [f"This is sentence number {n}" for n in range(COUNT - 100)]
    english += [f"THIS is sentence  number {n}" for n in range(100)]
    (tmp_path / "corpus.en").write_text("".join(text + "\n" for text in english))
    (tmp_path / "corpus.de").write_text("".join(f"Das ist Satz Nummer {n}\n" for n in range(COUNT)))
    return f"{tmp_path}/corpus.en,{tmp_path}/corpus.de"


def sources(problem: FileTranslation, split: str) -> list[str]:
    return [source for source, _ in problem.samples(split)]


def test_held_out_by_itself(corpus: str) -> None:
    problem = from_data(corpus)
    parts = {split: sources(problem, split) for split in problem.splits()}
    assert sum(map(len, parts.values())) == COUNT
    assert 60 < len(parts["dev"]) < 150  # 100 expected
    assert 60 < len(parts["test"]) < 150
    keys = {split: set(map(source_key, texts)) for split, texts in parts.items()}
    assert not keys["train"] & keys["dev"]
    assert not keys["train"] & keys["test"]
    assert not keys["dev"] & keys["test"]
    assert parts == {split: sources(from_data(corpus), split) for split in problem.splits()}


def test_a_corpus_that_changes_is_noticed(corpus: str) -> None:
    problem = from_data(corpus)
    sources(problem, "train")
    for file in corpus.split(","):
        Path(file).write_text(Path(file).read_text() + "more\n")
    with pytest.raises(DataError, match="changed while being read"):
        sources(problem, "train")


def test_sizes(corpus: str) -> None:
    none = from_data(corpus, dev_size=0.2, test_size=0)
    assert not sources(none, "test")
    assert len(sources(none, "dev")) == pytest.approx(400, abs=80)
    assert len(sources(from_data(corpus, test_size=300), "test")) == pytest.approx(300, abs=70)
    with pytest.raises(UsageError, match="leave nothing to train on"):
        sources(from_data(corpus, test_size=5000), "train")


def test_held_out_by_hand(corpus: str, tmp_path: Path) -> None:
    for language in ("en", "de"):
        (tmp_path / f"my.{language}").write_text(f"\n{language}\n{language}\n")
    problem = from_data(corpus, dev=f"{tmp_path}/my.en,{tmp_path}/my.de")
    assert list(problem.samples("dev")) == [("", ""), ("en", "de"), ("en", "de")]
    assert len(sources(problem, "train")) + len(sources(problem, "test")) == COUNT
    assert problem.cleaned == ("train", "test")
    data = prepare(problem, tmp_path / "out", tokenizer="bytes")
    assert data.texts("dev")[0] == ["", "en", "en"]  # never cleaned
    with pytest.raises(UsageError, match="--dev_size has nothing to decide"):
        from_data(corpus, dev=f"{tmp_path}/my.en,{tmp_path}/my.de", dev_size=10)


@pytest.mark.parametrize(
    ("names", "options", "languages"),
    [
        (("a.en", "a.de"), {}, ("en", "de")),
        (("a.pt-br.gz", "a.zh_cn"), {}, ("pt-br", "zh_cn")),
        (("one.txt", "two.txt"), {}, ("source", "target")),
        (("one.txt", "two.txt"), {"source_language": "en", "target_language": "fr"}, ("en", "fr")),
        (("news.en-fr.tsv",), {}, ("en", "fr")),
        (("pairs.tsv",), {}, ("source", "target")),
        (("pairs.jsonl",), {"source": "translation.en", "target": "translation.cs"}, ("en", "cs")),
        (("pairs.csv",), {"source": "1", "target": "0"}, ("source", "target")),
    ],
)
def test_languages(tmp_path: Path, names, options, languages) -> None:
    for name in names:
        (tmp_path / name).write_text("")
    problem = from_data(",".join(str(tmp_path / name) for name in names), **options)
    assert (problem.source_language, problem.target_language) == languages
    assert problem.name == "translate_files_" + "".join(languages)


def test_tables(tmp_path: Path) -> None:
    rows = [(f"word {n}", f"Wort {n}") for n in range(200)]
    (tmp_path / "a.tsv").write_text("".join(f"{n}\t{b}\t{a}\n" for n, (a, b) in enumerate(rows)))
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"en": a, "de": b}) + "\n" for a, b in rows))
    (tmp_path / "a.csv").write_text("de,en\n" + "".join(f"{b},{a}\n" for a, b in rows))
    found = [
        from_data(f"{tmp_path}/a.tsv", source="2", target="1"),
        from_data(f"{tmp_path}/a.jsonl", source="en", target="de"),
        from_data(f"{tmp_path}/a.csv", source="en", target="de"),
        from_data(f"{tmp_path}/a.csv", source_language="en", target_language="de"),
    ]
    for problem in found:
        assert sorted(pair for split in problem.splits() for pair in problem.samples(split)) == sorted(rows)


def test_reversed_holds_out_by_its_own_source(tmp_path: Path) -> None:
    (tmp_path / "a.en").write_text("".join(f"sentence {n}\n" for n in range(1000)))
    (tmp_path / "a.de").write_text("".join(f"Satz {n % 500}\n" for n in range(1000)))
    problem = from_data(f"{tmp_path}/a.en,{tmp_path}/a.de").reversed()
    assert (problem.source_language, problem.target_language) == ("de", "en")
    assert problem.name == "translate_files_deen"
    keys = {split: {source_key(source) for source, _ in problem.samples(split)} for split in problem.splits()}
    assert not keys["train"] & keys["test"]
    again = problem.reversed()
    assert again.digest() == from_data(f"{tmp_path}/a.en,{tmp_path}/a.de").digest() != problem.digest()


def test_prepare_cleans_and_reports(corpus: str, tmp_path: Path) -> None:
    en, de = (Path(file) for file in corpus.split(","))
    en.write_bytes(en.read_bytes() + b"bad \xff byte\n\nThis is sentence number 3\nsame\n")
    de.write_text(de.read_text() + "x\nleer\nDas ist Satz Nummer 3\nsame\n")
    data = prepare(from_data(corpus), tmp_path / "out", tokenizer="bytes")
    counts = {name: reason.count for name, reason in data.report.cleaning.reasons.items()}
    assert counts == {
        "unreadable": 1,
        "empty": 1,
        "over-long": 0,
        "length ratio": 0,
        "source = target": 1,
        "duplicate": 1,
    }
    assert (data.report.cleaning.read, data.report.cleaning.kept) == (COUNT + 4, COUNT)
    assert data.report.cleaning.reasons["unreadable"].samples[0][:2] == (str(en), COUNT + 1)
    assert data.report.splits["train"].also_held_out == 0
    assert sum(split.pairs for split in data.report.splits.values()) == COUNT
    with pytest.raises(DataError, match=rf"corpus\.en:{COUNT + 1}: byte \d+ \(0xff\)"):
        list(from_data(corpus).samples("train"))


def test_digest(corpus: str) -> None:
    plain = from_data(corpus).digest()
    assert plain == from_data(corpus).digest()
    assert plain != from_data(corpus, dev_size=0.1).digest()
    assert plain == from_data(corpus, cleaning=CleanRules(max_ratio=2)).digest()  # prepare's own key covers rules


def test_wrong_encoding_of_the_whole_file(tmp_path: Path) -> None:
    (tmp_path / "a.en").write_text("snow\n" * 50)
    (tmp_path / "a.de").write_bytes("Schnee fällt\n".encode("latin-1") * 50)
    data = f"{tmp_path}/a.en,{tmp_path}/a.de"
    with pytest.raises(DataError, match=r"a\.de:1: byte 8 \(0xe4\) is not utf-8; .*--encoding"):
        prepare(from_data(data), tmp_path / "out", tokenizer="bytes")
    rules = CleanRules(duplicates=False)
    prepared = prepare(
        from_data(data, encoding="latin-1", cleaning=rules, dev_size=0, test_size=0),
        tmp_path / "out",
        tokenizer="bytes",
    )
    assert prepared.tokenizer.decode(prepared.train.pair(0)[1]) == "Schnee fällt"


def test_errors(tmp_path: Path, corpus: str) -> None:
    with pytest.raises(DataError, match=r"corpus\.fr: there is no such file; did you mean corpus\.(en|de)"):
        from_data(corpus.replace("corpus.de", "corpus.fr"))
    with pytest.raises(UsageError, match="one file must be"):
        from_data(corpus.split(",")[0])
    for name in ("e.en", "e.de"):
        (tmp_path / name).write_text("")
    with pytest.raises(DataError, match=r"e\.en and .*e\.de: there are no sentence pairs"):
        sources(from_data(f"{tmp_path}/e.en,{tmp_path}/e.de"), "train")
    with pytest.raises(UsageError, match="unknown split 'valid'"):
        sources(from_data(corpus), "valid")
