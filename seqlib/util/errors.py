"""Errors that a user can mend, and the suggestions they carry."""

from collections.abc import Iterable
from difflib import SequenceMatcher

_LIST_ALL_UP_TO = 12


class SeqlibError(Exception):
    """Anything a user can mend. The command line prints the message alone and exits with code 2."""


class UsageError(SeqlibError):
    """A name, flag or value that does not exist or does not fit."""


class OutOfMemoryError(SeqlibError, MemoryError):
    """More memory is needed than there is; the message names how much, how much is free and the largest tensors."""


class DataError(SeqlibError):
    """A missing, damaged or inconsistent input file; the message names file and line."""


class ShapeError(SeqlibError, ValueError):
    """Shapes that do not fit: the message names the op, the argument, what was expected and what came."""


class DtypeError(SeqlibError, TypeError):
    """Dtypes that do not fit: the message names the op, the argument, what was expected and what came."""


class TraceError(SeqlibError):
    """Something that a traced function may not do, such as reading a value or capturing a tensor."""


class HubError(SeqlibError):
    """A model that can't be had: not found, refused, damaged on the way, or not in the cache without a network."""


class BundleError(SeqlibError):
    """A saved-model folder that is incomplete, damaged, or of an unknown format version."""


def nearest(name: str, options: Iterable[str], n: int = 3) -> list[str]:
    """The up to `n` options most like `name`, best first; case and the difference of '-' and '_' don't count.

    An option counts as near when half of the characters agree in order, or when one name contains the other; those
    much further than the best are left out.
    """
    wanted = _plain(name)
    scored: list[tuple[float, str]] = []
    for option in dict.fromkeys(options):
        candidate = _plain(option)
        score = SequenceMatcher(None, wanted, candidate).ratio()
        if len(wanted) > 1 and (wanted in candidate or candidate in wanted):
            score = max(score, 0.6)
        if candidate.startswith(wanted):
            score += 0.01  # of two that are equally like it, the one that goes on from it
        if score >= 0.5:
            scored.append((-score, option))
    scored.sort()
    return [option for score, option in scored[:n] if score <= scored[0][0] + 0.15]


def hint(name: str, options: Iterable[str]) -> str:
    """`; did you mean a or b?` of the nearest options; "" where none is near."""
    near = nearest(name, options)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def unknown(kind: str, name: str, options: Iterable[str]) -> UsageError:
    """The error for a name that is none of `options`: nearest names first, the whole list when it is short."""
    names = sorted(set(options))
    message = f"unknown {kind} {name!r}"
    near = nearest(name, names)
    if near:
        message += f"; did you mean {_either(near)}?"
    if not names:
        message += f"; there is no {kind} to choose from"
    elif len(names) <= _LIST_ALL_UP_TO and set(near) != set(names):
        message += f" Known: {', '.join(names)}" if near else f"; known: {', '.join(names)}"
    return UsageError(message)


def _plain(name: str) -> str:
    return name.casefold().replace("-", "_")


def _either(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
