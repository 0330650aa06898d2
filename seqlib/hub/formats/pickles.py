"""Pickles read as data: a machine of its own for the instructions that weight files have, which calls nothing.

A class or function that a pickle names becomes a `Named`, a call of one a `Call`; what is to be made of a call is said
by the few names in a table of the caller's (`torch.py`). Instructions beyond those of `_SIMPLE` and `_run` are refused.
"""

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

_MARK = object()
_PUSH = set(
    "BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 "
    "BINSTRING SHORT_BINSTRING".split()
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_SET": list}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class PickleError(ValueError):
    """A pickle that is damaged, or has what no weight file needs."""


@dataclass(frozen=True)
class Named:
    """A class or function by its name."""

    name: str


@dataclass
class Call:
    """An object of a class that is not known, as an inert record of how it would have been made."""

    function: Any
    args: Any
    items: list[Any] = field(default_factory=list)


def load(
    file: Any, calls: Mapping[str, Callable[..., Any]], persistent: Callable[[Any], Any] = lambda key: Call("id", key)
) -> Any:
    """The object of the pickle at the position of `file` (whose `read` gives at most what is there).

    `calls` maps full names to what a call of them gives; `persistent` gives what an id stands for. Raises PickleError.
    """
    return _Machine(calls, persistent).run(file)


class _Machine:
    def __init__(self, calls: Mapping[str, Callable[..., Any]], persistent: Callable[[Any], Any]) -> None:
        self.calls, self.persistent = calls, persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, file: Any) -> Any:
        try:
            for opcode, argument, position in pickletools.genops(file):
                name = opcode.name
                if name == "STOP":
                    return self.stack.pop()
                if not self._simple(name, argument):
                    self._build(name, argument, position)
        except PickleError:
            raise
        except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise PickleError(str(error) or type(error).__name__) from error
        raise PickleError("it has no end")

    def _simple(self, name: str, argument: Any) -> bool:
        stack = self.stack
        if name in _PUSH:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name == "MARK":
            stack.append(_MARK)
        elif name in _TUPLES:
            count = _TUPLES[name]
            if len(stack) < count:
                raise PickleError("a tuple has too few elements")
            stack[-count:] = [tuple(stack[-count:])]
        else:
            return name in ("PROTO", "FRAME")
        return True

    def _build(self, name: str, argument: Any, position: int | None) -> None:
        stack = self.stack
        if name == "TUPLE":
            stack.append(tuple(self._to_mark()))
        elif name in ("APPEND", "SETITEM"):
            count = 1 if name == "APPEND" else 2
            values = [stack.pop() for _ in range(count)][::-1]
            self._fill(values, pairs=name == "SETITEM")
        elif name in ("APPENDS", "ADDITEMS", "SETITEMS"):
            self._fill(self._to_mark(), pairs=name == "SETITEMS")
        elif name == "GLOBAL":
            stack.append(Named(argument.replace(" ", ".", 1)))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            stack.append(Named(f"{module:s}.{attribute:s}"))
        elif name in ("REDUCE", "NEWOBJ"):
            args, function = stack.pop(), stack.pop()
            known = self.calls.get(function.name) if isinstance(function, Named) else None
            stack.append(Call(function, args) if known is None else known(*args))
        elif name == "BUILD":
            stack.pop()  # attributes of an object: weights have none that matter
        elif name == "BINPERSID":
            stack.append(self.persistent(stack.pop()))
        else:
            raise PickleError(f"the instruction {name} at byte {position} is none that weight files need")

    def _to_mark(self) -> list[Any]:
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise PickleError("a list of elements has no beginning")
        found = self.stack[at + 1 :]
        del self.stack[at:]
        return found

    def _fill(self, values: list[Any], pairs: bool) -> None:
        into = self.stack[-1]
        if isinstance(into, Call):
            into.items += values
        elif pairs and type(into) is dict:
            for key, value in zip(values[::2], values[1::2], strict=True):
                if type(key) not in (str, int, bytes, float, bool):  # hashing a nest of tuples need not end
                    raise PickleError(f"a dict has a key of type {type(key).__name__}")
                into[key] = value
        elif not pairs and type(into) is list:
            into += values
        else:
            raise PickleError(f"elements for a {type(into).__name__}")
