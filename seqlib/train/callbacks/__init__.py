"""The callbacks that come with seqlib, one a file, and the grammar by which a configuration names them.

An entry of `callbacks` is `name`, or `name:setting=value:setting=value`: `early_stopping:patience=3`. The name is that
of a file here, or of the class in it (`EarlyStopping`), or the location of the user's own: `package.module:Name`,
`file.py:Name`. Settings are the arguments of the class.
"""

import importlib
import inspect
import pkgutil
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from seqlib.train.callback import Callback
from seqlib.util.errors import UsageError, unknown
from seqlib.util.lookup import resolve

__all__ = ["absolute", "available", "make"]


def available() -> dict[str, type[Callback]]:
    """The callbacks of this folder by file name."""
    stems = sorted(info.name for info in pkgutil.iter_modules(__path__))
    modules = {stem: importlib.import_module(f"{__name__}.{stem}") for stem in stems}
    return {stem: getattr(module, module.__all__[0]) for stem, module in modules.items()}


def make(entries: Sequence[str]) -> list[Callback]:
    """The callbacks that `entries` name. `UsageError`, with the nearest names, for one that can't be made."""
    return [_make(entry) for entry in entries]


def is_location(entry: str) -> bool:
    """Whether an entry says where a user's own code is, as ``file.py:Name`` or ``module:Name``."""
    parts = entry.split(":")
    return len(parts) > 1 and "=" not in parts[1]


def absolute(entries: Sequence[str]) -> list[str]:
    """The entries with files as absolute paths: a run may be resumed from another folder."""
    found = []
    for entry in entries:
        place, colon, rest = entry.partition(".py:")
        found.append(f"{Path(place + '.py').absolute()}:{rest}" if colon else entry)
    return found


def _make(entry: str) -> Callback:
    parts = [part.strip() for part in entry.split(":")]
    first = next((n for n, part in enumerate(parts) if n and "=" in part), len(parts))
    name, settings = ":".join(parts[:first]), parts[first:]
    factory = resolve(name, __name__, "callback") if ":" in name else _own(name)
    if isinstance(factory, Callback) and not settings:
        return factory
    if not callable(factory):
        raise UsageError(f"callback {name!r} is no class and no function")
    found = factory(**_arguments(factory, name, settings))
    if not isinstance(found, Callback):
        raise UsageError(f"callback {name!r} gives a {type(found).__name__}, not a seqlib.train.callback.Callback")
    return found


def _own(name: str) -> type[Callback]:
    known = available()
    classes = {found.__name__.casefold(): found for found in known.values()}
    plain = name.casefold().replace("-", "_")
    found = known.get(plain) or classes.get(plain)
    if found is None:
        raise unknown("callback", name, known)
    return found


def _arguments(factory: Callable[..., Any], name: str, settings: Sequence[str]) -> dict[str, Any]:
    """The settings as arguments of the types that the factory declares."""
    parameters = inspect.signature(factory).parameters
    hints = typing.get_type_hints(factory.__init__ if inspect.isclass(factory) else factory)
    found: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = (part.strip() for part in setting.partition("="))
        if not equals:
            raise UsageError(f"callback {name}: expected setting=value, got {setting!r}")
        if key not in parameters:
            raise unknown(f"setting of callback {name}:", key, parameters)
        try:
            found[key] = msgspec.convert(text, hints.get(key, str), strict=False)
        except msgspec.ValidationError as error:
            reason = str(error)
            raise UsageError(f"callback {name}: {key}: {reason[:1].lower()}{reason[1:]}") from error
    missing = [
        key
        for key, p in parameters.items()
        if key not in found and p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if missing:
        raise UsageError(f"callback {name} needs {' and '.join(missing)}: {name}:{missing[0]}=...")
    return found
