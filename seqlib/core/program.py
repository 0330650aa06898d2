"""Running: a plan bound to arrays and replayed.

All programs of the process share one arena, so they run one at a time, under one lock.
"""

from __future__ import annotations

import inspect
import threading
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from seqlib.core import debug, hooks
from seqlib.core.backends import BACKENDS
from seqlib.core.backends.base import Backend, Bound, run_all
from seqlib.core.backends.threads import fork_locks
from seqlib.core.graph import Graph
from seqlib.core.hoist import Group
from seqlib.core.lower import Launch, Plan
from seqlib.core.memory import Buffer, Storage
from seqlib.core.meta import no_memory
from seqlib.core.modes import mode_changes
from seqlib.core.op import Meta
from seqlib.util.errors import OutOfMemoryError
from seqlib.util.memory import size_text

Array = np.ndarray[Any, Any]


class Arena:
    """The one stretch of a device's memory that all its programs share: programs run one at a time."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.memory: Any = None
        self.nbytes = 0
        self.lock = threading.RLock()
        fork_locks.append(self.lock)
        self.bound: weakref.WeakSet[Program] = weakref.WeakSet()

    def reserve(self, nbytes: int) -> None:
        """Make room for `nbytes`, aligned to 64. When the memory moves, every program lets go of the old
        one.
        """
        if nbytes > self.nbytes or self.memory is None:
            self.release()  # before the new one is asked for: both might not fit
            self.memory, self.nbytes = self.backend.memory(nbytes), nbytes

    def release(self) -> None:
        """Give the memory back; the next run asks for it again."""
        with self.lock:
            for program in list(self.bound):
                program.unbind()
            self.bound.clear()
            self.memory, self.nbytes = None, 0


ARENAS = {device: Arena(backend) for device, backend in BACKENDS.items()}


class _Kept:
    """The results of a hoisted group, and the versions of its locations that they were computed of."""

    def __init__(self, group: Group, backend: Backend) -> None:
        self.variables = group.variables  # kept alive: the group's key has their ids
        self.arrays = [backend.memory(buffer.nbytes) for buffer in group.kept]
        self.versions: list[int] = []


_kept: weakref.WeakValueDictionary[tuple[Any, ...], _Kept] = weakref.WeakValueDictionary()
"""Those of all programs alive, by the group's key: programs for other shapes hoist the same."""


class Held(NamedTuple):
    """A buffer of the arena, by the op that wrote it first."""

    nbytes: int
    op: str
    layer: str
    line: str
    meta: Meta

    def __str__(self) -> str:
        layer = f", layer {self.layer}" if self.layer else ""
        line = f" ({self.line})" if self.line else ""
        return f"{size_text(self.nbytes)}  {self.meta.dtype}{list(self.meta.shape)}  {self.op}{layer}{line}"


class _Binding(NamedTuple):
    """A plan with its arrays. `storage` is what the locations held when it was bound."""

    launches: list[Bound]
    hoisted: list[list[Bound]]
    inputs: list[Array]
    outputs: list[Array]
    copies: list[tuple[Array, Array]]
    storage: list[tuple[Any, Any]]
    replay: Callable[[], None]


