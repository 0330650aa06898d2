"""Elementwise expressions by numba, for float32: runs of steps that IEEE arithmetic defines to the bit, and erf, which
is our own, become one compiled loop; exp, log, tanh and the like stay NumPy's, called on blocks between the loops. So
the values are those of `expression_numpy`, for every number of threads and wherever an element lies (no fast-math:
nothing is contracted).

R rows and C columns below: what is left of the result's axes when those are merged that all arrays step through evenly.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from seqlib.core.backends.threads import spread
from seqlib.core.ops.expression import Plan, Step
from seqlib.core.ops.expression_numpy import function, numpy_kernel
from seqlib.core.ops.jit_cpu import generated

TILE = 256
"""Elements that a loop computes into a buffer of its own before it writes them: an output may lie where an input lies,
and a loop whose writes might meet its reads is not vectorised."""
BLOCK = 1 << 17
"""Elements of a block where NumPy's functions and loops take turns; a turn costs the interpreter 3 µs."""

CHEAP = 8
"""How much less an element is worth here than in other kernels: 0.1 to 0.3 ns, and a thread wakes in 20 µs."""
NARROW = 16
"""Fewer columns than this are left to NumPy: a row costs a loop some ten nanoseconds."""

_EXACT = {
    "add": "{0} + {1}",
    "subtract": "{0} - {1}",
    "multiply": "{0} * {1}",
    "divide": "{0} / {1}",
    "negative": "-{0}",
    "sqrt": "np.sqrt({0})",
    "abs": "abs({0})",
    "floor": "np.floor({0})",
    "sign": "ONE if {0} > ZERO else (-ONE if {0} < ZERO else (ZERO if {0} == ZERO else {0}))",
    "maximum": "{0} if {0} > {1} or {0} != {0} else {1}",
    "minimum": "{0} if {0} < {1} or {0} != {0} else {1}",
    "equal": "{0} == {1}",
    "not_equal": "{0} != {1}",
    "less": "{0} < {1}",
    "less_equal": "{0} <= {1}",
    "greater": "{0} > {1}",
    "greater_equal": "{0} >= {1}",
    "logical_and": "{0} and {1}",
    "logical_or": "{0} or {1}",
    "logical_not": "not {0}",
    "isnan": "{0} != {0}",
    "isinf": "abs({0}) == INF",
    "isfinite": "abs({0}) < INF",
    "where": "{1} if {0} else {2}",
    "number": "{0}",
    "erf": "erf32({0})",
}
_LOGICAL = frozenset(("logical_and", "logical_or", "logical_not"))
EXACT = frozenset(_EXACT)
"""The steps that loops take."""


class Geometry(NamedTuple):
    """How R × C elements lie in each array: the step from row to row, and 0 or 1 from column to column."""

    rows: int
    columns: int
    row_steps: tuple[int, ...]
    column_steps: tuple[int, ...]


