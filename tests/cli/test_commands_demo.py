"""The demo's report and lines, with a translator that knows the answers; the whole of it is slow."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from seqlib.cli import demo

ROOT = Path(__file__).resolve().parent.parent.parent


class Problem:
    """Ten test sentences, five with new names, two of another domain."""

    def samples(self, split: str) -> Iterator[tuple[str, str]]:
        for number in range({"test": 10, "test_names": 5}[split]):
            yield f"{split} {number}", f"{split.upper()} {number}"

    def off_domain(self) -> list[str]:
        return ["strange one", "strange two"]


class Translator:
    """Upper-cases, but gets every sentence with a 3 wrong; doubts what is strange."""

    def translate(self, sources: list[str]) -> list[Any]:
        return [
            SimpleNamespace(
                text="?" if "3" in source else source.upper(), flagged="strange" in source, confidence=0.001
            )
            for source in sources
        ]


def test_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    demo._report(Translator(), Problem())
    lines = capsys.readouterr().out.splitlines()
    assert "exact match    90.0 %  of 10 held-out sentences" in lines[0]
    assert "exact match    80.0 %  of 5 sentences with never-seen names" in lines[1]
    assert "flagged       2 of 2" in lines[2]
    assert "false alarms  0.0 %  of 15" in lines[3]


def test_six_fixed_lines_the_last_one_flagged(capsys: pytest.CaptureFixture[str]) -> None:
    demo._fixed_lines(Translator(), Problem())
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    assert len(lines) == 12
    assert ["low confidence" in line for line in lines[1::2]] == [False] * 5 + [True]


@pytest.mark.slow
def test_the_whole_demo(tmp_path: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-m", "seqlib", "demo", "--seconds", "5"],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "SEQLIB_CACHE": str(tmp_path / "cache")},
    )
    assert found.returncode == 0 and "Traceback" not in found.stderr, found.stderr
    assert found.stdout.count("exact match") == 2 and "seqlib train --data your.en,your.de" in found.stdout
