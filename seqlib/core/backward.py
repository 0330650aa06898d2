"""Going back through the tape: `gradients`, and `backward`, which fills `.grad`.

Gradients are keyed by (node, slot). Gradient rules call ops, so with `create_graph` a gradient is on the tape itself.
"""

import heapq
from collections.abc import Sequence
from typing import Any

from seqlib.core import dtypes
from seqlib.core.graph import in_gradient_of
from seqlib.core.op import OPS, Meta, VjpContext
from seqlib.core.tape import Edge, GradientError, Node, Region, below, cast_to, compose, filled, grad_mode, no_grad
from seqlib.core.tensor import Leaf, Tensor, register_methods

_WIDE = {"cast", "compute_copy", "concatenate", "reshape", "slice", "transpose"}
"""Ops whose rules take the gradient of a 16-bit output in float32: they stand between a parameter and its use."""


def gradients(
    outputs: Sequence[Tensor],
    cotangents: Sequence[Tensor] | None,
    targets: Sequence[Tensor],
    create_graph: bool = False,
) -> list[Tensor | None]:
    """Vector-Jacobian products: for each target, the sum over outputs of cotangentᵀ · ∂output/∂target.

    `cotangents` have the outputs' shapes; None stands for ones and is allowed for scalar outputs only. A
    target that no output depends on gives None. With `create_graph` the result is differentiable itself.
    Raises GradientError when an output is not on the tape.
    """
    grads: dict[Edge, Tensor] = {}
    with grad_mode(create_graph):
        for i, output in enumerate(outputs):
            if output.node is None:
                raise GradientError("the output does not depend on anything that requires a gradient")
            if cotangents is None and output.size != 1:
                raise GradientError(f"a gradient without a cotangent needs a scalar output, got shape {output.shape}")
            cotangent = filled(output, 1.0) if cotangents is None else cotangents[i]
            if cotangent.shape != output.shape:
                raise GradientError(
                    f"the cotangent should have the output's shape {output.shape}, got {cotangent.shape}"
                )
            _accumulate(grads, (output.node, output.slot), cotangent)
        wanted = {(t.node, t.slot) for t in targets if t.node is not None}
        _run_backward([o.node for o in outputs], {n for n, _ in wanted}, wanted, grads, create_graph)
    return [None if t.node is None else grads.get((t.node, t.slot)) for t in targets]


def _accumulate(grads: dict[Edge, Tensor], edge: Edge, g: Tensor) -> None:
    previous = grads.get(edge)
    grads[edge] = g if previous is None else OPS["add"](previous, g)


def _extend_leads(leads: dict[Any, bool], roots: Sequence[Any], target_nodes: set[Any]) -> None:
    """Note for every node below the roots: does a path lead from it to a target? Inputs come before outputs in
    `seq`.
    """
    found = below(roots, lambda node: node not in leads)
    for node in sorted(found, key=lambda n: n.seq):
        above = isinstance(node, Node) and any(e is not None and leads[e[0]] for e in node.edges)
        leads[node] = above or node in target_nodes


def _run_backward(
    roots: list[Any], target_nodes: set[Any], wanted: set[Edge], grads: dict[Edge, Tensor], create_graph: bool
) -> None:
    leads: dict[Any, bool] = {}
    heap: list[tuple[int, Node]] = []
    queued: set[Any] = set()

    def queue(node: Any) -> None:
        if isinstance(node, Node) and node not in queued:
            queued.add(node)
            heapq.heappush(heap, (-node.seq, node))

    _extend_leads(leads, roots, target_nodes)
    for root in roots:
        queue(root)
    del roots
    while heap:
        node = heapq.heappop(heap)[1]
        queued.discard(node)  # all that read it came before: nothing refers to it here any more
        del leads[node]
        needs = tuple(e is not None and leads[e[0]] for e in node.edges)
        slots = range(len(node.outputs))[: node.op.visible]
        cotangents = [grads.get((node, slot)) for slot in slots]
        for slot in slots:
            if (node, slot) not in wanted:
                grads.pop((node, slot), None)
        if not any(needs) or all(c is None for c in cotangents):
            continue
        _check_versions(node)
        if isinstance(node, Region):
            roots = _recompute(node, cotangents, grads)
            _extend_leads(leads, roots, target_nodes)
            while roots:
                queue(roots.pop())
            continue
        with in_gradient_of(node.layers):
            found = _node_vjp(node, cotangents, needs, create_graph)
        for edge, g, meta, needed in zip(node.edges, found, node.inputs, needs, strict=True):
            if edge is None or g is None or not needed:
                continue
            if g.shape != meta.shape:
                raise AssertionError(f"{node.op.name}: gradient of shape {g.shape} for an input of shape {meta.shape}")
            # An op on float32 and float64 computes in float64; each gradient has the dtype of its tensor, but sums over
            # many rows stay float32 on their way to a parameter.
            to_parameter = isinstance(edge[0], Node) and edge[0].op.name in _WIDE
            wide = to_parameter and g.dtype == dtypes.sums(meta.dtype)
            _accumulate(grads, edge, g if wide else cast_to(g, meta.dtype))
            queue(edge[0])


