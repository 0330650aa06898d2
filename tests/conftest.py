"""What all tests share: where the real data is, what needs a GPU, and that the checkout stays clean."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# The gate asks the same questions each time, and a busy machine is no failure.
settings.register_profile("gate", deadline=None, derandomize=True)
settings.load_profile("gate")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets: SEQLIB_TEST_DATA, or `shared/data` beside the checkout; skips without."""
    named = os.environ.get("SEQLIB_TEST_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is missing (set SEQLIB_TEST_DATA)")
    return folder


@pytest.fixture
def run_python() -> Callable[..., str]:
    """Run code in a Python of its own, started in the checkout with more settings; returns what it printed."""

    def run(code: str, **settings: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **settings}
        command = [sys.executable, "-c", code]
        found = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=ROOT)
        assert found.returncode == 0, found.stderr
        return found.stdout

    return run


def _gpu_missing() -> str | None:
    """Why no GPU can be used, or None."""
    try:
        import cupy  # pyright: ignore[reportMissingImports]
    except ImportError:
        return "CuPy is not installed"
    try:
        found = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"no CUDA device: {error}"
    return None if found else "no CUDA device"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("gpu")]
    reason = _gpu_missing() if marked else None
    if reason is not None:
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=reason))


def _untracked() -> set[str]:
    """Files in the checkout that git neither tracks nor ignores; nothing where there is no git."""
    try:
        command = ["git", "-C", str(ROOT), "ls-files", "--others", "--exclude-standard"]
        return set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines())
    except (OSError, subprocess.CalledProcessError):
        return set()


@pytest.fixture(scope="session", autouse=True)
def _leaves_nothing_behind() -> Iterator[None]:
    """Tests write to temporary folders only. Source files that somebody edits meanwhile don't count."""
    before = _untracked()
    yield
    left = sorted(path for path in _untracked() - before if Path(path).suffix not in (".py", ".md"))
    assert not left, f"tests left files in the checkout: {left}"
