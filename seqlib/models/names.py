"""Which tensor of a checkpoint is which parameter: one table a family of models, for reading and for writing."""

import itertools
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seqlib.nn.module import Module
from seqlib.util.errors import SeqlibError, nearest

_WILD = {"*": r"\d+", "#": r"\d+", "?": r"\w", "@": r"\w+"}
_SHOWN = 10  # names of each kind that an error lists


def read_table(name: str) -> str:
    """The table of weight names in `models/tables`."""
    return (Path(__file__).parent / "tables" / f"{name}.txt").read_text(encoding="utf-8")


class Fields:
    """The fields of a configuration by their names in a config.json, as `models/tables/NAME_config.txt` has them."""

    def __init__(self, name: str):
        self.pairs = [line.split() for line in read_table(f"{name}_config").splitlines()]

    def read(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """Our fields, those that a config.json has."""
        return {ours: found[theirs] for ours, theirs in self.pairs if found.get(theirs) is not None}

    def write(self, config: Any) -> dict[str, Any]:
        """A config.json's fields."""
        return {theirs: getattr(config, ours) for ours, theirs in self.pairs}


class _Rule(NamedTuple):
    pattern: re.Pattern[str]
    parts: tuple[str, ...]
    theirs: str
    how: str


class _Place(NamedTuple):
    """Where a parameter lies in a checkpoint: in a tensor's rows from `start` on, changed by `how`."""

    name: str
    how: str
    start: int | None


class Report(NamedTuple):
    """What reading left: parameters that got no value, and tensors of the checkpoint that no parameter took."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]


class Names:
    """A table of lines ``ours theirs [how]``: a parameter or a module of ours, and its name in the checkpoint. What
    lies below a module has one name in both. ``*`` is a number, ``#`` one that is higher by 1 in theirs, ``?`` a
    letter, ``@`` a word. The first line that fits counts.

    ``(q_proj|k_proj|v_proj)`` joins several of ours, row after row, in one tensor of theirs. `how` is ``T`` (theirs is
    transposed, as GPT-2's matrices are), ``row`` (theirs has an axis of 1 before) or ``+1`` (ours is theirs + 1, as
    Gemma's gains are).

    `prefix` is what names of theirs begin with in checkpoints of models with a head, and do not in those without.
    `root` is put before names of ours: the table tells of models with a head, and this is what the head is put on.
    `unused` are patterns (fnmatch) of tensors that hold nothing to learn, or a second copy of something.
    """

    def __init__(self, table: str, prefix: str = "", unused: tuple[str, ...] = (), root: str = ""):
        self.prefix, self.unused, self.root = prefix, unused, root
        self.rules = [_rule(*line.split()) for line in table.splitlines() if line.strip()]

    def place(self, name: str, sizes: Mapping[str, int]) -> _Place:
        """Where our parameter `name` lies; `sizes` are the rows of all parameters. Raises SeqlibError for a name that
        the table does not have."""
        for pattern, parts, theirs, how in self.rules:
            if (found := pattern.fullmatch(self.root + name)) is None:
                continue
            start = None
            if parts:
                before = parts[: parts.index(found["part"])]
                own, end = found.start("part") - len(self.root), found.end("part") - len(self.root)
                start = sum(sizes[name[:own] + part + name[end:]] for part in before)
            wild = {key: value or "" for key, value in found.groupdict().items()}
            wild |= {f"{key}_next": str(int(value) + 1) for key, value in wild.items() if value.isdigit()}
            return _Place(theirs.format(**wild) + wild["rest"], how, start)
        raise SeqlibError(f"the table of weight names has no line for {name}")

    def read(self, model: Module, checkpoint: Mapping[str, np.ndarray], fresh: tuple[str, ...] = ()) -> Report:
        """Load a checkpoint, tensor by tensor, into `model`, whatever its dtypes.

        Parameters of ours that fit a pattern in `fresh` (fnmatch) keep their values where the checkpoint lacks them,
        and tensors for which there is no parameter are passed over then. Raises SeqlibError that lists missing,
        unexpected and mis-shaped tensors; the model is unchanged then.
        """
        variables = dict(model._paths())
        sizes = {name: v.shape[0] if v.shape else 1 for name, v in variables.items()}
        bare = not any(name.startswith(self.prefix) for name in checkpoint)
        source: dict[str, _Place] = {}
        taken: set[str] = set()
        for name in variables:
            place = self.place(name, sizes)
            if bare:
                place = place._replace(name=place.name.removeprefix(self.prefix))
            if place.name in checkpoint:
                source[name] = place
                taken.add(place.name)
        given = {id(variables[name]) for name in source}
        lacking = {name: v for name, v in variables.items() if id(v) not in given}
        missing = tuple(self.place(n, sizes).name for n in lacking if not any(fnmatchcase(n, f) for f in fresh))
        unused = [*self.unused, *(u.removeprefix(self.prefix) for u in self.unused)]
        rest = tuple(n for n in checkpoint if n not in taken and not any(fnmatchcase(n, u) for u in unused))
        if missing or (rest and not fresh):
            problems = _list("missing", missing, rest) + _list("unexpected", () if fresh else rest, missing)
            raise SeqlibError(f"this checkpoint does not fit {type(model).__name__}:{problems}")
        model.load(_Renamed(checkpoint, source, sizes), strict=False)
        return Report(tuple(lacking), rest)

    def write(self, model: Module) -> dict[str, np.ndarray]:
        """The weights of `model` by the checkpoint's names, as `read` takes them; without the prefix where the model
        has no head."""
        weights = model.state_dict(copy=False)
        sizes = {name: v.shape[0] if v.shape else 1 for name, v in model._paths()}
        parts: dict[str, list[tuple[int, np.ndarray]]] = {}
        for name, value in weights.items():
            place = self.place(name, sizes)
            theirs = place.name.removeprefix(self.prefix) if self.root else place.name
            value = value - 1 if place.how == "+1" else value[None] if place.how == "row" else value
            parts.setdefault(theirs + ("\0T" if place.how == "T" else ""), []).append((place.start or 0, value))
        joined: dict[str, np.ndarray] = {}
        for key, found in parts.items():
            name, _, how = key.partition("\0")
            values = [value for _, value in sorted(found, key=lambda pair: pair[0])]
            value = values[0] if len(values) == 1 else np.concatenate(values)
            joined[name] = np.ascontiguousarray(value.T if how and value.ndim > 1 else value)
        return joined


class _Renamed(Mapping[str, np.ndarray]):
    """A checkpoint by our names."""

    def __init__(self, checkpoint: Mapping[str, np.ndarray], source: dict[str, _Place], sizes: dict[str, int]):
        self.checkpoint, self.source, self.sizes = checkpoint, source, sizes

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """As arrays have them in a checkpoint that tells without reading."""
        known, found = getattr(self.checkpoint, "shapes", {}), {}
        for name, (theirs, how, start) in self.source.items():
            if theirs in known:
                shape = known[theirs][:: -1 if how == "T" else 1][how == "row" :]
                found[name] = shape if start is None else (self.sizes[name], *shape[1:])
        return found

    def __getitem__(self, name: str) -> np.ndarray:
        theirs, how, start = self.source[name]
        value = self.checkpoint[theirs]
        if how == "T" and value.ndim > 1:
            value = value.T
        if start is not None:
            value = value[start : start + self.sizes[name]]
        return value.astype(np.float32) + 1 if how == "+1" else value[0] if how == "row" else value

    def __contains__(self, name: object) -> bool:
        return name in self.source

    def __iter__(self) -> Iterator[str]:
        return iter(self.source)

    def __len__(self) -> int:
        return len(self.source)


def _rule(ours: str, theirs: str, how: str = "") -> _Rule:
    before, joined, after = re.fullmatch(r"([^(]*)(?:\((.*)\))?(.*)", ours).groups()  # type: ignore[union-attr]
    count = itertools.count()
    wild = [
        "".join(f"(?P<n{next(count)}>{_WILD[c]})" if c in _WILD else re.escape(c) for c in part)
        for part in (before, after)
    ]
    pattern = wild[0] + (f"(?P<part>{joined})" if joined else "") + wild[1] + r"(?P<rest>\..*)?"
    count = itertools.count()
    theirs = re.sub(r"[*#?@]", lambda m: f"{{n{next(count)}{'_next' * (m[0] == '#')}}}", theirs)
    return _Rule(re.compile(pattern), tuple(joined.split("|")) if joined else (), theirs, how)


def _list(title: str, names: tuple[str, ...], others: tuple[str, ...]) -> str:
    """Names under a title, each with the name among `others` that it most resembles."""
    if not names:
        return ""
    few = others if len(names) <= _SHOWN else ()
    hints = [((hint := nearest(name, few, 1)) and f" (is it {hint[0]}?)") or "" for name in names[:_SHOWN]]
    more = f"\n    … and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"\n  {title} ({len(names)}):" + "".join(f"\n    {n}{h}" for n, h in zip(names, hints)) + more
