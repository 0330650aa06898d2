"""docs/api is what tools/api_pages.py makes of the source, and public names say what a caller needs to know."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from seqlib.util import errors

ROOT = Path(__file__).resolve().parent.parent.parent
PROSE = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "examples").rglob("*.py"))]
ERRORS = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)}
RAISED_BY = {"shape_error": "ShapeError", "dtype_error": "DtypeError", "unknown": "UsageError"}

OBVIOUS = set("x a b keepdims dtype shape name fn seed layers heads dropout".split())
"""Parameters that need no word: by the field's usage, or by their type in the signature."""
ELSEWHERE = re.compile(r"\b[Aa]s `|\b[Ss]ee\b|is said at|as in `|inverse of `|NumPy's \w+|[Aa]rguments and errors as")
"""What a docstring says when another one says the rest."""
THOROUGH = ("seqlib", "nn", "optim", "models", "bundle", "problems", "train", "decode")
"""Pages of which every parameter is looked at."""


@pytest.fixture
def api_pages(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import api_pages

    return api_pages


def test_pages_are_current(api_pages: ModuleType) -> None:
    files = {path.name for path in api_pages.FOLDER.glob("*")}
    made = {name: make() for name, make in api_pages.pages().items()}
    stale = {name for name, text in made.items() if name not in files or (api_pages.FOLDER / name).read_text() != text}
    assert not stale and files == set(made), f"`make format` writes docs/api: {stale | (files ^ set(made))}"


def listed(api_pages: ModuleType) -> Iterator[tuple[str, str, Any]]:
    for page in api_pages.PAGES:
        for module, name, value in api_pages.entries(page):
            yield page.stem, f"{module}.{name}", value


def test_all_public_names_are_documented(api_pages: ModuleType) -> None:
    bare = [name for _, name, v in listed(api_pages) if callable(v) and not (v.__doc__ or "").strip()]
    assert not bare, f"no docstring: {bare}"


def test_what_documents_and_examples_import_is_listed(api_pages: ModuleType) -> None:
    names = {name for _, name, _ in listed(api_pages)}
    modules = {name.rpartition(".")[0] for name in names}
    short = {name.rpartition(".")[2] for name in names if name.startswith("seqlib.core.ops.") or name.count(".") == 1}
    missing: set[str] = set()
    for path in PROSE:
        for module, found in re.findall(r"^from (seqlib[\w.]*) import ([\w, ]+)$", path.read_text(), re.MULTILINE):
            for name in re.split(r"[, ]+", found.partition(" as ")[0]):
                again = name in short and module.startswith("seqlib.core")  # seqlib.Tensor, seqlib.mean
                if not again and not {f"{module}.{name}"} & (names | modules):
                    missing.add(f"{path.name}: {module}.{name}")
    allowed = {"contributing.md: seqlib.cli.flags.config_command", "adding-a-model.md: seqlib.core.ops"}
    assert not missing - allowed, sorted(missing - allowed)


def test_parameters_are_named(api_pages: ModuleType) -> None:
    silent: dict[str, list[str]] = {}
    for page, name, value in listed(api_pages):
        if page not in THOROUGH or not callable(value) or hasattr(value, "infer_metas"):
            continue
        if inspect.isclass(value) and issubclass(value, tuple):
            continue  # a record: fields have names and types
        bases = value.__mro__ if inspect.isclass(value) else ()
        text = " ".join([value.__doc__ or "", *(field for base in bases for field in api_pages._field_notes(base))])
        try:
            parameters = inspect.signature(value).parameters
        except ValueError:  # an exception
            continue
        unnamed = [p for p in parameters if p not in OBVIOUS | {"args", "kwargs"} and not re.search(rf"\b{p}\b", text)]
        if unnamed and not ELSEWHERE.search(text):
            silent[name] = unnamed
    assert not silent


def raised(function: Any) -> set[str]:
    """The SeqlibErrors that stand in `raise` statements of a function, inner functions left out."""
    if not function.__code__.co_filename.endswith(".py"):  # made by a dataclass
        return set()
    tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    found: set[str] = set()
    waiting = list(ast.iter_child_nodes(tree))
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name):
            name = RAISED_BY.get(node.exc.func.id, node.exc.func.id)
            found |= {name} & ERRORS
        waiting += ast.iter_child_nodes(node)
    return found


def test_errors_are_named(api_pages: ModuleType) -> None:
    silent: dict[str, set[str]] = {}
    for _, name, value in listed(api_pages):
        made = [vars(value).get(m) for m in ("__init__", "__post_init__")] if inspect.isclass(value) else [value]
        found = set().union(*(raised(inspect.unwrap(f)) for f in made if inspect.isfunction(f)))
        untold = {error for error in found if error not in (value.__doc__ or "")}
        if untold and not ELSEWHERE.search(value.__doc__ or ""):
            silent[name] = untold
    assert not silent
    assert raised(inspect.unwrap(__import__("seqlib").compile)) == {"UsageError"}  # the check sees what it should
