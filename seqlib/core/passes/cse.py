"""Common-subexpression elimination: the same op on the same values with the same attributes is computed
once.
"""

from __future__ import annotations

from typing import Any

from seqlib.core.graph import Graph, Node, Value


def eliminate_common_subexpressions(graph: Graph) -> None:
    """Ops are pure (randomness is an input), so equal nodes have equal outputs; the first one stays.

    What a checkpoint computes again (`Node.region`) is one with nothing outside: it is there to be computed late.
    """
    replaced: dict[Value, Value] = {}
    first: dict[Any, Node] = {}
    kept: list[Node] = []
    for node in graph.nodes:
        node.inputs = [None if v is None else replaced.get(v, v) for v in node.inputs]
        key = (
            node.op.name,
            node.region,
            tuple(None if v is None else v.id for v in node.inputs),
            frozenset(node.attrs.items()),
        )
        same = first.setdefault(key, node)
        if same is node:
            kept.append(node)
        else:
            replaced.update(zip(node.outputs, same.outputs, strict=True))
    graph.nodes = kept
    graph.outputs = [replaced.get(v, v) for v in graph.outputs]
    graph.updates = [(variable, replaced.get(v, v)) for variable, v in graph.updates]