def _recompute(node: Region, cotangents: list[Tensor | None], grads: dict[Edge, Tensor]) -> list[Any]:
    """Run a region again and give its new outputs their cotangents; returns the new nodes of those outputs.

    What it records is younger than all that waits in the heap, so it comes next, as if it had never been cut out.
    """
    outs = [(o, c) for o, c in zip(node.again(), cotangents, strict=True) if c is not None]
    for out, cotangent in outs:
        _accumulate(grads, (out.node, out.slot), cotangent)
    return [out.node for out, _ in outs]


def _check_versions(node: Node) -> None:
    for variable, version in node.versions:
        if variable.version != version:
            raise GradientError(
                f"{node.op.name}: {variable.name or 'a Variable'} of shape {variable.shape} was assigned to after this "
                "op read it, and its gradient needs the content from before; take gradients first, then assign"
            )


def _node_vjp(
    node: Node, cotangents: list[Tensor | None], needs: tuple[bool, ...], create_graph: bool
) -> Sequence[Tensor | None]:
    op = node.op
    if create_graph and op.fused:
        return _composition_vjp(node, cotangents, needs)
    if op.vjp_rule is None:
        raise GradientError(f"{op.name} has no gradient rule")
    inputs = tuple(_revive(d, e if create_graph else None) for d, e in zip(node.inputs, node.edges, strict=True))
    outputs = tuple(
        _revive(d, (node, slot) if create_graph and slot < op.visible else None) for slot, d in enumerate(node.outputs)
    )
    return op.vjp_rule(VjpContext(inputs, outputs, node.attrs, needs), *cotangents)


def _revive(data: Any, edge: Edge | None) -> Any:
    if data is None or isinstance(data, Meta):
        return data
    return Tensor(data) if edge is None else Tensor(data, *edge)


def _composition_vjp(node: Node, cotangents: list[Tensor | None], needs: tuple[bool, ...]) -> list[Tensor | None]:
    """The differentiable gradient of a fused op: run its composition on the tape and go back through that."""
    unsaved = [p for p, d in zip(node.op.params, node.inputs, strict=False) if isinstance(d, Meta)]
    if unsaved:
        raise GradientError(f"{node.op.name}: a second gradient needs the inputs {unsaved}, which `saves` leaves out")
    # An identity of its own for each input cuts the composition off below, and stays connected for the outer
    # gradient.
    inputs = [
        None if d is None else (OPS["identity"](Tensor(d, *e)) if e is not None else Tensor(d))
        for d, e in zip(node.inputs, node.edges, strict=True)
    ]
    outs = compose(node.op, inputs, node.attrs)[: node.op.visible]
    pairs = [(o, c) for o, c in zip(outs, cotangents, strict=True) if c is not None and o.node is not None]
    targets = [t for t, needed in zip(inputs, needs, strict=True) if needed and t is not None]
    found = iter(gradients([o for o, _ in pairs], [c for _, c in pairs], targets, create_graph=True))
    return [next(found) if needed else None for needed in needs]


def backward(output: Tensor, cotangent: Tensor | None = None) -> None:
    """Add the gradient of `output` to `.grad` of every leaf that it depends on."""
    if output.node is None:
        raise GradientError("backward: the tensor does not depend on anything that requires a gradient")
    found = below([output.node], lambda node: True)
    leaves = [t for leaf in found if isinstance(leaf, Leaf) and (t := leaf.tensor()) is not None]
    for leaf, g in zip(leaves, gradients([output], None if cotangent is None else [cotangent], leaves), strict=True):
        if g is not None:
            with no_grad():
                leaf.grad = g if leaf.grad is None else OPS["add"](leaf.grad, g)


register_methods({"backward": backward})
