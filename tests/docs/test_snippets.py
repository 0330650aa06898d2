"""What README.md and docs/*.md show is executed.

Blocks of a file run in order in one temporary folder: Python blocks, in one namespace, and shell blocks below
`<!-- run -->`, or `<!-- run: exit N -->` where they should fail. A block below `<!-- no-run: reason -->` is left out;
one below `<!-- file: NAME -->` is written to that file for the blocks after it; one below `<!-- prints -->` shows lines
that the block before it printed, in order: numbers may differ, a line `...` stands for any others, and a line that ends
in `…` goes on. In shell blocks the flags of every `seqlib` command are parsed, run or not.
"""

import contextlib
import io
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
FILES = [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if path.is_file()]
SHELL = ("bash", "sh", "console", "shell")
RUN_LIMIT = 120  # seconds a file's shell block may take


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, its text, the line it starts in, the comment above it."""

    language: str
    text: str
    line: int
    comment: str


def blocks(path: Path) -> list[Block]:
    """The fenced blocks of a Markdown file, in order."""
    found: list[Block] = []
    lines = path.read_text(encoding="utf-8").splitlines()
    fence, start, indent, comment, body = "", 0, 0, "", []
    for number, line in enumerate(lines, 1):
        stripped = line.strip()
        if not fence:
            opening = re.match(r"(\s*)(`{3,})\s*([\w+-]*)", line)
            if opening:
                fence, start, indent, body = opening[2], number, len(opening[1]), []
                language = opening[3]
            elif stripped:
                comment = stripped if stripped.startswith("<!--") else ""
        elif stripped == fence:
            found.append(Block(language, "\n".join(body) + "\n", start, comment))
            fence, comment = "", ""
        else:
            body.append(line[indent:] if not line[:indent].strip() else line)
    assert not fence, f"{path.name}: the block of line {start} is not closed"
    return found


def left_out(block: Block) -> bool:
    if not block.comment.startswith("<!-- no-run"):
        return False
    assert re.fullmatch(r"<!-- no-run: \S.* -->", block.comment), f"line {block.line}: no-run needs a reason"
    return True


def commands(block: Block) -> list[str]:
    """The command lines of a shell block: in a console block those behind `$`; continued lines are joined."""
    text = block.text.replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines()]
    if any(line.startswith("$ ") for line in lines):
        lines = [line[2:] for line in lines if line.startswith("$ ")]
    return [line for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_blocks_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": f"snippets of {path.name}"}
    printed = ""
    for block in blocks(path):
        where = f"{path.name}, line {block.line}"
        if file := re.fullmatch(r"<!-- file: (\S+) -->", block.comment):
            Path(file[1]).write_text(block.text, encoding="utf-8")
        elif block.comment == "<!-- prints -->":
            missing = unprinted(block.text, printed)
            assert missing is None, f"{where}: this line is not printed there: {missing}\n{printed}"
        elif run := re.fullmatch(r"<!-- run(?:: exit (\d+))? -->", block.comment):
            code, printed = shell(block)
            assert code == int(run[1] or 0), f"{where}: exit code {code}\n{printed}"
        elif block.language == "python" and not left_out(block):
            source = "\n" * block.line + block.text  # so that a traceback names the line of the document
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(source, str(path), "exec"), namespace)
            printed = out.getvalue()


def shell(block: Block) -> tuple[int, str]:
    """Run a shell block with this Python's commands; the exit code and what it printed."""
    folder = str(Path(sys.executable).parent)
    script = f"set -e\nPATH={shlex.quote(folder)}:$PATH\n" + "\n".join(commands(block))
    done = subprocess.run(
        ["bash", "-c", script],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=RUN_LIMIT,
        check=False,
    )
    return done.returncode, done.stdout


def unprinted(shown: str, printed: str) -> str | None:
    """The first line of a block that was not printed where it should be; numbers, digests and spaces don't count.

    A line follows the one before it at once, unless "..." stands between; what follows "..." is searched for."""
    lines = [plain(line) for line in printed.splitlines() if line.strip()]
    at, anywhere = 0, True
    for line in shown.splitlines():
        if not line.strip():
            continue
        if line.strip() == "...":
            anywhere = True
            continue
        places = range(at, len(lines) if anywhere else min(at + 1, len(lines)))
        found = next((i for i in places if same(plain(line), lines[i])), None)
        if found is None:
            return line
        at, anywhere = found + 1, False
    return None