def geometry(shape: tuple[int, ...], layouts: Sequence[tuple[Any, ...]], outputs: int) -> Geometry | None:
    """The common geometry of arrays of (shape, strides in bytes, item size) broadcast to `shape`; None where they have
    more than two axes after merging, or columns that are not adjacent. The first `outputs` are written to."""
    axes: list[tuple[int, list[int]]] = []
    for axis, size in enumerate(shape):
        if size == 1:
            continue
        steps: list[int] = []
        for own, strides, item in layouts:
            at = axis - len(shape) + len(own)
            steps.append(0 if at < 0 or own[at] == 1 else strides[at] // item)
        if axes and all(outer == inner * size for outer, inner in zip(axes[-1][1], steps, strict=True)):
            axes[-1] = (axes[-1][0] * size, steps)
        else:
            axes.append((size, steps))
    if not 1 <= len(axes) <= 2:
        return None
    columns, column_steps = axes[-1]
    rows, row_steps = axes[0] if len(axes) == 2 else (1, [0] * len(layouts))
    if any(s not in (0, 1) for s in column_steps) or not all(column_steps[:outputs]) or min(row_steps) < 0:
        return None
    return Geometry(rows, columns, tuple(row_steps), tuple(column_steps))


class Segment(NamedTuple):
    """A run of exact steps, or one step of NumPy's. `reads` and `writes` are ("in", i) and ("at", s) from outside."""

    steps: tuple[Step, ...]
    exact: bool
    reads: tuple[Any, ...]
    writes: tuple[int, ...]


def segments(plan: Plan) -> tuple[Segment, ...]:
    """The steps of a plan in runs."""
    runs: list[list[Step]] = []
    for step in plan.steps:
        exact = step.fn in EXACT
        if runs and exact and runs[-1][0].fn in EXACT:
            runs[-1].append(step)
        else:
            runs.append([step])
    found: list[Segment] = []
    for n, run in enumerate(runs):
        reads: dict[Any, None] = {}
        written: set[Any] = set()
        for step in run:
            reads.update(dict.fromkeys(a for a in step.args if isinstance(a, tuple) and a not in written))
            written.add(("at", step.target))
        later = [step for r in runs[n + 1 :] for step in r]
        writes = tuple(sorted(s for _, s in written if _wanted(s, later, plan.outputs)))
        found.append(Segment(tuple(run), run[0].fn in EXACT, tuple(reads), writes))
    return tuple(found)


def _wanted(storage: int, later: Sequence[Step], outputs: int) -> bool:
    for step in later:
        if ("at", storage) in step.args:
            return True
        if step.target == storage:
            return False
    return storage < outputs


@lru_cache(maxsize=1024)
def loop(segment: Segment, vectors: tuple[bool, ...], bools: frozenset[Any]) -> Callable[..., None]:
    """The compiled loop of a segment: `f(first row, last row, first column, last column, write, row step, …, read, row
    step, …)` over flat arrays.

    `vectors` says which of its reads differ from column to column, `bools` which arguments are bool.
    """
    used = [a for s in segment.steps for a in (*s.args, ("at", s.target)) if isinstance(a, tuple)]
    names = {a: f"{'x' if a[0] == 'in' else 'v'}{a[1]}" for a in used}
    arguments: list[str] = []
    for k in range(len(segment.writes)):
        arguments += [f"w{k}", f"p{k}"]
    for k in range(len(segment.reads)):
        arguments += [f"r{k}", f"q{k}"]
    lines = [f"def loop(first, last, left, right, {', '.join(arguments)}):"]
    lines += [
        f"    t{k} = np.empty(TILE, np.{'bool_' if ('at', s) in bools else 'float32'})"
        for k, s in enumerate(segment.writes)
    ]
    lines.append("    for r in range(first, last):")
    lines += [f"        {names[a]} = r{k}[r * q{k}]" for k, a in enumerate(segment.reads) if not vectors[k]]
    lines += ["        for c in range(left, right, TILE):", "            n = min(TILE, right - c)"]
    lines += [f"            a{k} = r{k}[r * q{k} + c : r * q{k} + c + n]" for k in range(len(vectors)) if vectors[k]]
    lines.append("            for j in range(n):")
    lines += [f"                {names[a]} = a{k}[j]" for k, a in enumerate(segment.reads) if vectors[k]]
    for step in segment.steps:
        terms = [_term(step.fn, k, a, names, bools) for k, a in enumerate(step.args)]
        lines.append(f"                v{step.target} = {_EXACT[step.fn].format(*terms)}")
    lines += [f"                t{k}[j] = v{s}" for k, s in enumerate(segment.writes)]
    for k in range(len(segment.writes)):
        lines += [f"            o{k} = w{k}[r * p{k} + c : r * p{k} + c + n]", "            for j in range(n):"]
        lines.append(f"                o{k}[j] = t{k}[j]")
    return generated(_HEAD + "\n".join(lines) + "\n")


_HEAD = f"""import numpy as np

from seqlib.core.ops.special_cpu import erf32

TILE = {TILE}
ZERO, ONE, INF = np.float32(0.0), np.float32(1.0), np.float32(np.inf)


"""


def _term(fn: str, position: int, argument: Any, names: dict[Any, str], bools: frozenset[Any]) -> str:
    """The text of a step's argument: a float32, or a bool where the step asks for truth."""
    if not isinstance(argument, tuple):
        return f"np.float32({argument!r})"
    truth = fn in _LOGICAL or (fn == "where" and position == 0)
    if argument in bools:
        return names[argument] if truth else f"(ONE if {names[argument]} else ZERO)"
    return f"({names[argument]} != ZERO)" if truth else names[argument]


class Loops:
    """The kernel of a plan for float32 and bool: `Loops(plan)(outs, ins, scratch)`."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.by_numpy = numpy_kernel(plan)
        self.parts = segments(plan)
        self.known: dict[Any, tuple[Geometry, list[Any]] | None] = {}

    def __call__(self, outs: Sequence[Any], ins: Sequence[Any], _: Sequence[Any] = ()) -> None:
        key = tuple([(a.shape, a.strides, a.dtype.char) for a in (*outs, *ins) if a is not None])
        if key not in self.known:
            if len(self.known) > 1000:  # eager calls on ever new shapes
                self.known.clear()
            self.known[key] = self._prepare(outs, ins)
        found = self.known[key]
        if found is None:
            self.by_numpy(outs, ins, ())
            return
        where, parts = found
        flats = [_flat(a, where, k) for k, a in enumerate((*outs, *ins))]
        by_columns = where.rows < 8  # too few rows to share among threads
        total = where.columns if by_columns else where.rows
        work = _Work(self.plan, where, flats, parts)
        elements = where.rows * where.columns // CHEAP
        spread(work.span, total, elements, by_columns, multiple=TILE if by_columns else 1)

    def _prepare(self, outs: Sequence[Any], ins: Sequence[Any]) -> tuple[Geometry, list[Any]] | None:
        """The geometry of these arrays and a loop for each exact segment; None: better left to NumPy."""
        if any(o is None for o in outs):
            return None
        where = geometry(outs[0].shape, [(a.shape, a.strides, a.itemsize) for a in (*outs, *ins)], len(outs))
        if where is None or where.columns < NARROW:
            return None
        bools = {("at", o) for o in self.plan.masks} | {("in", i) for i, a in enumerate(ins) if a.dtype == np.bool_}
        parts: list[Any] = []
        for part in self.parts:
            vectors = tuple(a[0] == "at" or where.column_steps[a[1] + len(outs)] == 1 for a in part.reads)
            mine = bools & {*part.reads, *(("at", s.target) for s in part.steps)}
            parts.append((part, loop(part, vectors, frozenset(mine)) if part.exact else None))
        return where, parts


def _flat(array: Any, where: Geometry, k: int) -> Any:
    """Array number k, one-dimensional and contiguous from the first element to the last."""
    if array.flags.c_contiguous:
        return array.reshape(-1)
    size = (where.rows - 1) * where.row_steps[k] + (where.columns - 1) * where.column_steps[k] + 1
    return as_strided(array, (size,), (array.itemsize,))


class _Work(NamedTuple):
    """What the threads share."""

    plan: Plan
    where: Geometry
    flats: Sequence[Any]
    parts: Sequence[tuple[Segment, Callable[..., None] | None]]

    def span(self, first: int, last: int, by_columns: bool) -> None:
        """All segments over rows (or columns) first … last - 1: at once where all is one loop, else in blocks."""
        bounds = (0, self.where.rows, first, last) if by_columns else (first, last, 0, self.where.columns)
        if len(self.parts) == 1 and self.parts[0][1] is not None:
            self.block(*bounds)
            return
        width = bounds[3] - bounds[2]
        rows, columns = (1, BLOCK) if width >= BLOCK else (BLOCK // width, width)
        for r in range(bounds[0], bounds[1], rows):
            for c in range(bounds[2], bounds[3], columns):
                self.block(r, min(r + rows, bounds[1]), c, min(c + columns, bounds[3]))

    def block(self, top: int, bottom: int, left: int, right: int) -> None:
        """All segments over a block."""
        shape = (bottom - top, right - left)
        room: dict[Any, Any] = {}  # temporaries
        for part, compiled in self.parts:
            for s in part.writes:
                if s >= self.plan.outputs and ("at", s) not in room:
                    room["at", s] = np.empty(shape, np.bool_ if s in self.plan.masks else np.float32)
            if compiled is None:
                (step,) = part.steps
                args = (self.piece(a, top, left, shape, room) if isinstance(a, tuple) else a for a in step.args)
                function(step.fn)(*args, out=self.piece(("at", step.target), top, left, shape, room))
                continue
            arguments: list[Any] = []
            for a in (*(("at", s) for s in part.writes), *part.reads):
                if a in room:
                    arguments += [room[a].reshape(-1), shape[1]]
                else:
                    flat, row_step, column_step = self.array(a)
                    arguments += [flat[top * row_step + left * column_step :], row_step]
            compiled(0, shape[0], 0, shape[1], *arguments)

    def array(self, argument: tuple[str, int]) -> tuple[Any, int, int]:
        """An input or output, flat, with its steps."""
        k = argument[1] + self.plan.outputs if argument[0] == "in" else argument[1]
        return self.flats[k], self.where.row_steps[k], self.where.column_steps[k]

    def piece(self, argument: Any, top: int, left: int, shape: tuple[int, int], room: dict[Any, Any]) -> Any:
        """The block of an input, output or temporary as an array of `shape`."""
        if argument in room:
            return room[argument]
        flat, row_step, column_step = self.array(argument)
        strides = (row_step * flat.itemsize, column_step * flat.itemsize)
        start = (top * row_step + left * column_step) * flat.itemsize
        return np.ndarray(shape, flat.dtype, flat, start, strides)
