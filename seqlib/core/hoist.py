"""`hoist`: what a program computes of locations that it does not write is computed once per content.

Packed, cast or transposed weights of a program that only reads the model are such results. They are found here, on
the graph; `lower` sets their launches apart and gives their results buffers of their own, and a `Program` runs them
only when the `version` of a location that they read has changed.
"""

from typing import Any

from seqlib.core import debug
from seqlib.core.graph import Graph, Node, Value
from seqlib.core.memory import Buffer

LEAST = 4096
"""Bytes read and written below which an op is not worth a buffer that stays."""
MOST = 2
"""A result may have this many times the bytes of the locations that it is computed of."""


class Group:
    """Nodes that depend on each other and, beside, on constants and these `variables` alone.

    `launches` and the buffers `kept` are filled in by `lower`. Groups with equal `key` compute the same.
    """

    def __init__(self, device: str, variables: list[Any]) -> None:
        self.variables = variables
        self.key: list[Any] = [device, debug.switches()]
        self.launches: list[Any] = []
        self.kept: list[Buffer] = []

    def keep(self, nbytes: int) -> Buffer:
        """A buffer whose content stays from run to run."""
        self.kept.append(Buffer("kept", nbytes, -1, (self, len(self.kept))))
        return self.kept[-1]


def hoist(graph: Graph, root: dict[Value, Value]) -> tuple[dict[Node, Group], set[Value]]:
    """The group of every node that is worth hoisting, and the values that are read outside of their group.

    `root` leads from a view to the value that it views.
    """
    variables, nodes = _candidates(graph)
    nodes = _worthwhile(nodes)
    chosen = set(nodes)
    outside = set(graph.results)
    for node in graph.nodes:
        if node not in chosen:
            outside.update(node.reads)
    outside = {root.get(v, v) for v in outside}
    groups: dict[Node, Group] = {}
    for members in _components(nodes):
        group = _group(graph.device, members, variables, outside, root)
        groups.update(dict.fromkeys(members, group))
    return groups, outside


def _candidates(graph: Graph) -> tuple[dict[Value, Any], list[Node]]:
    """The locations that are read only, by their values, and the nodes that follow from them."""
    final = {value for _, value in graph.updates}
    written = graph.written
    variables = {value: variable for variable, value in graph.locations if id(variable) not in written}
    reads = {value: frozenset((value,)) for value in variables}
    found: list[Node] = []
    for node in graph.nodes:
        ins = node.reads
        if any(v not in reads and v.constant is None for v in ins):
            continue
        sources = frozenset[Value]().union(*(reads[v] for v in ins if v in reads))
        if not sources or any(kernel.in_place for kernel in node.op.cpu_kernels):
            continue
        limit = MOST * sum(v.meta.nbytes for v in sources)
        if node.op.view_rule is None and (_nbytes(node.outputs) > limit or not final.isdisjoint(node.outputs)):
            continue
        reads.update(dict.fromkeys(node.outputs, sources))
        found.append(node)
    return variables, found


def _worthwhile(nodes: list[Node]) -> list[Node]:
    """Without those that cost next to nothing and serve nothing that costs more."""
    kept: list[Node] = []
    needed: set[Value] = set()
    for node in reversed(nodes):
        ins = node.reads
        if _nbytes(ins) + _nbytes(node.outputs) >= LEAST or not needed.isdisjoint(node.outputs):
            kept.append(node)
            needed.update(ins)
    return kept[::-1]


def _nbytes(values: list[Value]) -> int:
    return sum(v.meta.nbytes for v in values)


def _components(nodes: list[Node]) -> list[list[Node]]:
    """The nodes by connection, each part in order."""
    label: dict[Value, int] = {}
    for i, node in enumerate(nodes):
        joined = {label[v] for v in node.reads if v in label}
        for v in [v for v, old in label.items() if old in joined] if len(joined) > 1 else []:
            label[v] = min(joined)
        label.update(dict.fromkeys(node.outputs, min(joined, default=i)))
    parts: dict[int, list[Node]] = {}
    for node in nodes:
        parts.setdefault(label[node.outputs[0]], []).append(node)
    return list(parts.values())


def _group(
    device: str, nodes: list[Node], variables: dict[Value, Any], outside: set[Value], root: dict[Value, Value]
) -> Group:
    names: dict[Value, Any] = {}
    read = {id(variables[v]): variables[v] for node in nodes for v in node.inputs if v in variables}
    group = Group(device, list(read.values()))
    for i, node in enumerate(nodes):
        for v in node.inputs:
            if v in variables:
                names[v] = ("location", id(variables[v]))
            elif v is not None and v.constant is not None:
                names[v] = (v.shape, v.dtype, v.constant.tobytes())
        ins = tuple(None if v is None else names[v] for v in node.inputs)
        kept = tuple(root.get(v, v) in outside for v in node.outputs)
        group.key.append((node.op.name, frozenset(node.attrs.items()), ins, kept))
        names.update({v: (i, slot) for slot, v in enumerate(node.outputs)})
    return group
