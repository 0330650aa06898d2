"""A name is a location: ``transformer_base`` is ``base()`` in the file ``transformer.py`` of a package.

There is no registry. A name is split at its underscores into a file stem and the function named in that file's
``__all__``; ``package.module:attribute`` and ``path/file.py:attribute`` do the same for users' own code.
"""

import hashlib
import importlib
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from seqlib.util.errors import UsageError, unknown


def resolve(name: str, package: str, kind: str) -> Any:
    """The object that `name` stands for: a factory function of `package`, or whatever a user's location holds.

    `name` is ``STEM_FUNCTION`` (`-` equals `_`), ``package.module:attribute`` or ``path/file.py:attribute``; `kind`
    ("problem", "model") is the word used in errors. Raises UsageError, with the nearest names, when there is no
    match, and with both places when there are two.
    """
    if ":" in name:
        return _resolve_location(name, kind)
    wanted = name.replace("-", "_")
    matches: list[tuple[str, Any]] = []
    for stem in _stems(package):
        if wanted.startswith(stem + "_"):
            factory = _factories(_module(package, stem)).get(wanted[len(stem) + 1 :])
            if factory is not None:
                matches.append((stem, factory))
    if not matches:
        raise unknown(kind, name, available(package))
    if len(matches) > 1:
        places = " and ".join(f"{stem}.py: {factory.__name__}()" for stem, factory in matches)
        raise UsageError(f"{kind} {name!r} is in two places of {package}: {places}; rename one of them")
    return matches[0][1]


def available(package: str) -> list[str]:
    """All names that `resolve` finds in `package`, sorted: exported functions that need no argument."""
    names: list[str] = []
    for stem in _stems(package):
        names += [f"{stem}_{function}" for function in _factories(_module(package, stem))]
    return sorted(names)


def _stems(package: str) -> list[str]:
    """File stems of the package, longest first."""
    folder = importlib.import_module(package).__path__
    stems = [info.name for info in pkgutil.iter_modules(folder) if not info.name.startswith("_")]
    return sorted(stems, key=lambda stem: (-len(stem), stem))


def _module(package: str, stem: str) -> ModuleType:
    return importlib.import_module(f"{package}.{stem}")


def _factories(module: ModuleType) -> dict[str, Callable[..., Any]]:
    """The module's own exported functions that can be called with no argument."""
    found: dict[str, Callable[..., Any]] = {}
    for name in getattr(module, "__all__", ()):
        value = getattr(module, name)
        if not inspect.isfunction(value) or value.__module__ != module.__name__:
            continue
        variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        required = [
            p
            for p in inspect.signature(value).parameters.values()
            if p.default is inspect.Parameter.empty and p.kind not in variadic
        ]
        if not required:
            found[name] = value
    return found


def _resolve_location(name: str, kind: str) -> Any:
    place, _, attribute = name.rpartition(":")
    if not place or not attribute:
        raise UsageError(f"{kind} {name!r}: expected package.module:name or path/file.py:name")
    module = _load_file(Path(place), name, kind) if place.endswith(".py") else _import(place, name, kind)
    if not hasattr(module, attribute):
        raise unknown(f"name in {place}", attribute, (n for n in vars(module) if not n.startswith("_")))
    return getattr(module, attribute)


def _load_file(path: Path, name: str, kind: str) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"{kind} {name!r}: there is no file {path}")
    location = str(path.resolve())
    # The path is part of the module's name, so that two files called problem.py don't replace each other.
    module_name = f"seqlib_user_{hashlib.sha256(location.encode()).hexdigest()[:12]}_{path.stem}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    spec = importlib.util.spec_from_file_location(module_name, location)
    if spec is None or spec.loader is None:
        raise UsageError(f"{kind} {name!r}: {path} can't be loaded as a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    return module


def _import(place: str, name: str, kind: str) -> ModuleType:
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is None or not (place == error.name or place.startswith(error.name + ".")):
            raise  # the module exists and misses something of its own
        raise UsageError(f"{kind} {name!r}: there is no module {place!r} (is its folder on PYTHONPATH?)") from error
