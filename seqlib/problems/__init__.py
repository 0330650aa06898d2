"""Named problems, and problems over people's own files.

A name is a location: ``translate_multi30k_ende`` is ``ende()`` in ``translate_multi30k.py``; ``_rev`` after any name
turns it round.
"""

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqlib.util.errors import UsageError
from seqlib.util.lookup import available, resolve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seqlib.data.records import Record
    from seqlib.problems.translation import Translation

__all__ = ["list_problems", "load", "load_problem"]


def list_problems() -> list[str]:
    """Names of all problems of the library, sorted."""
    return available(__name__)


def load_problem(name: str, *, data_dir: str | Path | None = None, **options: Any) -> "Translation":
    """The problem of a name, of ``package.module:name`` or of ``path/file.py:name``; ``_rev`` at the end reverses it.

    ``data_dir`` (where its files lie) and further options go to the problem's factory function. Raises UsageError with
    the nearest names for an unknown name, and for an option that this problem does not have.
    """
    forward = name.removesuffix("_rev").removesuffix("-rev")
    factory = resolve(forward, __name__, "problem")
    if data_dir is not None:
        options["data_dir"] = data_dir
    if not callable(factory):
        raise UsageError(f"problem {name!r} is of type {type(factory).__name__}, expected a function or class")
    known = inspect.signature(factory).parameters
    if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in known.values()):
        for option in options:
            if option not in known:
                takes = f"it takes {', '.join(known)}" if known else "it takes none"
                raise UsageError(f"problem {forward} has no option {option!r}; {takes}")
    problem: Any = factory(**options)
    return problem.reversed() if forward != name else problem


def load(name: str, split: str = "train", *, data_dir: str | Path | None = None, **options: Any) -> "Iterator[Record]":
    """The records of a problem's ``split``, or of an expression such as ``train[:80%]``, ``train[100:200]+dev``, as a
    stream; ``name``, ``data_dir`` and ``options`` as in ``load_problem``. Raises UsageError and DataError."""
    return load_problem(name, data_dir=data_dir, **options).read(split)
