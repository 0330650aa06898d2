"""Lowering: a graph becomes a flat list of launches and a memory plan.

Pure Python, no device needed: it chooses kernels, resolves views, decides what is written in place, and plans
the memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from seqlib.core.backends import BACKENDS
from seqlib.core.backends.base import Launch as Function
from seqlib.core.backends.base import scratch_metas
from seqlib.core.graph import Graph, Node, Value
from seqlib.core.hoist import LEAST, MOST, Group, hoist
from seqlib.core.memory import FOREVER, Buffer, Storage, assign_offsets
from seqlib.core.op import Attrs, Kernel, Layout, Meta, Op
from seqlib.util.errors import TraceError

MAX_LAUNCHES = 20_000


class Launch(NamedTuple):
    """One kernel call: what it reads and writes, by place. `kernel` None: the op's reference, or a copy."""

    name: str
    fn: Function
    outs: tuple[Storage | None, ...]
    ins: tuple[Storage | None, ...]
    scratch: tuple[Storage, ...]
    attrs: Attrs
    scope: str
    flops: int
    op: Op | None = None
    kernel: Kernel | None = None
    line: str = ""

    @property
    def nbytes(self) -> int:
        """Bytes of all that it reads and writes, each once."""
        return sum(place.meta.nbytes for place in (*self.outs, *self.ins) if place is not None)


class Plan(NamedTuple):
    """A lowered graph: launches in order, where inputs go, where outputs lie, which locations are copied to
    at the end.
    """

    launches: list[Launch]
    inputs: list[Storage]
    outputs: list[Storage]
    copies: list[tuple[Storage, Storage]]  # (location, value)
    hoisted: list[Group]
    arena_bytes: int

    @property
    def hoisted_bytes(self) -> int:
        """Bytes of the results that stay from run to run; programs that hoist the same share them."""
        return sum(buffer.nbytes for group in self.hoisted for buffer in group.kept)


