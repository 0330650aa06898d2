"""Cast folding: a cast that takes an exact one back is the value before both. Nothing lossy is folded: float32 →
bfloat16 → float32 rounds, and stays."""

from __future__ import annotations

from seqlib.core import dtypes
from seqlib.core.graph import Graph, Value

_WIDER = {
    dtypes.float16: {dtypes.float32, dtypes.float64},
    dtypes.bfloat16: {dtypes.float32, dtypes.float64},
    dtypes.float32: {dtypes.float64},
    dtypes.int32: {dtypes.int64, dtypes.float64},
    dtypes.bool_: {dtypes.int32, dtypes.int64, dtypes.float16, dtypes.bfloat16, dtypes.float32, dtypes.float64},
}
"""The dtypes that hold every value of a dtype exactly."""


def fold_casts(graph: Graph) -> None:
    """float32 → float64 → float32 is the first float32; of int32 → int64 → float64 one cast is left."""
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
