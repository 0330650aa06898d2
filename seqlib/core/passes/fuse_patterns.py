"""Pattern fusion: where plain ops do what a fused op is declared to do, the fused op takes their place.

The pattern is the traced composition of an op declared with `fuse`, for the example given there. A place in the graph
is found by the wiring of ops alone; that gives the inputs, and the attributes from where the pattern carries them (a
constant such as eps, or an attribute of an inner op). Then the composition is traced again for these very inputs and
attributes, and must be there node for node, attribute for attribute. What is computed inside may have no other reader,
unless it is a result of the fused op.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple, get_type_hints

import numpy as np

from seqlib.core.graph import Graph, Node, Value, recording
from seqlib.core.op import OPS, Attrs, Meta, Op, as_tuple
from seqlib.core.passes.simplify import eliminate_common_subexpressions, eliminate_dead_code
from seqlib.core.tape import no_grad
from seqlib.core.tensor import Tensor
from seqlib.util.errors import SeqlibError

_COMMUTATIVE = frozenset(("add", "mul", "maximum", "minimum", "equal", "not_equal"))
_PROMISE = "independent"  # of a product on the CPU; an op that takes one in may have it as an attribute
_MARKS: dict[type, Any] = {float: 0.3718, int: 7919}
"""Values that stand for an attribute while a pattern is traced."""


class Pattern(NamedTuple):
    """An op's composition as a graph; `marked` names the attributes that are read off the place that matches."""

    op: Op
    graph: Graph
    attrs: Attrs
    marked: dict[Any, str]  # an attribute's name by the mark it was traced with


def trace_pattern(
    op: Op, metas: Sequence[Meta | None], attrs: Attrs, marked: dict[Any, str], device: str = "cpu"
) -> Pattern:
    """The composition of `op` on a device, as the passes before this one leave it. Outputs that are not visible and
    that only they compute are left out.
    """
    graph = Graph(device)
    with recording(graph), no_grad():
        inputs = [None if m is None else Tensor(graph.add_input(m, f"in{i}")) for i, m in enumerate(metas)]
        results: list[Value] = [t.data for t in as_tuple(op.fn(*inputs, **attrs))]
    graph.outputs = results[: op.visible]
    eliminate_dead_code(graph)
    made = {v for node in graph.nodes for v in node.outputs}
    graph.outputs = [v if v in made else graph.inputs[0] for v in results]
    eliminate_common_subexpressions(graph)
    return Pattern(op, graph, attrs, marked)


@lru_cache(maxsize=1)
def patterns() -> tuple[Pattern, ...]:
    """Those of all ops declared with `fuse`, the largest first."""
    found: list[Pattern] = []
    for op in OPS.values():
        if op.fuse:
            kinds, attrs = get_type_hints(op.fn), dict(op.defaults)
            marked: dict[Any, str] = {}
            for name in attrs:
                if kinds[name] in _MARKS:
                    attrs[name] = _MARKS[float] / (1 + len(marked)) if kinds[name] is float else _MARKS[int]
                    marked[attrs[name]] = name
            found.append(trace_pattern(op, op.fuse, attrs, marked))
    return tuple(sorted(found, key=lambda p: -len(p.graph.nodes)))


