"""The graph's invariants, checked after every pass."""

from seqlib.core.graph import Graph, Value


class GraphError(AssertionError):
    """A pass broke the graph: a defect of seqlib, never of its user."""


def verify(graph: Graph, after: str) -> None:
    """Every value is made once and before its use, shapes and dtypes follow the ops' rules, and updates fit
    their locations.
    """
    known: set[Value] = {*graph.inputs, *(v for _, v in graph.locations)}
    for node in graph.nodes:
        for v in node.reads:
            if v not in known and v.constant is None:
                raise GraphError(f"after {after}: {node.op.name} reads {v!r} before it is made ({node.line})")
        metas = node.op.infer_metas(node.metas, node.attrs)
        if metas != [v.meta for v in node.outputs]:
            raise GraphError(
                f"after {after}: {node.op.name} gives {metas}, the graph says {node.outputs} ({node.line})"
            )
        for v in node.outputs:
            if v in known:
                raise GraphError(f"after {after}: {v!r} is made twice")
            known.add(v)
    for v in graph.outputs:
        if v not in known and v.constant is None:
            raise GraphError(f"after {after}: the output {v!r} is never made")
    for variable, v in graph.updates:
        if v not in known and v.constant is None:
            raise GraphError(f"after {after}: the update of {variable.name} with {v!r} is never made")
        if v.shape != variable.shape or v.dtype != variable.dtype:
            raise GraphError(f"after {after}: {variable.name} is updated with {v!r}")
