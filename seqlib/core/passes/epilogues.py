"""Epilogues: the bias that is added to a product, and the relu of the sum, join the product where a kernel does both in
one pass over its result."""

from __future__ import annotations

from seqlib.core.graph import Graph, Node, Value
from seqlib.core.op import OPS, Meta


def join_epilogues(graph: Graph) -> None:
    """Put `matmul_bias` in the place of product, add and relu, if nobody else reads what lies between."""
    readers: dict[Value, list[Node]] = {}
    for node in graph.nodes:
        for v in node.inputs:
            if v is not None:
                readers.setdefault(v, []).append(node)
    wanted = {*graph.outputs, *(v for _, v in graph.updates)}

    def reader(node: Node, name: str) -> Node | None:
        """The op of that name that alone reads the result."""
        found = readers.get(node.outputs[0], [])
        alone = len(found) == 1 and node.outputs[0] not in wanted
        return found[0] if alone and found[0].op.name == name else None

    instead: dict[Node, list[Node]] = {}
    for node in graph.nodes:
        add = reader(node, "add") if node.op.name == "matmul" else None
        if add is None:
            continue
        y, bias = node.outputs[0], next((v for v in add.inputs if v is not node.outputs[0]), None)
        if bias is None or bias.meta != Meta(y.shape[1:], y.dtype) or len(y.shape) != 2:
            continue
        view = reader(add, "reshape")
        relu = reader(view or add, "relu")
        attrs = {name: node.attrs[name] for name in ("transpose_a", "transpose_b")} | {"relu": relu is not None}
        op, inputs = OPS["matmul_bias"], [*node.inputs, bias]
        if op.kernel(graph.device, [v and v.meta for v in inputs], attrs) is None:
            continue
        last = relu or add
        joined = Node(op, inputs, attrs, last.scope, last.line)
        result = last.outputs[0]
        made = [joined]
        if result.shape != y.shape:
            joined.outputs = [Value(y.meta, joined)]
            made.append(Node(OPS["reshape"], [joined.outputs[0]], {"shape": result.shape}, last.scope, last.line))
        result.node, result.slot = made[-1], 0
        made[-1].outputs = [result]
        instead |= {n: [] for n in (node, add, view) if n is not None and (n is not view or relu)} | {last: made}
    graph.nodes = [new for node in graph.nodes for new in instead.get(node, [node])]
