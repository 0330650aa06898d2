"""Sizes as people write them, and what the machine, control groups and limits leave."""

import mmap
from pathlib import Path

import pytest

from seqlib.util import memory
from seqlib.util.errors import UsageError


@pytest.mark.parametrize(
    ("text", "nbytes"), [("8GB", 8 * 10**9), ("512 mb", 512 * 10**6), ("2GiB", 2 << 30), ("1.5k", 1500), ("7", 7)]
)
def test_sizes(text: str, nbytes: int) -> None:
    assert memory.parse_size(text) == nbytes


@pytest.mark.parametrize("text", ["", "much", "-3GB", "0", "8 apples"])
def test_bad_sizes_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a size"):
        memory.parse_size(text)


def test_size_texts() -> None:
    assert [memory.size_text(n) for n in (640, 1_234_567, 512e6, 2.06e9)] == ["0.6 kB", "1.2 MB", "512 MB", "2.1 GB"]


def test_resident_memory_grows_with_what_is_held() -> None:
    before = memory.resident_bytes()
    held = mmap.mmap(-1, 40_000_000)  # pages of its own: an array may take over what others have freed
    held[::4096] = b"1" * len(range(0, 40_000_000, 4096))
    assert 30e6 < memory.resident_bytes() - before < 60e6
    assert memory.peak_bytes() >= memory.resident_bytes() * 0.99
    available = memory.available_bytes()
    assert available is None or available > 0
    held.close()


def _group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_control_groups_of_version_2(tmp_path: Path) -> None:
    _group(tmp_path / "fs/a", memory__max="1000\n", memory__current="400\n", memory__stat="anon 1\ninactive_file 50\n")
    _group(tmp_path / "fs/a/b", memory__max="max\n", memory__current="300\n")
    own = tmp_path / "cgroup"
    own.write_text("0::/a/b\n")
    assert memory._control_groups(tmp_path / "fs", own) == [650]
    assert memory._control_groups(tmp_path / "fs", tmp_path / "absent") == []


def test_control_groups_of_version_1(tmp_path: Path) -> None:
    huge = str(1 << 62)
    _group(tmp_path / "fs/memory", memory__limit_in_bytes=huge, memory__usage_in_bytes="9")
    _group(tmp_path / "fs/memory/job", memory__limit_in_bytes="2000", memory__usage_in_bytes="500")
    own = tmp_path / "cgroup"
    own.write_text("5:cpu,cpuacct:/job\n4:memory:/job\n")
    assert memory._control_groups(tmp_path / "fs", own) == [1500]
