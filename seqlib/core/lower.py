"""Lowering: a graph becomes a flat list of launches and a memory plan.

Pure Python, no device needed: it chooses kernels, resolves views, decides what is written in place, and plans
the memory.
"""

from typing import NamedTuple

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
    line: str
    flops: int = 0
    op: Op | None = None
    kernel: Kernel | None = None

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


class _Call(NamedTuple):
    """A node that becomes a launch; `number` is its place in the graph."""

    number: int
    node: Node
    ins: list[Storage | None]
    kernel: Kernel | None

    def shared(self, slot: int) -> list[int]:
        """The inputs that output number `slot` may lie where they lie, and must if the kernel works in place."""
        pairs = () if self.kernel is None else (*self.kernel.overlap, *self.kernel.in_place)
        return [i for o, i in pairs if o == slot]

    def in_place(self, slot: int) -> list[tuple[Storage, Value]]:
        """The inputs that output number `slot` must lie where they lie."""
        pairs = () if self.kernel is None else self.kernel.in_place
        both = ((self.ins[i], self.node.inputs[i]) for o, i in pairs if o == slot)
        return [(place, value) for place, value in both if place is not None and value is not None]


class _Lowering:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.backend = BACKENDS[graph.device]
        self.buffers: list[Buffer] = []
        self.storage: dict[Value, Storage] = {}
        self.launches: list[Launch] = []
        self.final = {value: variable for variable, value in reversed(graph.updates)}
        self.written = graph.written
        self.locations: dict[int, Storage] = {}
        self.residents: dict[Buffer, list[Value]] = {}  # what a location's storage has held
        self.root: dict[Value, Value] = {}  # a view → the value that it views
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
        last: dict[Value, int] = {}
        for i, node in enumerate(self.graph.nodes):
            roots = [None if v is None else self.root.get(v, v) for v in node.inputs]
            last.update((v, i) for v in roots if v is not None)
            if node.op.view_rule is not None and roots[0] is not None:
                self.root[node.outputs[0]] = roots[0]
        for v in self.graph.results:
            last[self.root.get(v, v)] = FOREVER
        return last

    def _last(self, value: Value) -> int:
        """The node number after which a value is not read, -1 where nobody does."""
        return self.last_use.get(self.root.get(value, value), -1)

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
        for place in (*outputs, *(source for _, source in copies)):
            place.buffer.last = max(place.buffer.last, self.now)
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
        op, source, out = node.op, ins[0] if ins else None, node.outputs[0]
        if op.view_rule is not None and source is not None:
            layout = op.view_rule(source.layout, **node.attrs)
            if layout is not None:
                self.storage[out] = Storage(source.buffer, out.meta, layout)
            elif (target := self._output(_Call(number, node, ins, None), 0)) is not None:
                # A reshape that no strides express: a copy in row-major order.
                self._copy(op.name, Storage(target.buffer, source.meta), source, node)
            return
        metas = node.metas
        fn, kernel = self.backend.bind(op, metas, [v.meta for v in node.outputs], node.attrs)
        scratch: list[Storage] = []
        if kernel is not None:
            fits = [p is None or kernel.takes(i, p.layout) for i, p in enumerate(ins)]
            ins = [p if p is None or fit else self._contiguous(p, node) for p, fit in zip(ins, fits, strict=True)]
        call = _Call(number, node, ins, kernel)
        outs = [self._output(call, slot) for slot in range(len(node.outputs))]
        if kernel is not None:
            scratch = [self._new(m) for m in scratch_metas(kernel, metas, node.attrs)]
        flops = op.flops_rule(*metas, **node.attrs) if op.flops_rule is not None else 0
        places = tuple(outs), tuple(ins), tuple(scratch)
        self._launch(Launch(op.name, fn, *places, node.attrs, node.scope, node.line, flops, op, kernel))

    def _launch(self, launch: Launch) -> None:
        for place in (*launch.outs, *launch.ins, *launch.scratch):
            if place is not None:
                place.buffer.last = max(place.buffer.last, self.now)
        (self.launches if self.group is None else self.group.launches).append(launch)

    def _copy(self, name: str, to: Storage, source: Storage, node: Node | None = None) -> None:
        asked = ("", "") if node is None else (node.scope, node.line)
        self._launch(Launch(name, self.backend.copy, (to,), (source,), (), {}, *asked))

    def _contiguous(self, place: Storage, node: Node) -> Storage:
        owner = self._steady(place) if self.group is None else None
        if owner is None:
            copy = self._new(place.meta)
            self._copy("contiguous", copy, place, node)
            return copy
        found = self.copied.get((place.buffer, place.layout))
        if found is None:
            found = Storage(owner.keep(place.meta.nbytes), place.meta)
            self.copied[place.buffer, place.layout] = found
            at = place.buffer.source[1] if place.buffer.kind == "kept" else id(place.buffer.source)
            owner.key.append(("contiguous", at, place.layout, place.meta.dtype))
            self.group = owner
            self._copy("contiguous", found, place, node)
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

    def _output(self, call: _Call, slot: int) -> Storage | None:
        value = call.node.outputs[slot]
        if self._last(value) < 0:
            return None  # nobody needs it
        if self.group is not None and self.root.get(value, value) in self.outside:
            self.storage[value] = Storage(self.group.keep(value.meta.nbytes), value.meta)
            return self.storage[value]
        buffer = self._location_for(call, slot) or self._taken_over(call, slot)
        if buffer is None:
            self._refuse_copied_cache(call, slot)
            buffer = self._new(value.meta).buffer
        elif buffer.kind == "location":
            self.residents[buffer].append(value)
        self.storage[value] = Storage(buffer, value.meta)
        return self.storage[value]

    def _location_for(self, call: _Call, slot: int) -> Buffer | None:
        """The location whose final value this is, if its old content is not wanted after (or, unshared, by)
        this node.
        """
        variable = self.final.get(call.node.outputs[slot])
        if variable is None:
            # Not the last value of its location: only an op that must work in place may write there already.
            for place, v in call.in_place(slot):
                held = place.buffer.kind == "location" and place.whole and id(place.buffer.source) in self.written
                if held and self._last(v) <= call.number:
                    return place.buffer
            return None
        buffer, allowed = self.locations[id(variable)].buffer, call.shared(slot)
        read_here = [(i, p) for i, p in enumerate(call.ins) if p is not None and p.buffer is buffer]
        free = all(self._last(v) <= call.number for v in self.residents[buffer])
        return buffer if free and all(i in allowed and p.whole for i, p in read_here) else None

    def _taken_over(self, call: _Call, slot: int) -> Buffer | None:
        """An input's arena buffer, when the kernel may write over it and nobody reads it later."""
        value, allowed = call.node.outputs[slot], call.shared(slot)
        taken = [self.storage[o].buffer for o in call.node.outputs[:slot] if o in self.storage]
        for i in allowed:
            place, v = call.ins[i], call.node.inputs[i]
            if place is None or v is None or place.buffer.kind != "arena" or place.buffer in taken:
                continue
            # Another input in the same buffer must be read at the very elements that are being written.
            apart = any(
                p is not None and p.buffer is place.buffer and (p.layout != place.layout or k not in allowed)
                for k, p in enumerate(call.ins)
            )
            if place.whole and place.meta == value.meta and self._last(v) <= call.number and not apart:
                return place.buffer
        return None

    def _refuse_copied_cache(self, call: _Call, slot: int) -> None:
        for place, _ in call.in_place(slot):
            if place.buffer.kind == "location":
                raise TraceError(
                    f"{call.node.op.name}: {place.buffer.source.name or 'a Variable'} can't be updated in place, "
                    f"because its old content is read later or it is not assigned the result ({call.node.line}); "
                    "assign the result and read that"
                )

    def _end_copies(self) -> list[tuple[Storage, Storage]]:
        copies: list[tuple[Storage, Storage]] = []
        for variable, value in self.graph.updates:
            target, source = self.locations[id(variable)], self._place(value)
            if source.buffer is target.buffer and source.layout == target.layout:
                continue
            if source.buffer.kind == "location":  # it may itself be overwritten by another copy
                staged = self._new(value.meta)
                self._copy("stage", staged, source)
                source = staged
            copies.append((target, source))
        return copies


def lower(graph: Graph) -> Plan:
    """Choose kernels, places and order for a graph. Raises TraceError beyond MAX_LAUNCHES or for a cache that
    would be copied.
    """
    return _Lowering(graph).run()
