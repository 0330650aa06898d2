"""A folder in which commands run as a user would type them; what they say becomes a section of docs/errors.md.

Every case compares its own section with the committed page. `SEQLIB_WRITE_DOCS=1 pytest tests/faults` writes the page.
"""

import hashlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from seqlib.cli.main import main

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "errors.md"
WRITE = os.environ.get("SEQLIB_WRITE_DOCS") == "1"


@dataclass(frozen=True)
class Case:
    """One fault: its heading on the page, what it is in a sentence or two, and what is done."""

    title: str
    about: str
    run: Callable[["Stage"], None]

    @property
    def name(self) -> str:
        return self.run.__name__


CASES: list[tuple[str, list[Case]]] = []
"""Chapters of the page with their cases, in order."""


def chapter(title: str) -> None:
    CASES.append((title, []))


def case(title: str, about: str) -> Callable[[Callable[["Stage"], None]], Callable[["Stage"], None]]:
    """Adds a function of a stage to the chapter begun last."""

    def add(run: Callable[["Stage"], None]) -> Callable[["Stage"], None]:
        CASES[-1][1].append(Case(title, about, run))
        return run

    return add


@dataclass
class Stage:
    """`folder` is the current folder: a corpus, `tiny.yaml`, a finished run in `run`, its data in `prepared`."""

    folder: Path
    transcript: list[str] = field(default_factory=list)

    def write(self, name: str, content: bytes | str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    def lines(self, name: str) -> list[bytes]:
        return (self.folder / name).read_bytes().splitlines(keepends=True)

    def command(self, line: str, stdin: bytes = b"") -> tuple[int, str, str]:
        """Runs `seqlib LINE` in this process: exit code, standard output, and standard error with paths normalised."""
        out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
        before = sys.stdin
        sys.stdin = io.TextIOWrapper(io.BytesIO(stdin), "utf-8")
        try:
            with redirect_stdout(out), redirect_stderr(err):
                code = main(line.split("<")[0].split(">")[0].split())
        finally:
            sys.stdin = before
        out.flush()
        return code, out.buffer.getvalue().decode(), self.normal(err.getvalue())  # type: ignore[attr-defined]

    def refused(self, line: str, stdin: bytes = b"", show: str = ".*") -> str:
        """The command ends with exit code 2 and a message, and leaves every file as it was; returns the message."""
        before = self.files()
        code, _, err = self.command(line, stdin)
        assert code == 2, f"{line}: exit code {code}\n{err}"
        assert self.files() == before, f"{line}: left {self.files().keys() ^ before.keys()}"
        assert "error: " in err and "Traceback" not in err, err
        return self.record(line, err, show)

    def refused_after_preparing(self, line: str) -> str:
        """As `refused`, of a command that fills the cache of prepared data before it can tell."""
        before = self.files()
        code, _, err = self.command(line)
        assert code == 2, f"{line}: exit code {code}\n{err}"
        now = {name: content for name, content in self.files().items() if not name.startswith("prepared/")}
        assert now.items() <= before.items()
        return self.record(line, err, "error: ")

    def accepted(self, line: str, stdin: bytes = b"", show: str = ".*", output: bool = False) -> str:
        """The command succeeds; what it says (standard error, or `output`) goes on the page where `show` matches."""
        code, out, err = self.command(line, stdin)
        assert code == 0, f"{line}: exit code {code}\n{err}"
        self.whole()
        return self.record(line, out if output else err, show)

    def record(self, line: str, said: str, show: str = ".*") -> str:
        kept = [row.rstrip() for row in said.splitlines() if re.search(show, row)]
        assert kept, f"{line}: no line matches {show!r} in:\n{said}"
        self.transcript += [f"$ seqlib {line}", *kept]
        return "\n".join(kept)

    def alone(self, line: str, stdin: str, stdout: str, preexec: Callable[[], None] | None = None) -> str:
        """The command in a process of its own, with files as standard input and output; it ends with exit code 2."""
        with open(stdin, "rb") as given, open(stdout, "wb") as taken:
            done = subprocess.run(
                [sys.executable, "-m", "seqlib", *line.split()],
                stdin=given,
                stdout=taken,
                stderr=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": str(PAGE.parent.parent)},
                preexec_fn=preexec,
                check=False,
            )
        said = self.normal(done.stderr.decode())
        assert done.returncode == 2 and "Traceback" not in said, said
        redirected = f" < {stdin}" * (stdin != os.devnull) + f" > {stdout}" * (stdout != os.devnull)
        return self.record(line + redirected, said, "error")

    @contextmanager
    def disk(self, name: str, kilobytes: int) -> Iterator[Path]:
        """A file system of that size at `name`; skips the test where none can be mounted."""
        place = self.folder / name
        place.mkdir()
        _mount("-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(place))
        try:
            yield place
        finally:
            subprocess.run(["umount", str(place)], check=True)

    def normal(self, text: str) -> str:
        """Without what differs from machine to machine: the folder, digests, sizes, times, versions."""
        text = text.replace(f"{self.folder}/", "").replace(str(self.folder), ".")
        text = re.sub(r"-[0-9a-f]{12}\b", "-DIGEST", text)
        text = re.sub(r"[\d,]+ bytes free", "N bytes free", text)
        return re.sub(r"\b[0-9a-f]{12,64}\b", "DIGEST", text)

    def files(self) -> dict[str, str]:
        """Content digests of all files by path; lock files, which say nothing, are left out."""
        found = {}
        for path in sorted(self.folder.rglob("*")):
            if path.is_file() and not path.name.endswith(".lock"):
                found[path.relative_to(self.folder).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found

    def whole(self) -> None:
        """No file or folder that was being written is left."""
        left = [path.name for path in self.folder.rglob(".*") if path.name != ".lock"]
        assert not left, f"half-written: {left}"


def _mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")


def remount(place: Path, options: str) -> None:
    """Changes the options of a mounted file system: `ro`, `size=1m`."""
    _mount("-o", f"remount,{options}", str(place))


def section(found: Case, stage: Stage) -> str:
    """The case as a section of the page."""
    block = "\n".join(stage.transcript)
    return f"### {found.title}\n\n{found.about}\n\n```console\n{block}\n```\n"


def sections(text: str) -> dict[str, str]:
    """The sections of the page by title."""
    parts = re.split(r"(?m)^(?=#{2,3} )", text)
    return {part.split("\n")[0][4:]: part.rstrip("\n") + "\n" for part in parts if part.startswith("### ")}


def page(found: dict[str, str]) -> str:
    """The whole page from sections by title."""
    text = HEAD
    for title, cases in CASES:
        text += f"\n## {title}\n"
        text += "".join("\n" + found[one.title] for one in cases if one.title in found)
    return text


def check_section(found: Case, stage: Stage) -> None:
    """The page says what the commands said; with SEQLIB_WRITE_DOCS=1 it is made to."""
    stage.whole()
    wanted = section(found, stage)
    known = sections(PAGE.read_text(encoding="utf-8")) if PAGE.exists() else {}
    if WRITE:
        PAGE.write_text(page({**known, found.title: wanted}), encoding="utf-8")
        return
    assert known.get(found.title) == wanted, (
        f"docs/errors.md: the section {found.title!r} is out of date; "
        "write it with SEQLIB_WRITE_DOCS=1 pytest tests/faults"
    )


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """The current folder, for a while."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


HEAD = """# When something is wrong

What seqlib says when files, disks or saved things are not as they should be. The tests in `tests/faults` produce every
fault below, run the command, and compare this page with what it printed; `SEQLIB_WRITE_DOCS=1 pytest tests/faults`
writes the page.

For each of them also holds, and is tested: the command ends with exit code 2 where it can't go on, without a traceback;
no half-written file is left, and no file that was there is changed; earlier checkpoints can still be used.

`corpus.en` and `corpus.de` are 400 line-aligned sentence pairs, `tiny.yaml` holds the settings of a model that is
trained in a second, `run` is a finished run, `prepared` the folder of prepared data.
"""
