import builtins
import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seqlib.util import atomic
from seqlib.util.errors import SeqlibError


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_files_are_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    atomic.write_json(path, {"a": [1, "ü"]})
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": [1, "ü"]}
    os.chmod(path, 0o640)
    atomic.write_text(path, "text")
    assert path.read_bytes() == b"text"
    assert path.stat().st_mode & 0o777 == 0o640
    assert names(path.parent) == {"a.json"}


def test_a_new_file_has_the_usual_mode(tmp_path: Path) -> None:
    (tmp_path / "usual").write_bytes(b"")
    atomic.write_bytes(tmp_path / "ours", b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode
    with atomic.atomic_folder(tmp_path / "folder"):
        pass
    (tmp_path / "usual_folder").mkdir()
    assert (tmp_path / "folder").stat().st_mode == (tmp_path / "usual_folder").stat().st_mode


def test_not_json_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    atomic.write_text(tmp_path / "a", "old")
    with pytest.raises(ValueError, match="JSON"):
        atomic.write_json(tmp_path / "a", float("nan"))
    assert (tmp_path / "a").read_text() == "old"


@pytest.mark.parametrize("exchange", [True, False])
def test_folder_replaces_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool) -> None:
    if not exchange:
        monkeypatch.setattr(atomic.platform, "system", lambda: "elsewhere")
    target = tmp_path / "run"
    for text in ("one", "two"):
        with atomic.atomic_folder(target) as aside:
            assert aside.parent == tmp_path
            (aside / "sub").mkdir()
            (aside / "sub" / text).write_text(text)
    assert names(target / "sub") == {"two"}
    assert names(tmp_path) == {"run"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_folder_is_removed_on_error(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "run"
    with atomic.atomic_folder(target) as aside:
        (aside / "good").touch()
    with pytest.raises(error), atomic.atomic_folder(target) as aside:
        (aside / "half").touch()
        raise error
    assert names(tmp_path) == {"run"}
    assert names(target) == {"good"}


def test_a_full_disk_names_path_and_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SeqlibError, match=r"no space left to write .*a: [\d,]+ bytes free"):
        atomic.write_text(path, "new")
    with pytest.raises(SeqlibError, match="no space left"), atomic.atomic_folder(tmp_path / "f") as aside:
        (aside / "x").touch()
    assert path.read_text() == "old"
    assert names(tmp_path) == {"a"}


def test_other_errors_pass(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(builtins.OSError) as caught:
        atomic.write_text(tmp_path / "file" / "below", "x")
    assert not isinstance(caught.value, SeqlibError)


def test_a_killed_writer_leaves_the_old_and_is_cleaned_up(tmp_path: Path) -> None:
    target = tmp_path / "run"
    with atomic.atomic_folder(target) as aside:
        (aside / "good").touch()
    program = (
        "import sys, time\nfrom seqlib.util.atomic import atomic_folder\n"
        f"with atomic_folder({str(target)!r}) as aside:\n"
        "    (aside / 'half').touch(); print('writing', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"writing\n"
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    assert names(target) == {"good"}
    assert len(names(tmp_path)) == 2
    deadline = time.monotonic() + 10
    while len(names(tmp_path)) > 1 and time.monotonic() < deadline:
        with atomic.atomic_folder(target) as aside:
            (aside / "next").touch()
    assert names(tmp_path) == {"run"}
    assert names(target) == {"next"}


def test_a_free_folder_has_a_number_where_the_name_is_taken(tmp_path):
    assert atomic.free_folder(tmp_path / "run") == tmp_path / "run"
    for expected in ("run", "run-2"):
        (tmp_path / expected).mkdir()
        assert atomic.free_folder(tmp_path / "run") == tmp_path / expected
        (tmp_path / expected / "file").touch()
    assert atomic.free_folder(tmp_path / "run") == tmp_path / "run-3"