class Program:
    """A lowered graph that runs. `launch_count` and `arena_bytes` say what a run costs, `reason` in what the call that
    it was built for differed from those before.
    """

    def __init__(self, graph: Graph, plan: Plan, build_seconds: float = 0.0, reason: str = "") -> None:
        self.graph = graph
        self.plan = plan
        self.build_seconds = build_seconds
        self.reason = reason
        self.backend = BACKENDS[graph.device]
        self.arena = ARENAS[graph.device]
        self._binding: _Binding | None = None
        self._moves = 0
        self._kept: list[_Kept] = []  # one for each group of the plan, once the program has run
        self._runs = [0]  # counts for the versions of all that it writes
        for variable, _ in graph.updates:
            variable.counts.append(self._runs)

    @property
    def launch_count(self) -> int:
        return len(self.plan.launches)

    @property
    def arena_bytes(self) -> int:
        return self.plan.arena_bytes

    def summary(self) -> str:
        """One line: operations, launches, planned memory, seconds to build."""
        hoisted = f" and {self.plan.hoisted_bytes / 2**20:.1f} MiB hoisted" if self.plan.hoisted else ""
        return (
            f"{len(self.graph.nodes)} ops, {self.launch_count} launches, "
            f"{self.arena_bytes / 2**20:.1f} MiB planned{hoisted}, "
            f"{len(self.plan.copies)} location copies, built in {self.build_seconds:.2f} s"
        )

    def out_of_memory(self) -> OutOfMemoryError:
        """The error for a program whose arena there is no room for: bytes, and the largest tensors at its peak."""
        free = self.backend.free_bytes()
        free_text = "" if free is None else f", {size_text(free)} are free"
        tensors = "\n  ".join(map(str, self.largest(5)))
        return OutOfMemoryError(
            f"out of memory: {size_text(self.arena_bytes)} ({self.arena_bytes:,} bytes) are needed for tensors"
            f"{free_text}. The largest at the fullest moment:\n  {tensors}"
        )

    def print_graph(self) -> None:
        """Print the optimised graph to stdout."""
        print(self.graph)

    def sources(self) -> str:
        """The source of every distinct kernel of the program: an elementwise op's expression, else the Python code."""
        found: list[str] = []
        for launch in (*(launch for group in self.plan.hoisted for launch in group.launches), *self.plan.launches):
            if launch.op is None:
                continue
            if launch.op.expression is not None:
                found.append(f"--- {launch.name}: expression\n{launch.op.expression}")
                continue
            kind, fn = ("reference", launch.op.fn) if launch.kernel is None else ("kernel", launch.fn)
            fn = getattr(fn, "py_func", fn)  # what numba compiled
            code = inspect.unwrap(fn).__code__
            source = inspect.getsource(fn).rstrip()
            found.append(f"--- {launch.name}: {kind}, {code.co_filename}:{code.co_firstlineno}\n{source}")
        return "\n".join(dict.fromkeys(found))

    def unbind(self) -> None:
        """Drop every reference to the arena; the next run binds again."""
        self._binding = None

    def _bind(self) -> _Binding:
        bound, moves = self._binding, mode_changes()
        if bound is not None and self._moves != moves and any(v.data is not array for v, array in bound.storage):
            bound = None  # a Variable has been to another device
        self._moves = moves
        if bound is not None:
            return bound
        try:
            self.arena.reserve(self.plan.arena_bytes)
        except MemoryError as error:
            raise self.out_of_memory() from error
        self.arena.bound.add(self)
        plan, view = self.plan, self._view
        self._kept = self._kept or [self._keep(group) for group in plan.hoisted]
        launches = [self._bound_launch(launch) for launch in plan.launches]
        self._binding = _Binding(
            launches,
            [[self._bound_launch(launch) for launch in group.launches] for group in plan.hoisted],
            [view(p) for p in plan.inputs],
            [view(p) for p in plan.outputs],
            [(view(a), view(b)) for a, b in plan.copies],
            [(variable, variable.data) for variable, _ in self.graph.locations],
            self.backend.record(launches),
        )
        return self._binding

    def _keep(self, group: Group) -> _Kept:
        found = _kept.get(tuple(group.key))
        if found is None:
            found = _kept[tuple(group.key)] = _Kept(group, self.backend)
        return found

    def _bound_launch(self, launch: Launch) -> Bound:
        places = (launch.outs, launch.ins, launch.scratch)
        outs, ins, scratch = ([None if p is None else self._view(p) for p in each] for each in places)
        allocates = launch.op is not None and launch.kernel is None  # a reference does
        return launch.fn, outs, ins, scratch, launch.attrs, allocates

    def _view(self, place: Storage) -> Array:
        buffer, meta, layout = place.buffer, place.meta, place.layout
        if meta.size == 0:
            return self.backend.xp.empty(meta.shape, meta.dtype)
        start = 0
        if buffer.kind == "arena":
            memory, start = self.arena.memory, buffer.offset
        elif buffer.kind == "kept":
            group, index = cast("tuple[Group, int]", buffer.source)
            memory = self._kept[self.plan.hoisted.index(group)].arrays[index]
        elif buffer.kind == "constant":
            memory = self.backend.adopt(buffer.source.reshape(-1).view(np.uint8))
        elif isinstance(buffer.source.data, Meta):
            raise no_memory("run", buffer.source)
        else:
            memory = buffer.source.data.reshape(-1).view(np.uint8)
        size = meta.dtype.itemsize
        return self.backend.view(memory, start + layout.offset * size, meta, [s * size for s in layout.strides])

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """Run once on `arrays` (one for each graph input); returns fresh arrays and leaves the locations
        updated.
        """
        seconds: list[float] | None = [] if debug.level() >= 2 and not hooks.active() else None
        results = self._run(arrays, seconds)
        for launch, s in zip(self.plan.launches, seconds or (), strict=seconds is not None):
            shapes = " ".join(str(p.meta.shape) for p in launch.ins if p is not None)
            debug.emit(
                f"{s * 1e6:9.1f} µs {launch.flops / s / 1e9:7.1f} GFLOP/s "
                f"{launch.nbytes / s / 1e9:6.1f} GB/s  {launch.name} {shapes}  {launch.scope}"
            )
        return results

    def _run(self, arrays: Sequence[Array], seconds: list[float] | None = None) -> list[Array]:
        """`run`, launch by launch if `seconds` are asked for."""
        backend = self.backend
        with self.arena.lock, backend.running():
            bound = self._bind()
            self._refresh(bound)
            backend.write_all(list(zip(bound.inputs, arrays, strict=True)))
            if seconds is not None:
                seconds += backend.timed(bound.launches)
            elif hooks.active():
                self._watched(self.plan.launches, bound.launches)
            else:
                bound.replay()
            results = backend.copies(bound.outputs)
            backend.write_all(bound.copies)
            self._runs[0] += 1
        return results

    def _refresh(self, binding: _Binding) -> None:
        """Compute again what was hoisted and has read a location that was written to since."""
        for group, kept, bound in zip(self.plan.hoisted, self._kept, binding.hoisted, strict=True):
            versions = [variable.version for variable in group.variables]
            if versions != kept.versions:
                kept.versions = []  # in case that it fails half-way
                if hooks.active():
                    self._watched(group.launches, bound)
                else:
                    run_all(bound)
                kept.versions = versions

    def profile(self, arrays: Sequence[Array], repeats: int = 1) -> npt.NDArray[np.float64]:
        """Seconds of every launch, [repeats, launches] in the order of `plan.launches`.

        Each repeat is a run on `arrays`: the locations are updated `repeats` times.
        """
        seconds: list[list[float]] = [[] for _ in range(repeats)]
        for row in seconds:
            self._run(arrays, row)
        return np.array(seconds).reshape(repeats, self.launch_count)

    def _watched(self, launches: Sequence[Launch], bound: Sequence[Bound]) -> None:
        """Run launches under the hooks in force."""
        for seen in hooks.active():
            seen.peak_bytes = max(seen.peak_bytes, self.arena_bytes)
        for launch, one in zip(launches, bound, strict=True):
            names = [p.buffer.source.name if p and p.buffer.kind == "location" else "" for p in launch.ins]
            run = partial(self._finish, one)
            hooks.watch(run, one[2], one[1], names, (launch.name, launch.scope, launch.line))

    def _finish(self, launch: Bound) -> Any:
        """Run a launch to its end; returns its outputs."""
        run_all((launch,))
        self.backend.synchronize()
        return launch[1]

    def largest(self, count: int = 10) -> list[Held]:
        """What the arena holds at the launch at which it holds most, the largest first: for messages about memory."""
        made: dict[Buffer, Held] = {}
        for place in self.plan.inputs:
            made[place.buffer] = Held(place.buffer.nbytes, "argument", "", "", place.meta)
        for launch in self.plan.launches:
            for place in (*launch.outs, *launch.scratch):
                if place is not None and place.buffer.kind == "arena":
                    held = Held(place.buffer.nbytes, launch.name, launch.scope, launch.line, place.meta)
                    made.setdefault(place.buffer, held)
        change = np.zeros(self.launch_count + 2, np.int64)
        for buffer in made:
            change[buffer.first] += buffer.nbytes
            change[min(buffer.last, self.launch_count) + 1] -= buffer.nbytes
        at = int(np.cumsum(change).argmax())
        alive = [held for buffer, held in made.items() if buffer.first <= at <= buffer.last]
        return sorted(alive, key=lambda held: -held.nbytes)[:count]
