"""Rules of the source tree that no linter knows."""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import seqlib

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "seqlib").rglob("*.py"))

# About 400 and 60 lines are the aim; beyond these limits a file or a function holds two things.
FILE_LIMIT = 450
FUNCTION_LIMIT = 80
KERNELS = ("_numpy", "_cpu")

EXTRAS = {
    "numba",
    "cupy",
    "nvmath",
    "datasets",
    "gguf",
    "jinja2",
    "ctranslate2",
    "sklearn",
    "sacrebleu",
    "tensorboardX",
    "starlette",
    "uvicorn",
    "onnx",
}
FOREIGN = {"torch", "jax", "tensorflow", "transformers"}


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module")
def trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}


def imports(tree: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """The top-level names of imported libraries, `import_module("x")` included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0], node
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.args[0].value.split(".")[0], node


def test_files_are_short() -> None:
    long = {name(p): n for p in SOURCES if (n := len(p.read_text(encoding="utf-8").splitlines())) > FILE_LIMIT}
    assert not long, f"files above {FILE_LIMIT} lines: {long}"


def test_functions_are_short(trees: dict[Path, ast.Module]) -> None:
    long = {
        f"{name(path)}: {node.name}": length
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LIMIT
    }
    assert not long, f"functions above {FUNCTION_LIMIT} lines: {long}"


def test_every_module_says_what_it_is(trees: dict[Path, ast.Module]) -> None:
    silent = [name(path) for path, tree in trees.items() if not ast.get_docstring(tree)]
    assert not silent, f"modules without a docstring: {silent}"


def test_numba_is_imported_in_cpu_kernels_only(trees: dict[Path, ast.Module]) -> None:
    for path, tree in trees.items():
        if not path.stem.endswith("_cpu"):
            assert "numba" not in {library for library, _ in imports(tree)}, name(path)


def test_kernels_are_not_imported_at_start(trees: dict[Path, ast.Module]) -> None:
    for path, tree in trees.items():
        for node in tree.body:
            if isinstance(node, ast.ImportFrom | ast.Import):
                modules = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
                kernels = [module for module in modules if module.endswith(KERNELS)]
                assert path.stem.endswith(KERNELS) or not kernels, f"{name(path)} imports {kernels} at the top"


def test_cuda_libraries_are_imported_in_the_backends(trees: dict[Path, ast.Module]) -> None:
    for path, tree in trees.items():
        if name(path) not in ("seqlib/core/backends/cuda.py", "seqlib/core/ops/product_cuda.py"):
            found = {library for library, _ in imports(tree)} & {"cupy", "cupy_backends", "nvmath"}
            assert not found, f"{name(path)} imports {found}"


def test_no_other_framework(trees: dict[Path, ast.Module]) -> None:
    for path, tree in trees.items():
        found = {library for library, _ in imports(tree)} & FOREIGN
        assert not found, f"{name(path)} imports {found}"


def test_extras_are_imported_inside_functions(trees: dict[Path, ast.Module]) -> None:
    for path, tree in trees.items():
        if path.stem.endswith("_cpu") or name(path) == "seqlib/core/backends/cuda.py" or path.parent.name == "serve":
            continue  # these files are themselves imported at the first launch, or by `seqlib serve`
        top = {library for node in tree.body for library, at in imports(node) if at is node}
        assert not top & EXTRAS, f"{name(path)} needs {top & EXTRAS} to be imported"


def test_no_bare_or_silent_except(trees: dict[Path, ast.Module]) -> None:
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler):
                where = f"{name(path)}:{node.lineno}"
                assert node.type is not None, f"{where}: bare except"
                broad = isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException")
                silent = all(isinstance(statement, ast.Pass | ast.Continue) for statement in node.body)
                assert not (broad and silent), f"{where}: swallows every error"


@pytest.mark.parametrize("public", sorted(seqlib.PUBLIC))
def test_public_names_exist(public: str) -> None:
    module, attribute = seqlib.PUBLIC[public].split(":")
    assert getattr(seqlib, public) is getattr(importlib.import_module(module), attribute)


def test_unknown_attribute() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = seqlib.nonsense
    assert set(seqlib.PUBLIC) <= set(dir(seqlib))