def same(shown: str, line: str) -> bool:
    return line.startswith(shown[:-1]) if shown.endswith("…") else line == shown


def plain(line: str) -> str:
    line = re.sub(r"[^\s,]*/(?=[\w.-]+)", "", line)  # folders
    line = re.sub(r"\b(?=\w*\d)[0-9a-f]{8,}\b", "#", line)
    line = " ".join(re.sub(r"-?\d[\d,.:e-]*", "#", line).split())
    return re.sub(r"# [kMG]?B\b", "# B", line)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_shell_blocks_name_real_flags(path: Path) -> None:
    for block in blocks(path):
        if block.language in SHELL and not left_out(block):
            for line in commands(block):
                check_command(line, f"{path.name}, line {block.line}: {line}")


def check_command(line: str, where: str) -> None:
    """Parse the flags of every `seqlib` command in a line, without running it."""
    from seqlib.cli.main import group

    for part in re.split(r"\||&&|;", line):
        words = shlex.split(re.sub(r"[<>]+\s*\S+", "", part), comments=True)
        if not words or Path(words[0]).name != "seqlib":
            continue
        words = words[1:]
        if not words or words[0] in ("--help", "--version"):
            continue
        with click.Context(group, info_name="seqlib", **group.context_settings) as ctx:
            command = group.get_command(ctx, words[0].replace("-", "_"))
            assert command is not None, f"{where}: there is no command {words[0]}"
            if isinstance(command, click.Group) and len(words) > 1:
                command = command.get_command(ctx, words[1])
                assert command is not None, f"{where}: there is no command {words[0]} {words[1]}"
            known = command.params
            flags = {flag for param in known for flag in (*param.opts, *param.secondary_opts)} | {"--help"}
        if words[0] == "train":
            needed = {"--output_dir", "--resume", "--dry_run", "--dump_config"}
            assert needed & {word.partition("=")[0] for word in words}, f"{where}: train needs one of {sorted(needed)}"
        for word in words[1:]:
            if word.startswith("--") and word != "--":
                flag = "--" + word[2:].partition("=")[0].replace("-", "_")
                assert flag in flags, f"{where}: {words[0]} has no flag {flag}"


def test_blocks_are_found(tmp_path: Path) -> None:
    text = "a\n<!-- run -->\n```bash\nseqlib --version\n```\n\n  ```python\n  x = 1\n  ```\n"
    (tmp_path / "a.md").write_text(text)
    first, second = blocks(tmp_path / "a.md")
    assert (first.language, first.comment, first.line) == ("bash", "<!-- run -->", 3)
    assert (second.language, second.text, second.comment) == ("python", "x = 1\n", "")
    assert commands(Block("console", "$ a \\\n  b\nout\n", 1, "")) == ["a    b"]
    with pytest.raises(AssertionError, match="needs a reason"):
        left_out(Block("python", "", 1, "<!-- no-run -->"))
    with pytest.raises(AssertionError, match="has no flag --nonsense"):
        check_command("seqlib list --nonsense | cat", "here")


def test_printed_lines_are_compared() -> None:
    printed = "prepared /tmp/x-0a1b2c3d4e\nloss 4.21  rate 1e-05\nstep 50\nETA 00:12\n"
    assert unprinted("prepared x-ffff0000aa\nloss 3.9  rate 0.2\n...\nETA 01:59", printed) is None
    assert unprinted("prepared x-ffff0000aa\nstep 50", printed) == "step 50"  # a line between
    assert unprinted("...\nstep 50\nEND 1", printed) == "END 1"
    assert unprinted("loss 3.9  speed 0.2", printed) == "loss 3.9  speed 0.2"
    assert unprinted("...\nloss …", printed) is None and unprinted("...\nETA …\nmore", printed) == "more"