class _Lowering:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.backend = BACKENDS[graph.device]
        self.buffers: list[Buffer] = []
        self.storage: dict[Value, Storage] = {}
        self.launches: list[Launch] = []
        self.final: dict[Value, Any] = {}
        for variable, value in graph.updates:
            self.final.setdefault(value, variable)
        self.written = {id(variable) for variable, _ in graph.updates}
        self.locations: dict[int, Storage] = {}
        self.residents: dict[Buffer, list[Value]] = {}  # what a location's storage has held
        self.last_use = self._last_uses()
        self.group_of, self.outside = hoist(graph, self.root)
        self.group: Group | None = None  # that of the launches being made
        self.groups = list(dict.fromkeys(self.group_of.values()))
        self.copied: dict[tuple[Buffer, Layout], Storage] = {}

    @property
    def now(self) -> int:
        """The number of the next launch. Hoisted ones have negative numbers: all of them run before the others."""
        return len(self.launches) if self.group is None else len(self.group.launches) - FOREVER

    def _last_uses(self) -> dict[Value, int]:
        """The node number after which a value is not read, its views counted as the value itself."""
        root: dict[Value, Value] = {}
        last: dict[Value, int] = {}
        for i, node in enumerate(self.graph.nodes):
            for v in node.inputs:
                if v is not None:
                    last[root.get(v, v)] = i
            if node.op.view_rule is not None and node.inputs[0] is not None:
                root[node.outputs[0]] = root.get(node.inputs[0], node.inputs[0])
        for v in (*self.graph.outputs, *(v for _, v in self.graph.updates)):
            last[root.get(v, v)] = FOREVER
        self.root = root
        return last

    def _new(self, meta: Meta) -> Storage:
        buffer = Buffer("arena", meta.nbytes, self.now)
        self.buffers.append(buffer)
        return Storage(buffer, meta)

    def run(self) -> Plan:
        for variable, value in self.graph.locations:
            self.storage[value] = Storage(Buffer("location", value.meta.nbytes, -1, variable), value.meta)
            self.locations[id(variable)] = self.storage[value]
            self.residents[self.storage[value].buffer] = [value]
        inputs = [self._new(v.meta) for v in self.graph.inputs]
        self.storage.update(zip(self.graph.inputs, inputs, strict=True))
        for number, node in enumerate(self.graph.nodes):
            self.group = self.group_of.get(node)
            self._node(number, node)
        self.group = None
        outputs = [self._place(v) for v in self.graph.outputs]
        copies = self._end_copies()
        end = len(self.launches)
        for place in (*outputs, *(source for _, source in copies)):
            place.buffer.last = max(place.buffer.last, end)
        if len(self.launches) > MAX_LAUNCHES:
            raise TraceError(f"the compiled function needs {len(self.launches)} launches, more than {MAX_LAUNCHES}")
        hoisted = [group for group in self.groups if group.launches]
        return Plan(self.launches, inputs, outputs, copies, hoisted, assign_offsets(self.buffers))

    def _place(self, value: Value) -> Storage:
        if value.constant is not None and value not in self.storage:
            self.storage[value] = Storage(Buffer("constant", value.meta.nbytes, -1, value.constant), value.meta)
        return self.storage[value]

    def _node(self, number: int, node: Node) -> None:
        ins = [None if v is None else self._place(v) for v in node.inputs]
        if node.op.view_rule is not None:
            source = ins[0]
            assert source is not None
            layout = node.op.view_rule(source.layout, **node.attrs)
            out = node.outputs[0]
            if layout is not None:
                self.storage[out] = Storage(source.buffer, out.meta, layout)
                return
            # A reshape that no strides express: a copy in row-major order.
            target = self._output(number, node, 0, ins, None)
            if target is not None:
                to = Storage(target.buffer, source.meta)
                self._launch(node.op.name, self.backend.copy, [to], [source], [], {}, node.scope, line=node.line)
            return
        metas = [None if v is None else v.meta for v in node.inputs]
        fn, kernel = self.backend.bind(node.op, metas, [v.meta for v in node.outputs], node.attrs)
        if kernel is not None:
            ins = [
                p if p is None or kernel.takes(i, p.layout) else self._contiguous(p, node) for i, p in enumerate(ins)
            ]
        outs = [self._output(number, node, slot, ins, kernel) for slot in range(len(node.outputs))]
        scratch = [] if kernel is None else [self._new(m) for m in scratch_metas(kernel, metas, node.attrs)]
        flops = node.op.flops_rule(*metas, **node.attrs) if node.op.flops_rule is not None else 0
        self._launch(node.op.name, fn, outs, ins, scratch, node.attrs, node.scope, flops, node.op, kernel, node.line)

    def _launch(
        self,
        name: str,
        fn: Function,
        outs: Any,
        ins: Any,
        scratch: Any,
        attrs: Attrs,
        scope: str = "",
        flops: int = 0,
        op: Op | None = None,
        kernel: Kernel | None = None,
        line: str = "",
    ) -> None:
        for place in (*outs, *ins, *scratch):
            if place is not None:
                place.buffer.last = max(place.buffer.last, self.now)
        (self.launches if self.group is None else self.group.launches).append(
            Launch(name, fn, tuple(outs), tuple(ins), tuple(scratch), attrs, scope, flops, op, kernel, line)
        )

    def _contiguous(self, place: Storage, node: Node) -> Storage:
        owner = self._steady(place) if self.group is None else None
        if owner is None:
            copy = self._new(place.meta)
            self._launch("contiguous", self.backend.copy, [copy], [place], [], {}, node.scope, line=node.line)
            copy.buffer.last = self.now
            return copy
        found = self.copied.get((place.buffer, place.layout))
        if found is None:
            found = Storage(owner.keep(place.meta.nbytes), place.meta)
            self.copied[place.buffer, place.layout] = found
            at = place.buffer.source[1] if place.buffer.kind == "kept" else id(place.buffer.source)
            owner.key.append(("contiguous", at, place.layout, place.meta.dtype))
            self.group = owner
            self._launch("contiguous", self.backend.copy, [found], [place], [], {}, node.scope, line=node.line)
            self.group = None
        return found

    def _steady(self, place: Storage) -> Group | None:
        """The group that a copy of this place may be hoisted with: its content is the same in the next run."""
        buffer = place.buffer
        if not LEAST <= place.meta.nbytes <= MOST * buffer.nbytes:
            return None
        if buffer.kind == "kept":
            return buffer.source[0]
        if buffer.kind == "location" and id(buffer.source) not in self.written:
            self.groups.append(Group(self.graph.device, [buffer.source]))
            return self.groups[-1]
        return None

    def _output(
        self, number: int, node: Node, slot: int, ins: Sequence[Storage | None], kernel: Kernel | None
    ) -> Storage | None:
        value = node.outputs[slot]
        if self.root.get(value, value) not in self.last_use:
            return None  # nobody needs it
        if self.group is not None and self.root.get(value, value) in self.outside:
            self.storage[value] = Storage(self.group.keep(value.meta.nbytes), value.meta)
            return self.storage[value]
        place = self._location_for(number, node, slot, ins, kernel) or self._taken_over(number, node, slot, ins, kernel)
        if place is None:
            if kernel is not None:
                self._refuse_copied_cache(node, slot, ins, kernel)
            place = self._new(value.meta)
        self.storage[value] = place
        if place.buffer.kind == "location":
            self.residents[place.buffer].append(value)
        return place

    def _pairs(self, kernel: Kernel | None, slot: int) -> list[int]:
        return [] if kernel is None else [i for o, i in (*kernel.overlap, *kernel.in_place) if o == slot]

    def _location_for(
        self, number: int, node: Node, slot: int, ins: Sequence[Storage | None], kernel: Kernel | None
    ) -> Storage | None:
        """The location whose final value this is, if its old content is not wanted after (or, unshared, by)
        this node.
        """
        value = node.outputs[slot]
        variable = self.final.get(value)
        if variable is None:
            # Not the last value of its location: only an op that must work in place may write there already.
            for i in self._pairs(kernel, slot) if kernel is not None else []:
                place, v = ins[i], node.inputs[i]
                if place is None or v is None or kernel is None or (slot, i) not in kernel.in_place:
                    continue
                held = place.buffer.kind == "location" and place.whole and id(place.buffer.source) in self.written
                if held and self._dies(v, number):
                    return Storage(place.buffer, value.meta)
            return None
        target = self.locations[id(variable)]
        for v in self.residents[target.buffer]:
            last = self.last_use.get(self.root.get(v, v), -1)
            if last > number:
                return None
            if last == number:
                readers = [i for i, p in enumerate(ins) if p is not None and p.buffer is target.buffer]
                allowed = self._pairs(kernel, slot)
                if any(i not in allowed or not ins[i].whole for i in readers):  # type: ignore[union-attr]
                    return None
        return Storage(target.buffer, value.meta)

    def _dies(self, value: Value, number: int) -> bool:
        return self.last_use.get(self.root.get(value, value), -1) <= number

    def _taken_over(
        self, number: int, node: Node, slot: int, ins: Sequence[Storage | None], kernel: Kernel | None
    ) -> Storage | None:
        """An input's arena buffer, when the kernel may write over it and nobody reads it later."""
        value = node.outputs[slot]
        allowed = self._pairs(kernel, slot)
        for i in allowed:
            place, v = ins[i], node.inputs[i]
            if (
                place is None
                or v is None
                or place.buffer.kind != "arena"
                or not place.whole
                or place.meta.dtype != value.dtype
            ):
                continue
            if place.meta.shape != value.shape or not self._dies(v, number) or self._shared(place, i, ins, allowed):
                continue
            if any(o in self.storage and self.storage[o].buffer is place.buffer for o in node.outputs[:slot]):
                continue
            return Storage(place.buffer, value.meta)
        return None

    def _shared(self, place: Storage, index: int, ins: Sequence[Storage | None], allowed: Sequence[int]) -> bool:
        """True when another input of the node lies in the same buffer and is not read at the very elements
        that are being written: it has another layout, or the kernel does not allow the overlap for it.
        """
        return any(
            p is not None and p.buffer is place.buffer and (p.layout != place.layout or k not in allowed)
            for k, p in enumerate(ins)
            if k != index
        )

    def _refuse_copied_cache(self, node: Node, slot: int, ins: Sequence[Storage | None], kernel: Kernel) -> None:
        for o, i in kernel.in_place:
            place = ins[i]
            if o == slot and place is not None and place.buffer.kind == "location":
                raise TraceError(
                    f"{node.op.name}: {place.buffer.source.name or 'a Variable'} can't be updated in place, because "
                    f"its old content is read later or it is not assigned the result ({node.line}); assign the "
                    "result and read that"
                )

    def _end_copies(self) -> list[tuple[Storage, Storage]]:
        copies: list[tuple[Storage, Storage]] = []
        for variable, value in self.graph.updates:
            target, source = self.locations[id(variable)], self._place(value)
            if source.buffer is target.buffer and source.layout == target.layout:
                continue
            if source.buffer.kind == "location":  # it may itself be overwritten by another copy
                staged = self._new(value.meta)
                self._launch("stage", self.backend.copy, [staged], [source], [], {})
                source = staged
            copies.append((target, source))
        return copies


def lower(graph: Graph) -> Plan:
    """Choose kernels, places and order for a graph. Raises TraceError beyond MAX_LAUNCHES or for a cache that
    would be copied.
    """
    return _Lowering(graph).run()
