"""Reading lines: encodings, line ends, packing, and the errors for what cannot be read."""

import builtins
import gzip
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seqlib.data.lines import count_lines, file_digest, read_lines, suffix
from seqlib.util.errors import DataError


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def texts(path: Path, encoding: str = "utf-8") -> list[str]:
    return [line.text for line in read_lines(path, encoding)]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"a\nb\n", ["a", "b"]),
        (b"a\nb", ["a", "b"]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"a\rb\r", ["a", "b"]),
        (b"a\rb", ["a", "b"]),
        (b"\n\n", ["", ""]),
        (b"\xef\xbb\xbfa\nb\n", ["a", "b"]),
        (b"a\rb\nc\n", ["a b", "c"]),  # a stray carriage return does not shift the lines behind it
        ("ä\u2028ö\x85\x0b\n".encode(), ["ä\u2028ö\x85\x0b"]),  # only line feeds end lines
    ],
)
@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_line_ends(tmp_path: Path, name: str, data: bytes, expected: list[str]) -> None:
    path = write(tmp_path / name, data)
    assert texts(path) == expected
    assert [line.number for line in read_lines(path)] == list(range(1, len(expected) + 1))


@pytest.mark.parametrize("size", [(1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20])
@pytest.mark.parametrize("end", ["\n", "\r"])
def test_lines_across_blocks(tmp_path: Path, size: int, end: str) -> None:
    path = write(tmp_path / "a.txt", ("x" + end + "y" * size + end + "z").encode())
    assert [len(text) for text in texts(path)] == [1, size, 1]


def test_a_late_carriage_return_ends_no_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", b"x\n" * (1 << 20) + b"a\rb")
    assert texts(path)[-2:] == ["x", "a b"]


def test_a_late_line_feed_in_a_file_of_carriage_returns(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", b"x\r" * (1 << 20) + b"a\nb")
    assert texts(path)[-2:] == ["x", "a b"]


def test_places_in_the_second_block(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", b"line\n" * 300_000 + b"a\xff\nend\n")
    with pytest.raises(DataError, match=r"a\.txt:300001: byte 1500001 \(0xff\)"):
        texts(path)
    lines = list(read_lines(path, strict=False))
    assert (len(lines), lines[-1].text, lines[-1].number) == (300_002, "end", 300_002)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(st.lists(st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=("Cs",)))))
def test_round_trip(tmp_path: Path, lines: list[str]) -> None:
    path = write(tmp_path / "a.txt", "".join(line + "\n" for line in lines).encode())
    expected = [lines[0].removeprefix("\ufeff"), *lines[1:]] if lines else []
    assert texts(path) == expected


def test_real_file_with_carriage_returns_only(shared_data: Path) -> None:
    lines = texts(shared_data / "lm" / "war_and_peace.txt.gz")
    assert len(lines) > 50_000
    assert not lines[0].startswith("\ufeff")
    assert all("\r" not in line for line in lines)


def test_wrong_encoding_names_line_and_byte(tmp_path: Path) -> None:
    path = write(tmp_path / "a.de", "gut\nschön\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"a\.de:2: byte 7 \(0xf6\) is not utf-8; .*--encoding"):
        texts(path)
    assert texts(path, "latin-1") == ["gut", "schön"]
    bad = [line for line in read_lines(path, strict=False) if line.problem]
    assert [line.number for line in bad] == [2]


def test_byte_offset_counts_the_mark(tmp_path: Path) -> None:
    path = write(tmp_path / "a.de", b"\xef\xbb\xbfab\xff\n")
    with pytest.raises(DataError, match=r"a\.de:1: byte 5 \(0xff\)"):
        texts(path)


def test_nul(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", b"ok\nb\0d\n")
    with pytest.raises(DataError, match=r"a\.txt:2: byte 4 is NUL: .*UTF-16"):
        texts(path)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_wide_encodings(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path / "a.txt", "eins\nzwei 😀\n".encode(encoding))
    assert texts(path, encoding) == ["eins", "zwei 😀"]
    with pytest.raises(DataError, match=r"a\.txt:1: "):
        texts(path)
    write(path, "eins\nzwei\n".encode(encoding)[:-3])
    with pytest.raises(DataError, match=r"a\.txt:.*is not utf-"):
        texts(path, encoding)


def test_unknown_encoding(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="unknown encoding 'utf-9'"):
        texts(write(tmp_path / "a.txt", b""), "utf-9")


def test_missing_file_names_its_neighbours(tmp_path: Path) -> None:
    write(tmp_path / "train.en", b"")
    with pytest.raises(DataError, match=r"trian\.en: there is no such file; did you mean train\.en"):
        texts(tmp_path / "trian.en")
    with pytest.raises(DataError, match=r"nothing in .* has a name like it"):
        texts(tmp_path / "zzz")
    with pytest.raises(DataError, match=r"the folder .* does not exist either"):
        texts(tmp_path / "no" / "a.en")
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        texts(tmp_path)


@pytest.mark.parametrize("cut", [3, 12, -4, -9])
def test_truncated_gzip(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.en.gz"
    path.write_bytes(gzip.compress(b"some text\n" * 1000)[:cut])
    with pytest.raises(DataError, match=r"a\.en\.gz: the compressed file is damaged or cut short"):
        texts(path)


def test_damaged_gzip(tmp_path: Path) -> None:
    path = tmp_path / "a.en.gz"
    data = bytearray(gzip.compress(b"some text\n" * 1000))
    data[20] ^= 255
    path.write_bytes(data)
    with pytest.raises(DataError, match="damaged or cut short"):
        texts(path)
    path.write_bytes(b"not gzip at all")
    with pytest.raises(DataError, match="damaged or cut short"):
        texts(path)


def test_zst_without_a_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def refuse(name: str, *args, **kwargs):
        if name in ("compression", "backports"):
            raise ImportError(name)
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(DataError, match=r"a\.en\.zst: reading \.zst needs .*pip install backports\.zstd"):
        texts(write(tmp_path / "a.en.zst", b""))


def test_zst(tmp_path: Path) -> None:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        zstd = pytest.importorskip("backports.zstd", reason="zstd needs Python 3.14 or backports.zstd")
    path = tmp_path / "a.en.zst"
    packed = zstd.compress(b"eins\nzwei\n" * 1000)
    path.write_bytes(packed)
    assert texts(path)[:2] == ["eins", "zwei"]
    path.write_bytes(packed[:-5])
    with pytest.raises(DataError, match="damaged or cut short"):
        texts(path)


def test_digest_does_not_see_the_packing(tmp_path: Path) -> None:
    plain, packed = write(tmp_path / "a.txt", b"x\n"), write(tmp_path / "a.txt.gz", b"x\n")
    assert file_digest(plain) == file_digest(packed) != file_digest(write(tmp_path / "b.txt", b"y\n"))


def test_suffix() -> None:
    names = ["a/train.en.gz", "a.EN", "x.tsv.zst", "noext", "a.gz"]
    assert [suffix(name) for name in names] == [".en", ".en", ".tsv", "", ""]


@settings(max_examples=60)
@given(
    st.lists(st.sampled_from([b"one", b"", b"na\xefve", b"a \0 b", b"x\ry", "ü".encode(), b"w\r"]), max_size=600),
    st.booleans(),
)
def test_damaged_lines_do_not_disturb_the_others(tmp_path_factory, lines: list[bytes], ended: bool) -> None:
    """Each line reads as it does in a file of its own; the count agrees."""
    file = tmp_path_factory.mktemp("lines") / "f"
    file.write_bytes(b"\n".join([b"first\n", *lines]) + b"\n" * ended)
    alone = tmp_path_factory.mktemp("lines") / "f"
    found = list(read_lines(file, strict=False))
    assert [line.number for line in found] == list(range(1, len(found) + 1))
    assert count_lines(file) == len(found)
    raws = file.read_bytes().removesuffix(b"\n").split(b"\n")
    for line, raw in zip(found, raws, strict=True):
        alone.write_bytes(raw + b"\n")
        (expected,) = read_lines(alone, strict=False)
        assert line.text == expected.text
        assert bool(line.problem) == bool(expected.problem)
        if line.problem:
            at = int(line.problem.split("byte ")[1].split()[0])
            assert file.read_bytes()[at] in (0xEF, 0)
            assert file.read_bytes()[:at].count(b"\n") == line.number - 1
