"""References to lines of the source lead to what they name, and docs/core-in-an-afternoon.md leaves no file out."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
CORE = ROOT / "seqlib" / "core"
AFTERNOON = ROOT / "docs" / "core-in-an-afternoon.md"


@pytest.fixture
def line_refs(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import line_refs

    return line_refs


def test_lines_are_where_their_symbols_are_defined(line_refs: ModuleType) -> None:
    wrong = [line for document in line_refs.documents() for line in line_refs.check(document)]
    assert not wrong, "\n".join([*wrong, "`make format` writes the lines anew"])


def test_the_afternoon_goes_through_every_file_of_the_core(line_refs: ModuleType) -> None:
    text = AFTERNOON.read_text(encoding="utf-8")
    files = [file for folder in (CORE, CORE / "passes", CORE / "backends") for file in sorted(folder.glob("*.py"))]
    missing = [name for file in files if f"**`{(name := file.relative_to(CORE).as_posix())}`**" not in text]
    assert not missing, f"docs/core-in-an-afternoon.md says nothing of {missing}"
    named = re.findall(r"\*\*`(\S+\.py)`\*\*", text)
    assert not [name for name in named if not (CORE / name).is_file()], "files that are not there any more"
    assert len(line_refs.REFERENCE.findall(text)) > 50


def test_lines_are_mended_and_symbols_followed(
    line_refs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_refs, "ROOT", tmp_path)
    package = tmp_path / "house" / "room"
    (package / "corner").mkdir(parents=True)
    (package / "a.py").write_text("import os\n\nLIMIT: int = 3\n\n\nclass Chair:\n    def sit(self): ...\n")
    (package / "corner" / "b.py").write_text("def stand(): ...\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[`Chair.sit` a.py:1](house/room/a.py#L1) and [`LIMIT` a.py:3](house/room/a.py#L3),\n"
        "[`stand` a.py:9](house/room/a.py#L9), [`gone` a.py:2](house/room/a.py#L2)\n"
    )
    assert len(list(line_refs.check(page))) == 3
    (left,) = line_refs.check(page, fix=True)
    assert "line 2: `gone`" in left
    assert page.read_text() == (
        "[`Chair.sit` a.py:7](house/room/a.py#L7) and [`LIMIT` a.py:3](house/room/a.py#L3),\n"
        "[`stand` b.py:1](house/room/corner/b.py#L1), [`gone` a.py:2](house/room/a.py#L2)\n"
    )
    assert list(line_refs.check(page)) == [left]
