"""What README.md and docs/*.md show is executed.

Python blocks of a file run in order in one namespace, in a temporary folder. A block below
`<!-- no-run: reason -->` is left out; one below `<!-- file: NAME -->` is written to that file for the blocks after
it. In shell blocks the flags of every `seqlib` command are parsed; a shell block below `<!-- run -->` is executed.
"""

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
def test_python_blocks_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": f"snippets of {path.name}"}
    for block in blocks(path):
        if file := re.fullmatch(r"<!-- file: (\S+) -->", block.comment):
            Path(file[1]).write_text(block.text, encoding="utf-8")
        elif block.language == "python" and not left_out(block):
            source = "\n" * block.line + block.text  # so that a traceback names the line of the document
            exec(compile(source, str(path), "exec"), namespace)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_shell_blocks_name_real_flags(path: Path) -> None:
    for block in blocks(path):
        if block.language in SHELL and not left_out(block):
            for line in commands(block):
                check_command(line, f"{path.name}, line {block.line}: {line}")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_shell_blocks_marked_run_succeed(path: Path, tmp_path: Path) -> None:
    for block in blocks(path):
        if block.language in SHELL and block.comment == "<!-- run -->":
            folder = str(Path(sys.executable).parent)
            script = f"set -e\nPATH={shlex.quote(folder)}:$PATH\n" + "\n".join(commands(block))
            done = subprocess.run(
                ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=RUN_LIMIT, check=False
            )
            assert done.returncode == 0, f"{path.name}, line {block.line}:\n{done.stdout}{done.stderr}"


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
            known = command.params
            flags = {flag for param in known for flag in (*param.opts, *param.secondary_opts)} | {"--help"}
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
