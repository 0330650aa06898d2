"""Every row of docs/promises.md names tests that exist, says which are slow, and has a price."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "promises.md"
COLUMNS = ["promise", "kind", "how", "tests", "price"]


def rows() -> list[dict[str, str]]:
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == COLUMNS
    return [dict(zip(COLUMNS, row, strict=True)) for row in cells[2:]]


def is_slow(function: ast.FunctionDef) -> bool:
    return any("mark.slow" in ast.unparse(decorator) for decorator in function.decorator_list)


@pytest.mark.parametrize("row", rows(), ids=lambda row: row["promise"])
def test_a_promise_has_tests_and_a_price(row: dict[str, str]) -> None:
    named = re.findall(r"`(tests/[^`]+\.py)::(\w+)`( \(slow\))?", row["tests"])
    assert named, "no test is named"
    assert re.sub(r"`[^`]+`( \(slow\))?", "", row["tests"]).strip() == "", "something else than tests"
    for file, name, slow in named:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert name in functions, f"there is no {file}::{name}"
        assert is_slow(functions[name]) == bool(slow), f"{file}::{name}: slow or not?"
    assert all(row.values()), "an empty column"


def test_the_hub_names_tests_that_exist() -> None:
    lines = [line for line in (ROOT / "docs" / "hub.md").read_text(encoding="utf-8").splitlines() if "::" in line]
    table = (ROOT / "docs" / "hub.md").read_text(encoding="utf-8").partition(lines[0])[2].partition("\n\n")[0]
    files = re.findall(r"`(tests/\S+\.py)::`", lines[0])
    for row in table.strip().splitlines()[1:]:
        for file, named in zip(files, row.strip("|").split("|")[1:], strict=True):
            known = (ROOT / file).read_text(encoding="utf-8")
            tests = re.findall(r"`(\w+)`", named)
            assert tests and all(f"def {test}(" in known for test in tests), row


def test_what_was_planned_is_promised() -> None:
    text = " ".join(row["promise"] for row in rows())
    for part in ("compiled = eager", "resumed", "alone", "accumulation", "packed", "deterministic", "a kill"):
        assert part in text
