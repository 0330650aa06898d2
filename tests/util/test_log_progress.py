import io
import sys

import pytest

from seqlib.util.log import get_logger
from seqlib.util.progress import progress


def test_log_lines_go_to_stderr_once(capsys: pytest.CaptureFixture[str]) -> None:
    get_logger()
    get_logger().info("loss %.2f", 1.5)
    get_logger().debug("unseen")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "loss 1.50\n")


def test_progress_is_silent_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(3, "steps", done=1) as bar:
        bar.advance()
        bar.advance(1, "loss 2")
    assert bar.done == 3
    assert capsys.readouterr() == ("", "")


def test_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress(10, "steps") as bar:
        bar.advance(4, "loss 2")
        get_logger().info("a line")
    assert "a line" in terminal.getvalue()
    assert "4/10" in terminal.getvalue()
    assert capsys.readouterr().out == ""
