"""`hooks()`: what every op of a stretch of code cost, in time and memory, and the first that gave NaN or infinity."""

import time
import weakref
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from seqlib.core import dtypes
from seqlib.core.ambient import ambient, setting
from seqlib.core.backends import host, is_cuda

Array = np.ndarray[Any, Any]
Arrays = Sequence[Array | None]
Asked = tuple[str, str, str]  # op, layer, line


class Call(NamedTuple):
    """One op that ran: its name, the layer and the user's line that asked for it, seconds, bytes written."""

    op: str
    layer: str
    line: str
    seconds: float
    nbytes: int


class NonFinite(NamedTuple):
    """Where NaN or infinity (`kind`) came up: the output of `op` of this shape, in `layer`, asked for at `line`.

    `source` names what held it before the op ran; it is empty where the op made it of finite inputs, the largest of
    which is `largest` in absolute value.
    """

    kind: str
    op: str
    layer: str
    line: str
    shape: tuple[int, ...]
    source: str
    largest: float

    def __str__(self) -> str:
        why = f"{self.source} held it before" if self.source else f"largest input {self.largest:.3g}"
        layer = f"layer {self.layer}" if self.layer else "no layer"
        return f"{self.kind} in the output of {self.op}, shape {self.shape}, {layer} ({self.line}); {why}"


class Seen:
    """What `hooks` saw. `str()` is a table, the costliest first.

    `calls` lists every op in order, `first_non_finite` is the first op that made NaN or infinity of finite inputs
    (or read NaN from outside), `peak_bytes` the most memory that results of ops took at one time: those alive
    (eager), the arena's high-water mark (compiled).
    """

    def __init__(self, on_call: Callable[[Call], None] | None, finite: bool) -> None:
        self.calls: list[Call] = []
        self.first_non_finite: NonFinite | None = None
        self.peak_bytes = 0
        self._on_call = on_call
        self._finite = finite
        self._alive = 0

    def total(self, *by: str) -> list[tuple[tuple[Any, ...], int, float, int]]:
        """Calls summed by "op", "layer" or both: (key, calls, seconds, bytes written), the slowest first."""
        sums: dict[tuple[Any, ...], list[Any]] = {}
        for call in self.calls:
            row = sums.setdefault(tuple(getattr(call, name) for name in by), [0, 0.0, 0])
            row[0], row[1], row[2] = row[0] + 1, row[1] + call.seconds, row[2] + call.nbytes
        rows = [(key, *row) for key, row in sums.items()]
        return sorted(rows, key=lambda row: -row[2])

    def __str__(self) -> str:
        rows = self.total("layer", "op")
        lines = [f"{'ms':>9} {'calls':>6} {'MiB':>9}  op, layer"]
        lines += [f"{s * 1e3:9.2f} {n:6d} {size / 2**20:9.2f}  {op}  {layer}" for (layer, op), n, s, size in rows[:40]]
        if len(rows) > 40:
            lines.append(f"{sum(row[2] for row in rows[40:]) * 1e3:9.2f}  in {len(rows) - 40} more")
        total = sum(call.seconds for call in self.calls)
        lines.append(f"{total * 1e3:9.2f} {len(self.calls):6d}  in all; at most {self.peak_bytes / 2**20:.2f} MiB")
        if self._finite:
            lines.append(f"first non-finite: {self.first_non_finite or 'none'}")
        return "\n".join(lines)

    def hold(self, array: Array) -> None:
        """Count a fresh array as long as it lives."""
        self._alive += array.nbytes
        self.peak_bytes = max(self.peak_bytes, self._alive)
        weakref.finalize(array, self._free, array.nbytes).atexit = False

    def _free(self, nbytes: int) -> None:
        self._alive -= nbytes

    def note(self, call: Call) -> None:
        self.calls.append(call)
        if self._on_call is not None:
            self._on_call(call)

    @property
    def searching(self) -> bool:
        return self._finite and self.first_non_finite is None


@contextmanager
def hooks(on_call: Callable[[Call], None] | None = None, *, finite: bool = True) -> Generator[Seen, None, None]:
    """Watch every op that runs inside, eagerly or as a launch of a compiled function; yields a `Seen`.

    `on_call` gets a `Call` after each op. With `finite` every result is searched for NaN and infinity until one is
    found. Infinities that an op was given (masks of -inf) don't count, NaN does. Views cost nothing and are left out.
    For looking inside: everything is slower meanwhile, the stated seconds are those of the ops alone.
    """
    seen = Seen(on_call, finite)
    with setting(hooks=(*ambient.hooks, seen)):
        yield seen


def active() -> tuple[Seen, ...]:
    """The hooks in force in this thread."""
    return ambient.hooks


def watch(run: Callable[[], Arrays], ins: Arrays, outs: Arrays, names: Sequence[str], asked: Asked) -> Arrays:
    """Run one op under the hooks in force. `run()` gives the outputs, which are returned; `outs` are those that exist
    already (they may lie where inputs lie), `names` what messages call the inputs.
    """
    searching = [seen for seen in active() if seen.searching]
    before = {
        i: _state(a)
        for i, a in enumerate(ins)
        if searching and a is not None and any(o is not None and np.may_share_memory(a, o) for o in outs)
    }
    start = time.perf_counter()
    made = run()
    seconds = time.perf_counter() - start
    for seen in active():
        seen.note(Call(*asked, seconds, sum(o.nbytes for o in made if o is not None)))
    found = _origin(made, ins, before, names, asked) if searching else None
    for seen in searching:
        seen.first_non_finite = found
    return made


def _origin(made: Arrays, ins: Arrays, before: dict[int, Any], names: Sequence[str], asked: Asked) -> NonFinite | None:
    for out in made:
        if out is None or (state := _state(out))[1] < np.inf:
            continue
        states = {i: before.get(i) or _state(a) for i, a in enumerate(ins) if a is not None}
        nan = next((i for i, s in states.items() if s[0]), None)
        where = (*asked, out.shape)
        if state[0]:
            source = "" if nan is None else names[nan] or "an input"
            return NonFinite("NaN", *where, source, max((s[1] for s in states.values()), default=0.0))
        if states and all(s[1] < np.inf for s in states.values()):  # else it passes on what it was given
            return NonFinite("infinity", *where, "", max(s[1] for s in states.values()))
    return None


def _state(array: Array) -> tuple[bool, float]:
    """Whether there is a NaN, and the largest absolute value (infinity also for NaN)."""
    if not dtypes.is_float(array.dtype) or array.size == 0:
        return False, 0.0
    array = host(array) if is_cuda(array) else array
    if np.isfinite(array).all():
        return False, max(float(array.max()), -float(array.min()))
    return bool(np.isnan(array).any()), np.inf