class _Match:
    """What of a graph a pattern's values stand for."""

    def __init__(self, pattern: Pattern, strict: bool) -> None:
        self.pattern = pattern
        self.strict = strict
        self.values: dict[Value, Value] = {}
        self.attrs: Attrs = {}

    def value(self, p: Value, v: Value | None) -> bool:
        """Does v do what p does? Binds both and all that they are made of."""
        if v is None:
            return False
        if p in self.values:
            return self.values[p] is v
        if p.constant is not None:
            return self._constant(p.constant, v.constant)
        if p.node is not None and not (v.node is not None and p.slot == v.slot and self._node(p.node, v.node)):
            return False
        self.values[p] = v
        return not self.strict or p.meta == v.meta

    def _constant(self, expected: Any, given: Any) -> bool:
        if given is None or expected.dtype != given.dtype:
            return False
        for mark, name in self.pattern.marked.items():
            if given.size == 1 and (expected == np.asarray(mark, expected.dtype)).all() and expected.all():
                return self._attribute(name, given.item())
        return np.array_equal(expected, given)

    def _attribute(self, name: str, value: Any) -> bool:
        return self.attrs.setdefault(name, value) == value

    def _node(self, p: Node, n: Node) -> bool:
        if p.op is not n.op or len(p.inputs) != len(n.inputs):
            return False
        if self.strict and any(n.attrs[key] != v for key, v in p.attrs.items() if key != _PROMISE):
            return False
        for key, expected in p.attrs.items():
            own = key if key == _PROMISE and key in self.pattern.attrs else None
            name = own or (self.pattern.marked.get(expected) if isinstance(expected, (int, float)) else None)
            if name is not None and not self._attribute(name, n.attrs.get(key)):
                return False
        before = dict(self.values), dict(self.attrs)
        for order in (n.inputs, n.inputs[::-1]) if p.op.name in _COMMUTATIVE else (n.inputs,):
            self.values, self.attrs = dict(before[0]), dict(before[1])
            if all(v is None if q is None else self.value(q, v) for q, v in zip(p.inputs, order, strict=True)):
                self.values.update(zip(p.outputs, n.outputs, strict=True))
                return True
        return False

    def rest(self, graph: Graph) -> bool:
        """Bind the results that do not lead to the last node: what others make of values that are bound."""
        for p in self.pattern.graph.outputs:
            if p.node is None or p in self.values:
                continue
            for n in graph.nodes:
                before = dict(self.values), dict(self.attrs)
                if n.op is p.node.op and self.value(p, n.outputs[p.slot]):
                    break
                self.values, self.attrs = before
            else:
                return False
        return True


def fuse_patterns(graph: Graph) -> None:
    """Replace every place that a pattern matches."""
    for pattern in patterns():
        last = pattern.graph.nodes[-1]
        for node in reversed(graph.nodes):
            if node.op is last.op and (found := _place(pattern, last, node, graph)) is not None:
                _replace(graph, pattern.op, node, *found)


def _place(pattern: Pattern, last: Node, node: Node, graph: Graph) -> tuple[_Match, Attrs] | None:
    """The match of a pattern whose last node is `node`, proved by tracing the composition for what it binds."""
    loose = _Match(pattern, strict=False)
    if not all(map(loose.value, last.outputs, node.outputs)) or not loose.rest(graph):
        return None
    if any(v not in loose.values for v in pattern.graph.inputs):
        return None
    inputs = [loose.values[v] for v in pattern.graph.inputs]
    metas = [v.meta for v in inputs]
    attrs = {**pattern.attrs, **loose.attrs}
    try:
        pattern.op.infer_metas(metas, attrs)
    except SeqlibError:
        return None
    if pattern.op.kernel(graph.device, metas, attrs) is None or len(metas) < len(pattern.op.params):
        return None
    exact = trace_pattern(pattern.op, metas, attrs, {}, graph.device)
    proof = _Match(exact, strict=True)
    proof.values.update(zip(exact.graph.inputs, inputs, strict=True))
    end = exact.graph.nodes[-1]
    proved = end.op is node.op and all(map(proof.value, end.outputs, node.outputs)) and proof.rest(graph)
    return (proof, attrs) if proved else None


def _replace(graph: Graph, op: Op, node: Node, match: _Match, attrs: Attrs) -> None:
    """Put `op` where the last node stands, if nobody else reads what is computed inside."""
    inside = {v.node for p, v in match.values.items() if p.node is not None}
    results = [match.values.get(p) if p.node is not None else None for p in match.pattern.graph.outputs]
    until = graph.nodes.index(node)
    wanted = set(graph.results)
    for at, reader in enumerate(graph.nodes):
        if reader not in inside:
            if at < until and any(v in results for v in reader.inputs):
                return
            wanted.update(reader.reads)
    if any(v in wanted and v not in results for n in inside if n is not None for v in n.outputs):
        return
    fused = Node(op, [match.values[p] for p in match.pattern.graph.inputs], attrs, node.scope, node.line)
    metas = op.infer_metas(fused.metas, attrs)
    fused.give([Value(meta) if v is None else v for v, meta in zip(results, metas, strict=True)])
    graph.nodes = [fused if n is node else n for n in graph.nodes if n is node or n not in inside]
