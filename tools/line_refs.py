"""Keep the line numbers in documents: a reference names a symbol, a file and the line where that is defined.

A reference is a link, [`Tensor` tensor.py:49](../seqlib/core/tensor.py#L49): a symbol (`name`, `Class.method` or a
name that is assigned to), the end of the file's path, the line, and the path from the document. Symbols are what
counts: `--fix` writes the lines anew, and follows a symbol that now stands in one other file of the same package.
"""

import argparse
import ast
import re
import sys
from collections.abc import Iterator
from functools import lru_cache
from os.path import relpath
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = re.compile(
    r"\[`(?P<symbol>[A-Za-z_][\w.]*)` (?P<label>[\w/]+\.py):(?P<line>\d+)\]\((?P<path>[^)#\s]+\.py)#L(?P<anchor>\d+)\)"
)


def documents() -> list[Path]:
    """The Markdown files that may hold references."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@lru_cache(maxsize=1024)
def symbols(file: Path) -> dict[str, int]:
    """The lines of what a Python file defines: functions, classes, their members, and names that are assigned to."""
    found: dict[str, int] = {}

    def visit(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.setdefault(prefix + node.name, node.lineno)
                if isinstance(node, ast.ClassDef):
                    visit(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for name in (n for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)):
                    found.setdefault(prefix + name.id, node.lineno)
            elif isinstance(node, ast.If):
                visit(node.body, prefix)

    visit(ast.parse(file.read_text(encoding="utf-8")).body, "")
    return found


def place_of(symbol: str, file: Path) -> tuple[Path, int] | None:
    """Where `symbol` is defined: in `file`, or else in the one other file of its package (`seqlib/core`) that does."""
    if file.is_file() and symbol in symbols(file):
        return file, symbols(file)[symbol]
    package = ROOT.joinpath(*file.relative_to(ROOT).parts[:2])
    others = [other for other in sorted(package.rglob("*.py")) if symbol in symbols(other)]
    return (others[0], symbols(others[0])[symbol]) if len(others) == 1 else None


def written(document: Path, match: re.Match[str]) -> str | None:
    """The reference as it should be; None where its symbol is defined nowhere, or in several files."""
    file = (document.parent / match["path"]).resolve()
    place = place_of(match["symbol"], file) if file.is_relative_to(ROOT) else None
    if place is None:
        return None
    label = "/".join(place[0].parts[-1 - match["label"].count("/") :])
    to = Path(relpath(place[0], document.parent)).as_posix()
    return f"[`{match['symbol']}` {label}:{place[1]}]({to}#L{place[1]})"


def check(document: Path, fix: bool = False) -> Iterator[str]:
    """What is wrong in a document; with `fix` the lines and paths that can be are mended, and the rest is told."""
    text = document.read_text(encoding="utf-8")

    def mended(match: re.Match[str]) -> str:
        return written(document, match) or match[0]

    for match in REFERENCE.finditer(text):
        right = written(document, match)
        where = f"{document.name}, line {text.count(chr(10), 0, match.start()) + 1}"
        if right is None:
            yield f"{where}: `{match['symbol']}` of {match['path']} is not defined there, nor in one other file"
        elif right != match[0] and not fix:
            yield f"{where}: {match[0]} should be {right}"
    if fix and (new := REFERENCE.sub(mended, text)) != text:
        document.write_text(new, encoding="utf-8")


def main() -> int:
    """Check or mend all documents; 1 when something is left that is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fix", action="store_true", help="write the lines anew")
    fix = parser.parse_args().fix
    wrong = [line for document in documents() for line in check(document, fix)]
    for line in wrong:
        print(f"error: {line}", file=sys.stderr)
    if wrong and not fix:
        print("`make format` writes the lines anew", file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
