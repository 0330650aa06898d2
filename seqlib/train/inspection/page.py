"""A page of facts: a tree of values for programs, blocks of text for people."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seqlib.train.environment import differences, environment
from seqlib.train.tasks import task_of
from seqlib.util.errors import DataError
from seqlib.util.memory import size_text
from seqlib.util.table import text_table

_WEIGHTS = 20  # rows of the table that are shown unless all are asked for


class Page:
    """`record` is what was found, `damaged` the messages for what cannot be used; `text` is for people."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.record: dict[str, Any] = {"kind": kind, "folder": str(folder)}
        self.damaged: list[str] = []
        self._blocks: list[tuple[str, str]] = []
        self._next: list[str] = []

    def add(self, name: str, value: Any, text: str = "") -> None:
        """Keep `value` under `name`; `text` is shown below that heading (\"\" for none)."""
        self.record[name] = value
        if text:
            self._blocks.append((name.replace("_", " "), text))

    def facts(self, name: str, values: Mapping[str, Any]) -> None:
        """Keep a mapping, shown as two columns; what is empty is not shown."""
        shown = {key: value for key, value in values.items() if value not in (None, "", {}, [])}
        self.add(name, dict(values), columns(shown))

    def environment(self, then: Mapping[str, str]) -> None:
        """Where it was made, and in what that differs from here."""
        now = differences(dict(then), environment())
        same = "\nas it is here" if not now else "\ndifferent here:\n  " + "\n  ".join(now)
        shown = {name: value for name, value in then.items() if value != "unset"}
        self.add("environment", dict(then), columns(shown) + same)

    def weights(self, path: Path, quick: bool) -> None:
        """The table of a safetensors file."""
        from safetensors import SafetensorError

        try:
            self.add("weights", _weights(path, quick))
        except (SafetensorError, OSError) as error:
            raise DataError(f"{path}: cannot be read: {error}") from error

    def then(self, *commands: str) -> None:
        """What can be done with it."""
        self._next += commands
        self.record["next"] = self._next

    def text(self, all_weights: bool = False) -> str:
        """The page; the table of weights whole or its first rows."""
        blocks = [f"{self.record['folder']}: {self.record['kind']}"]
        blocks += [f"{name}\n{_indented(text)}" for name, text in self._blocks]
        if "weights" in self.record:
            blocks.append(f"weights\n{_indented(_weight_table(self.record['weights'], all_weights))}")
        if self._next:
            blocks.append("next\n" + _indented("\n".join(self._next)))
        return "\n\n".join(blocks)


def usage(task: str, folder: str) -> str:
    """The command that uses a model of a task."""
    given = "--prompt TEXT" if task == "language_model" else "< in.txt > out.txt"
    return f"seqlib {task_of(task).use} {folder} {given}"


def columns(values: Mapping[str, Any]) -> str:
    """Names and values, one under another."""
    width = max(map(len, values), default=0)
    return "\n".join(f"{name.ljust(width)}  {plain(value)}" for name, value in values.items())


def plain(value: Any) -> str:
    """A value as it is read: numbers with commas, lists and mappings without brackets."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {plain(one)}" for name, one in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(plain, value))
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def folder_size(path: Path) -> int:
    """Bytes of all files below a path, or of a file."""
    return path.stat().st_size if path.is_file() else sum(f.stat().st_size for f in path.rglob("*") if f.is_file())


def _indented(text: str) -> str:
    return "\n".join(f"  {line}".rstrip() for line in text.splitlines())


def _weights(path: Path, quick: bool) -> list[dict[str, Any]]:
    """A row a tensor: name, shape, dtype, and unless `quick` norm, least and largest of its finite values, and how many
    are not finite."""
    from safetensors import safe_open

    rows: list[dict[str, Any]] = []
    with safe_open(path, framework="numpy") as file:
        for name in file.keys():  # noqa: SIM118
            part = file.get_slice(name)
            row: dict[str, Any] = {"name": name, "shape": part.get_shape(), "dtype": str(part.get_dtype()).lower()}
            if not quick:
                array = np.asarray(file.get_tensor(name)).astype(np.float64)
                finite = array[np.isfinite(array)]
                row["norm"] = float(np.sqrt(np.sum(finite**2)))
                row["min"], row["max"] = (float(f(finite)) if finite.size else None for f in (np.min, np.max))
                row["non_finite"] = int(array.size - finite.size)
            rows.append(row)
    return rows


def _weight_table(rows: Sequence[Mapping[str, Any]], whole: bool) -> str:
    measured = bool(rows) and "norm" in rows[0]
    head = ["name", "shape", "dtype", *(["norm", "min", "max", "non-finite"] if measured else [])]
    lines: list[list[str]] = []
    for row in rows if whole else rows[:_WEIGHTS]:
        line = [row["name"], str(row["shape"]), row["dtype"]]
        if measured:
            line += ["" if row[key] is None else f"{row[key]:.4g}" for key in ("norm", "min", "max")]
            line.append(f"{row['non_finite']:,}" if row["non_finite"] else "")
        lines.append(line)
    count = sum(int(np.prod(row["shape"])) for row in rows)
    bad = sum(row.get("non_finite", 0) for row in rows)
    text = [text_table(head, lines, right=(3, 4, 5, 6))]
    if len(rows) > len(lines):
        text.append(f"... {len(rows) - len(lines)} more (--all shows them)")
    text.append(f"{len(rows)} tensors, {count:,} parameters" + (f", {bad:,} NOT FINITE" if bad else ""))
    return "\n".join(text)


def sized(path: Path) -> str:
    """A size for people."""
    return size_text(folder_size(path))
