"""Dead-code elimination: what no output and no update needs is not computed."""

from __future__ import annotations

from seqlib.core.graph import Graph, Node, Value


def eliminate_dead_code(graph: Graph) -> None:
    needed: set[Value] = set(graph.results)
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if any(v in needed for v in node.outputs):
            kept.append(node)
            needed.update(node.reads)
    graph.nodes = kept[::-1]
