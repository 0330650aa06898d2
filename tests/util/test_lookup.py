import sys
from pathlib import Path

import pytest

from seqlib.util.errors import UsageError
from seqlib.util.lookup import available, resolve


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / "lookup_pets"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "cat.py").write_text(
        "from os import getcwd\n"
        "__all__ = ['Cat', 'black', 'black_white', 'build', 'getcwd']\n"
        "class Cat: pass\n"
        "def black(size=1): return 'black'\n"
        "def black_white(): return 'both'\n"
        "def build(config): return config\n"
        "def hidden(): return 0\n"
    )
    (folder / "cat_black.py").write_text("__all__ = ['big']\ndef big(): return 'big'\n")
    (folder / "_private.py").write_text("__all__ = ['x']\ndef x(): return 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "lookup_pets"
    for name in [name for name in sys.modules if name.startswith("lookup_pets")]:
        del sys.modules[name]


def test_available_lists_own_exported_factories(package: str) -> None:
    assert available(package) == ["cat_black", "cat_black_big", "cat_black_white"]


def test_a_name_is_a_location(package: str) -> None:
    assert resolve("cat_black", package, "pet")() == "black"
    assert resolve("cat-black-white", package, "pet")() == "both"
    assert resolve("cat_black_big", package, "pet")() == "big"


@pytest.mark.parametrize("name", ["cat_blck", "cat_hidden", "cat_build", "cat_getcwd", "cat_Cat", "cat", "_private_x"])
def test_anything_else_is_unknown(package: str, name: str) -> None:
    with pytest.raises(UsageError, match=f"unknown pet '{name}'"):
        resolve(name, package, "pet")


def test_two_matches_are_an_error_that_lists_both(package: str, tmp_path: Path) -> None:
    (tmp_path / "lookup_pets" / "cat_black.py").write_text("__all__ = ['white']\ndef white(): return 'white'\n")
    with pytest.raises(UsageError, match=r"two places.*cat_black.py: white\(\) and cat.py: black_white\(\)"):
        resolve("cat_black_white", package, "pet")


def test_users_code(tmp_path: Path, package: str) -> None:
    assert resolve("lookup_pets.cat:hidden", "seqlib.util", "pet")() == 0
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "mine.py").write_text(f"class Pet:\n    number = {number}\n")
        found = resolve(f"{folder}/mine.py:Pet", package, "pet")
        assert found.number == number
        assert resolve(f"{folder}/mine.py:Pet", package, "pet") is found


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no.such.module:x", "there is no module 'no.such.module'"),
        ("lookup_pets.cat:blck", "unknown name in lookup_pets.cat 'blck'; did you mean black"),
        ("missing.py:x", "there is no file missing.py"),
        (":x", "expected package.module:name"),
        ("a.b:", "expected package.module:name"),
    ],
)
def test_bad_locations(package: str, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve(name, package, "pet")


def test_an_error_inside_users_code_is_not_hidden(tmp_path: Path, package: str) -> None:
    (tmp_path / "lookup_pets" / "broken.py").write_text("import no_such_library\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        resolve("lookup_pets.broken:x", package, "pet")
    (tmp_path / "own.py").write_text("1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        resolve(f"{tmp_path}/own.py:x", package, "pet")
