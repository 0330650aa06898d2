"""`seqlib warmup`: the kernels are kept and read back."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


def _warmup(*args: str, **environment: str) -> str:
    found = subprocess.run(
        [sys.executable, "-m", "seqlib", "warmup", *args],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )
    return found.stdout


def test_kernels_are_kept_and_read_back(tmp_path: Path) -> None:
    pytest.importorskip("numba")
    assert "kernels are ready" in _warmup("--into", str(tmp_path))
    kept = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.nbc")}
    assert len(kept) >= 10
    _warmup(SEQLIB_CACHE=str(tmp_path))
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.nbc")} == kept


def test_without_numba_there_is_nothing_to_do(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as u\nreal = u.find_spec\n"
        "u.find_spec = lambda name, package=None: None if name == 'numba' else real(name, package)\n"
    )
    assert "nothing to compile" in _warmup(PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
