"""Dead code, common subexpressions, casts and reshapes that take each other back."""

from typing import Any

from seqlib.core import dtypes
from seqlib.core.graph import Graph, Node, Value


def eliminate_dead_code(graph: Graph) -> None:
    """What no output and no update needs is not computed."""
    needed: set[Value] = set(graph.results)
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if any(v in needed for v in node.outputs):
            kept.append(node)
            needed.update(node.reads)
    graph.nodes = kept[::-1]


def eliminate_common_subexpressions(graph: Graph) -> None:
    """The same op on the same values with the same attributes is computed once: ops are pure (randomness is an
    input), so equal nodes have equal outputs; the first one stays.

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


_WIDER = {
    dtypes.float16: {dtypes.float32, dtypes.float64},
    dtypes.bfloat16: {dtypes.float32, dtypes.float64},
    dtypes.float32: {dtypes.float64},
    dtypes.int32: {dtypes.int64, dtypes.float64},
    dtypes.bool_: {dtypes.int32, dtypes.int64, dtypes.float16, dtypes.bfloat16, dtypes.float32, dtypes.float64},
}
"""The dtypes that hold every value of a dtype exactly."""


def fold_casts(graph: Graph) -> None:
    """A cast that takes an exact one back is the value before both: float32 → float64 → float32 is the first float32;
    of int32 → int64 → float64 one cast is left. Nothing lossy is folded: float32 → bfloat16 → float32 stays, it rounds.
    """
    replaced: dict[Value, Value] = {}
    for node in graph.nodes:
        node.inputs = [None if v is None else replaced.get(v, v) for v in node.inputs]
        if node.op.name != "cast":
            continue
        inner, out = node.inputs[0], node.outputs[0]
        while inner is not None and inner.dtype != out.dtype and inner.node is not None:
            before = inner.node.inputs[0] if inner.node.op.name == "cast" else None
            if before is None or inner.dtype not in _WIDER.get(before.dtype, ()):
                break
            if before.dtype != out.dtype and out.dtype not in _WIDER[before.dtype]:
                break
            inner = node.inputs[0] = before
        if inner is not None and inner.dtype == out.dtype:
            replaced[out] = inner
    graph.outputs = [replaced.get(v, v) for v in graph.outputs]
    graph.updates = [(variable, replaced.get(v, v)) for variable, v in graph.updates]


def fold_reshapes(graph: Graph) -> None:
    """A reshape that takes another back, or changes nothing, is the value before, and a dropout between two such is
    of the value before: so patterns look past layers that see rows alone.
    """
    replaced: dict[Value, Value] = {}
    shapes: dict[Value, set[Any]] = {}  # what a value is reshaped to; None for another use
    for node in graph.nodes:
        for v in node.reads:
            shapes.setdefault(v, set()).add(node.attrs["shape"] if node.op.name == "reshape" else None)
    for node in graph.nodes:
        node.inputs = [None if v is None else replaced.get(v, v) for v in node.inputs]
        before, out = node.inputs[0] if node.inputs else None, node.outputs[0]
        made = before.node if before is not None else None
        inner = made.inputs[0] if made is not None and made.op.name == "reshape" else None
        if node.op.name == "dropout" and inner is not None and shapes.get(out) == {inner.shape}:
            node.inputs[0] = inner
            replaced[out] = node.give([Value(inner.meta)]).outputs[0]
        elif node.op.name == "reshape":
            same = next((v for v in (before, inner) if v is not None and v.shape == out.shape), None)
            replaced |= {} if same is None else {out: same}
    graph.outputs = [replaced.get(v, v) for v in graph.outputs]
    graph.updates = [(variable, replaced.get(v, v)) for variable, v in graph.updates]
