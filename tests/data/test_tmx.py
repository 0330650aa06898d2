"""Translation memories: languages and regions, markup, memory, and what is refused."""

import gzip
import tracemalloc
from pathlib import Path

import pytest

from seqlib.data.sources import PairSource
from seqlib.data.tmx import best_language, read_tmx, tmx_languages
from seqlib.problems.translate_files import from_data
from seqlib.util.errors import DataError, UsageError

HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE tmx SYSTEM "tmx14.dtd">\n<tmx version="1.4"><body>\n'
TAIL = "</body></tmx>\n"


def unit(**texts: str) -> str:
    variants = "".join(f'<tuv xml:lang="{k.replace("_", "-")}"><seg>{v}</seg></tuv>' for k, v in texts.items())
    return f"<tu><note>not this</note>{variants}</tu>\n"


def write(folder: Path, body: str, name: str = "memory.tmx", encoding: str = "utf-8", whole: str = "") -> str:
    data = (whole or HEAD.replace("UTF-8", encoding) + body + TAIL).encode(encoding)
    (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return str(folder / name)


@pytest.mark.parametrize("name", ["memory.tmx", "memory.tmx.gz"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-1"])
def test_pairs(tmp_path: Path, name: str, encoding: str) -> None:
    body = unit(en_US="a dog", de="ein Hund") + unit(en_US="R&amp;D, caf\u00e9", de="\n  F&#38;E,\n Caf\u00e9 ")
    file = write(tmp_path, body, name, encoding)
    source = PairSource((file,))
    expected = [("a dog", "ein Hund"), ("R&D, café", "F&E, Café")]
    assert [record.pair() for record in source.records()] == expected
    assert [(record.file, record.line) for record in source.records()] == [(file, 4), (file, 5)]
    assert [record.pair() for record in source.swapped().records()] == [(b, a) for a, b in expected]
    assert (source.count(), source.found_languages()) == (2, ("en-US", "de"))
    problem = from_data(file)
    assert (problem.source_language, problem.target_language) == ("en-US", "de")
    assert from_data(file, source_language="de", target_language="en").corpora[0].languages == ("de", "en")


def test_languages_and_their_regions(tmp_path: Path) -> None:
    there = ["de-CH", "EN", "en-GB", "de-AT", "pt_BR"]
    wanted = {"en": "EN", "en-gb": "en-GB", "en-US": "EN", "de": "de-CH", "de-at": "de-AT", "pt": "pt_BR", "fr": ""}
    assert {language: best_language(language, there) for language in wanted} == wanted
    body = unit(fr="un", en_GB="one", de_CH="eins") + unit(fr="deux", en="two") + unit(fr="trois", it="tre")
    file = write(tmp_path, body)
    assert [record[:2] for record in read_tmx(file, ("en", "de"))] == [("one", "eins"), ("two", "")]
    with pytest.raises(
        DataError, match=r"memory.tmx:4: the unit has fr, en-GB, de-CH; name two languages, --languages"
    ):
        tmx_languages(file)
    with pytest.raises(
        DataError, match=r"no unit has both en and es; languages of the file: de-CH in 1, en-GB in 1, fr in 3, en in 1"
    ):
        list(read_tmx(file, ("en", "es")))


def test_inline_markup(tmp_path: Path) -> None:
    text = 'Press <bpt i="1">&lt;b<sub>now</sub>&gt;</bpt><hi>the <ph>{x}</ph>key</hi><ept i="1">&lt;/b></ept>!'
    file = write(tmp_path, unit(en=text, de="Taste"))
    assert [record.pair() for record in PairSource((file,)).records()] == [("Press nowthe key!", "Taste")]


def test_memory_is_bounded(tmp_path: Path) -> None:
    line = unit(en="some words in a row " * 10, de="ein paar Wörter hintereinander " * 10)
    file = write(tmp_path, line * 20_000, "big.tmx.gz")
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_tmx(file, ("en", "de"))) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 3_000_000  # of 12 MB
    finally:
        tracemalloc.stop()


BOMB = '<?xml version="1.0"?>\n<!DOCTYPE tmx [\n<!ENTITY a "ha">\n<!ENTITY b "&a;&a;&a;&a;">]>\n<tmx>&b;</tmx>'


@pytest.mark.parametrize(
    ("whole", "message"),
    [
        (BOMB, "memory.tmx:3: the file declares an entity, 'a'; such files are refused"),
        ("<html>\n</html>", "memory.tmx:1: the root element is <html>, expected <tmx>"),
        (HEAD + unit(en="a", de="b") + "<tu>", r"memory.tmx:5: not well-formed XML: no element found .*cut short"),
        (HEAD + "<tu>\n</body>", "memory.tmx:5: not well-formed XML: mismatched tag"),
        ("", "memory.tmx:1: not well-formed XML: no element found"),
        ('<?xml version="1.0" encoding="klingon"?><tmx/>', "memory.tmx:1: .*convert the file to UTF-8"),
        (HEAD + TAIL, "memory.tmx: there are no translation units"),
    ],
)
def test_refused(tmp_path: Path, whole: str, message: str) -> None:
    file = tmp_path / "memory.tmx"
    file.write_text(whole, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        list(PairSource((str(file),)).records())


def test_units_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    body = unit(en="a", de="b") + "<tu><tuv><seg>a</seg></tuv></tu>\n" + unit(en="a &nbsp; b", de="c")
    source = PairSource((write(tmp_path, body),))
    problems = [record.problem.rpartition("/")[2] for record in source.records(strict=False) if record.problem]
    assert problems == [
        "memory.tmx:5: a variant (tuv) has no xml:lang",
        "memory.tmx:6: the entity &nbsp; is not known here; write the character itself",
    ]
    with pytest.raises(UsageError, match="a translation memory has no column of weights"):
        PairSource(source.files, weight="w")


def test_a_unit_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seqlib.data.tmx._LONGEST", 1000)
    file = write(tmp_path, unit(en="a", de="b") + unit(en="long " * 300, de="c"))
    with pytest.raises(DataError, match=r"memory.tmx:5: the unit that begins here has over 1,000 characters"):
        list(PairSource((file,)).records())
