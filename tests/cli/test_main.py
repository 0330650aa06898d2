import importlib
import subprocess
import sys
from pathlib import Path

import click
import pytest

import seqlib
from seqlib.cli import main as cli
from seqlib.cli.main import group, main
from seqlib.util.errors import DataError

COMMANDS = group.list_commands(click.Context(group))


def raising(error: BaseException) -> click.Command:
    def run() -> None:
        raise error

    return click.Command("run", callback=run)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(importlib.import_module(f"seqlib.cli.{name}").command, click.Command)
    assert main([name, "--help"]) == 0
    assert f"Usage: seqlib {name}" in capsys.readouterr().out
    assert cli._first_line(name)


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for name in COMMANDS:
        assert f"  {name}" in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"seqlib {seqlib.__version__}\n"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["lst"], "unknown command 'lst'; did you mean list?"),
        (["--versoin"], "unknown flag '--versoin'; did you mean --version?"),
        (["list", "--nonsense"], "unknown flag '--nonsense'"),
        (["list", "problem"], "did you mean problems?"),
        (["list"], "Missing argument"),
        (["list", "problems", "more"], "unexpected extra argument"),
    ],
)
def test_mistakes_are_answered(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert message in captured.err


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (DataError("a.en:3: not UTF-8"), 2, "error: a.en:3: not UTF-8\n"),
        (KeyboardInterrupt(), 130, ""),
        (IsADirectoryError(21, "Is a directory", "/x/y"), 2, "error: /x/y: Is a directory\n"),
        (
            PermissionError(13, "Permission denied", "/x/y"),
            2,
            "error: /x/y: Permission denied; change its permissions, or name another place\n",
        ),
        (click.FileError("x", "hint"), 2, "error: Could not open file 'x': hint\n"),
    ],
)
def test_errors_become_exit_codes(
    error: BaseException, code: int, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(group, "get_command", lambda ctx, name: raising(error))
    assert main(["list"]) == code
    assert capsys.readouterr().err.strip() == message.strip()


def test_a_defect_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "get_command", lambda ctx, name: raising(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        main(["list"])


def test_a_command_can_return_its_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "get_command", lambda ctx, name: click.Command("run", callback=lambda: 3))
    assert main(["list"]) == 3


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_standard_output_is_one_line():
    with open("/dev/full", "wb") as full:
        found = subprocess.run(
            [sys.executable, "-m", "seqlib", "list", "problems"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (found.returncode, found.stderr) == (
        2,
        "error: standard output: No space left on device; free some space and try again\n",
    )


@pytest.mark.parametrize("kind", ["problems", "models", "hparams_sets", "hparams-sets"])
def test_list(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", kind]) == 0
    lines = capsys.readouterr().out.splitlines()
    expected = {"problems": "translate_bulletin_ende", "models": "transformer"}.get(kind, "transformer_base")
    assert expected in lines
    assert lines == sorted(lines)


def test_as_a_process() -> None:
    done = subprocess.run([sys.executable, "-m", "seqlib", "nonsense"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error: unknown command 'nonsense'")
