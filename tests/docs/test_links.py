"""Links between documents lead somewhere, and lists of packages, commands, pages and libraries leave nothing out."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
FILES = sorted(
    [*ROOT.glob("*.md"), *(p for folder in ("docs", "examples", "benchmarks") for p in (ROOT / folder).rglob("*.md"))]
)
PACKAGES = sorted(p.parent.relative_to(ROOT / "seqlib") for p in (ROOT / "seqlib").glob("*/**/__init__.py"))


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def text_of(path: Path) -> str:
    """A document without its fenced blocks."""
    return re.sub(r"^( *)(```+).*?^\1\2$", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def anchors(path: Path) -> set[str]:
    """The anchors that a code host gives the headings of a document."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ +(.+)$", text_of(path), flags=re.MULTILINE):
        plain = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        again = sum(1 for anchor in found if re.fullmatch(rf"{re.escape(plain)}(-\d+)?", anchor))
        found.add(f"{plain}-{again}" if again else plain)
    return found


@pytest.mark.parametrize("path", FILES, ids=name)
def test_links_lead_somewhere(path: Path) -> None:
    dead: list[str] = []
    for link in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", text_of(path)):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        if (
            not target.exists()
            or not target.is_relative_to(ROOT)
            or (anchor and target.suffix == ".md" and anchor not in anchors(target))
        ):
            dead.append(link)
    assert not dead, f"{name(path)}: dead links {dead}"


def test_readme_lists_all_pages_and_packages() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    pages = [p.name for p in (ROOT / "docs").glob("*.md") if f"(docs/{p.name})" not in readme]
    assert not pages, f"README.md links no {pages}"
    rooms = [p.as_posix() for p in PACKAGES if len(p.parts) == 1 and f"\n  {p.as_posix()}/ " not in readme]
    assert not rooms, f"README.md has no {rooms} in its tree"


def test_architecture_lists_all_packages_and_libraries() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    missing = [p.as_posix() for p in PACKAGES if not re.search(rf"^ +{p.name}/ +\S", page, flags=re.MULTILINE)]
    assert not missing, f"docs/architecture.md has no {missing} in its tree"
    libraries = page[page.index("\n## Libraries") :]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = project["dependencies"] + [x for extra in project["optional-dependencies"].values() for x in extra]
    names = {re.split(r"[\[<>=;! ]", x)[0].lower() for x in needed} - {project["name"]}
    silent = [
        n
        for n in sorted(names)
        if not n.startswith("nvidia-") and n.removesuffix("-cuda13x").removesuffix("-cuda12x") not in libraries.lower()
    ]
    assert not silent, f"docs/architecture.md does not say what {silent} are for"


def test_architecture_has_the_contracts() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for contract in project["tool"]["importlinter"]["contracts"]:
        order = " → ".join(re.sub(r"[()]", "", layer) for layer in contract.get("layers", []))
        assert order in page, f"docs/architecture.md: {contract['name']}: {order}"


def test_cli_lists_all_commands() -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    commands = [
        p.stem
        for p in (ROOT / "seqlib" / "cli").glob("*.py")
        if re.search(r"^(command = |def command\()", p.read_text(), re.MULTILINE)
    ]
    assert len(commands) > 6
    missing = [c for c in commands if f"| `{c}` |" not in page]
    assert not missing, f"docs/cli.md has no {missing} in its table"


def test_anchors(tmp_path: Path) -> None:
    page = tmp_path / "a.md"
    page.write_text("# `a.b` and C_d\n\n```\n# no heading\n```\n## build\n## build\n", encoding="utf-8")
    assert anchors(page) == {"ab-and-c_d", "build", "build-1"}
