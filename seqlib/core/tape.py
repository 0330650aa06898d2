"""`apply`, the one function that runs or records an op, and the gradient tape that it writes.

Gradient rules call ops, so forward, backward and optimizer land in one graph when traced, and gradients of
gradients need no second mechanism. A tape node keeps arrays (or graph values), never Tensors: Tensor → Node →
Tensor cycles would leave memory to the garbage collector. Gradients are keyed by (node, slot).
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from seqlib.core import debug, dtypes
from seqlib.core.backends import cpu
from seqlib.core.graph import Graph, Value, active_graph
from seqlib.core.op import OPS, Attrs, Meta, Op, VjpContext, set_dispatch
from seqlib.core.tensor import Leaf, Tensor, Variable, as_array, register_methods
from seqlib.util.errors import SeqlibError, TraceError

Edge = tuple[Any, int]  # (Node or Leaf, slot)


class GradientError(SeqlibError):
    """A gradient was asked for that does not exist."""


class _Mode(threading.local):
    grad = True
    watchers: tuple[dict[int, tuple[Variable, int]], ...] = ()


_mode = _Mode()
_sequence = itertools.count()


def next_seq() -> int:
    """A number above that of every node on the tape and below those to come."""
    return next(_sequence)


def grad_enabled() -> bool:
    return _mode.grad


@contextmanager
def grad_mode(enabled: bool) -> Generator[None, None, None]:
    previous = _mode.grad
    _mode.grad = enabled
    try:
        yield
    finally:
        _mode.grad = previous


def no_grad() -> Any:
    """Context manager: ops inside leave no trace on the tape."""
    return grad_mode(False)


@contextmanager
def watching() -> Generator[dict[int, tuple[Variable, int]], None, None]:
    """Yields the Variables that ops inside read, by id, each with its version at the first reading."""
    previous = _mode.watchers
    seen: dict[int, tuple[Variable, int]] = {}
    _mode.watchers = (*previous, seen)
    try:
        yield seen
    finally:
        _mode.watchers = previous


class Node:
    """An op on the tape: what its gradient rule reads, and where its inputs came from."""

    __slots__ = ("attrs", "edges", "inputs", "op", "outputs", "seq", "versions")

    def __init__(
        self,
        op: Op,
        inputs: tuple[Any, ...],
        outputs: tuple[Any, ...],
        attrs: Attrs,
        edges: tuple[Edge | None, ...],
        versions: tuple[tuple[Variable, int], ...],
    ) -> None:
        self.seq = next(_sequence)
        self.op = op
        self.inputs = inputs
        self.outputs = outputs
        self.attrs = attrs
        self.edges = edges
        self.versions = versions  # of the locations among the saved inputs: their storage may be written to


class Region(Node):
    """A stretch of code on the tape as one node: its gradient runs `again()`, which gives the node's outputs anew,
    on the tape, and goes on through what that recorded. Its edges are those by which the stretch reached outside.
    """

    __slots__ = ("again",)
    again: Callable[[], Sequence[Tensor]]


def call_op(name: str, outputs: int) -> Op:
    """An op for a tape node that stands for a function call; it is not among OPS and never runs."""
    outs = tuple(f"y{i}" for i in range(outputs))
    return Op(
        name,
        lambda: None,
        (),
        {},
        variadic=False,
        optional=frozenset(),
        fused=False,
        outs=outs,
        visible=outputs,
        saves=None,
        differentiable=True,
    )


# -- running an op
# ---------------------------------------------------------------------------------------------------------


def apply(op: Op, args: tuple[Any, ...], attrs: Attrs) -> Any:
    """Run `op` (eager) or record it (tracing), and put it on the tape if a gradient may be wanted.

    `args` are Tensors, None for an absent optional input, arrays, or Python scalars. Returns the visible
    outputs: one Tensor, or a tuple where the op shows several. Raises ShapeError or DtypeError that names op,
    argument, expected and got.
    """
    outs = apply_all(op, args, attrs)
    return outs[0] if op.visible == 1 else outs[: op.visible]


def apply_all(op: Op, args: tuple[Any, ...], attrs: Attrs) -> tuple[Tensor, ...]:
    """`apply`, with the outputs that only serve the gradient rule as well."""
    graph = active_graph()
    tensors = _as_tensors(op, args, graph)
    tracked = _mode.grad and op.differentiable and any(t is not None and t.node is not None for t in tensors)
    datas = [None if t is None else t.data for t in tensors]
    for seen in _mode.watchers:
        for t in tensors:
            if isinstance(t, Variable):
                seen.setdefault(id(t), (t, t.version))
    if op.fused and _needs_composition(op, datas, attrs):
        by_composition = tracked and op.vjp_rule is None
        with grad_mode(by_composition):
            results = _compose(op, tensors, attrs)
        if by_composition:
            return results
        outs = [t.data for t in results]
    elif graph is not None:
        outs = graph.record(op, _checked(op, tensors), attrs)
    else:
        outs = cpu.execute(op, _checked_eager(op, datas), attrs)
        if op.view_rule is not None and isinstance(tensors[0], Variable):
            outs = [outs[0].copy()]  # the location may be assigned to; what was read before then stays
    if not tracked:
        return tuple(Tensor(o) for o in outs)
    node = Node(
        op,
        tuple(
            d if d is None or op.save_all_inputs or i in op.save_inputs else Meta(d.shape, d.dtype)
            for i, d in enumerate(datas)
        ),
        tuple(o if i in op.save_outputs else Meta(o.shape, o.dtype) for i, o in enumerate(outs)),
        attrs,
        tuple(None if t is None or t.node is None else (t.node, t.slot) for t in tensors),
        tuple(
            (t, t.version)
            for i, t in enumerate(tensors)
            if isinstance(t, Variable) and (op.save_all_inputs or i in op.save_inputs)
        ),
    )
    return tuple(
        Tensor(o, node, slot) if slot < op.visible and dtypes.is_float(o.dtype) else Tensor(o)
        for slot, o in enumerate(outs)
    )


set_dispatch(apply)


def _as_tensors(op: Op, args: tuple[Any, ...], graph: Graph | None) -> list[Tensor | None]:
    beside: dtypes.DType | None = None
    for a in args:
        if isinstance(a, Tensor):
            beside = a.dtype if beside is None else dtypes.promote(beside, a.dtype)
    tensors: list[Tensor | None] = []
    for i, a in enumerate(args):
        if a is None or isinstance(a, Tensor):
            tensors.append(a)
        else:
            try:
                array = as_array(a, beside)
            except dtypes.DtypeError as error:
                raise dtypes.DtypeError(f"{op.name}: {op.argument(i)}: {error}") from None
            tensors.append(Tensor(array if graph is None else graph.constant(array)))
    return tensors


def _needs_composition(op: Op, datas: Sequence[Any], attrs: Attrs) -> bool:
    """True when no kernel serves these inputs. Raises what the op's shape rule raises, so that a message names
    this op and not one that it is made of.
    """
    metas = [None if d is None else Meta(d.shape, d.dtype) for d in datas]
    op.infer_metas(metas, attrs)
    return op.cpu_kernel(metas, attrs) is None


def _checked(op: Op, tensors: Sequence[Tensor | None]) -> list[Value | None]:
    values: list[Value | None] = []
    for i, t in enumerate(tensors):
        if t is not None and not isinstance(t.data, Value):
            name = t.name if isinstance(t, Variable) and t.name else "a tensor"
            raise TraceError(
                f"{op.name}: {op.argument(i)} is {name} of shape {t.shape} made outside the compiled function and "
                f"neither an argument nor in state=[…] (at {debug.where()}); pass it as an argument, or list its "
                "owner in state"
            )
        values.append(None if t is None else t.data)
    return values


def _checked_eager(op: Op, datas: Sequence[Any]) -> Sequence[Any]:
    for i, d in enumerate(datas):
        if isinstance(d, Value):
            raise TraceError(
                f"{op.name}: {op.argument(i)} comes from a compiled function that has ended; return it from there "
                "instead"
            )
    return datas


def _compose(op: Op, tensors: Sequence[Tensor | None], attrs: Attrs) -> tuple[Tensor, ...]:
    """Run a fused op by its composition; half precision is widened before and rounded once after."""
    half = next((t.dtype for t in tensors if t is not None and dtypes.is_half(t.dtype)), None)
    if half is not None:
        metas = op.infer_metas([None if t is None else Meta(t.shape, t.dtype) for t in tensors], attrs)
        widened = [
            OPS["cast"](t, dtype=dtypes.float32) if t is not None and dtypes.is_half(t.dtype) else t
            for t in tensors
        ]
        outs = _tuple(op.fn(*widened, **attrs))
        return tuple(
            OPS["cast"](o, dtype=m.dtype) if o.dtype != m.dtype else o
            for o, m in zip(outs, metas, strict=True)
        )
    return _tuple(op.fn(*tensors, **attrs))


def _tuple(result: Any) -> tuple[Any, ...]:
    return cast("tuple[Any, ...]", result) if isinstance(result, tuple) else (result,)


# -- gradients
# -------------------------------------------------------------------------------------------------------------


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
                raise GradientError(
                    f"a gradient without a cotangent needs a scalar output, got shape {output.shape}"
                )
            cotangent = _ones_like(output) if cotangents is None else cotangents[i]
            if cotangent.shape != output.shape:
                raise GradientError(
                    f"the cotangent should have the output's shape {output.shape}, got {cotangent.shape}"
                )
            _accumulate(grads, (output.node, output.slot), cotangent)
        wanted = {(t.node, t.slot) for t in targets if t.node is not None}
        _run_backward([o.node for o in outputs], {n for n, _ in wanted}, wanted, grads, create_graph)
    return [None if t.node is None else grads.get((t.node, t.slot)) for t in targets]


def _ones_like(t: Tensor) -> Tensor:
    return OPS["full"](shape=t.shape, value=1.0, dtype=t.dtype)


def _accumulate(grads: dict[Edge, Tensor], edge: Edge, g: Tensor) -> None:
    previous = grads.get(edge)
    grads[edge] = g if previous is None else OPS["add"](previous, g)


def _extend_leads(leads: dict[Any, bool], roots: Sequence[Any], target_nodes: set[Any]) -> None:
    """Note for every node below the roots: does a path lead from it to a target? Inputs come before outputs in
    `seq`.
    """
    found: set[Any] = {root for root in roots if root not in leads}
    stack = list(found)
    while stack:
        node = stack.pop()
        if isinstance(node, Node):
            for edge in node.edges:
                if edge is not None and edge[0] not in found and edge[0] not in leads:
                    found.add(edge[0])
                    stack.append(edge[0])
    for node in sorted(found, key=lambda n: n.seq):
        below = isinstance(node, Node) and any(e is not None and leads[e[0]] for e in node.edges)
        leads[node] = below or node in target_nodes


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
        cotangents = [grads.get((node, slot)) for slot in range(node.op.visible)]
        for slot in range(node.op.visible):
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
        for edge, g, meta, needed in zip(
            node.edges, _node_vjp(node, cotangents, needs, create_graph), node.inputs, needs, strict=True
        ):
            if edge is None or g is None or not needed:
                continue
            if g.shape != meta.shape:
                raise AssertionError(
                    f"{node.op.name}: gradient of shape {g.shape} for an input of shape {meta.shape}"
                )
            # An op on float32 and float64 computes in float64; each gradient has the dtype of its tensor.
            _accumulate(grads, edge, g if g.dtype == meta.dtype else OPS["cast"](g, dtype=meta.dtype))
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
    inputs = tuple(
        _revive(d, e if create_graph else None) for d, e in zip(node.inputs, node.edges, strict=True)
    )
    outputs = tuple(
        _revive(d, (node, slot) if create_graph and slot < op.visible else None)
        for slot, d in enumerate(node.outputs)
    )
    return op.vjp_rule(VjpContext(inputs, outputs, node.attrs, needs), *cotangents)


def _revive(data: Any, edge: Edge | None) -> Any:
    if data is None or isinstance(data, Meta):
        return data
    return Tensor(data) if edge is None else Tensor(data, *edge)


def _composition_vjp(
    node: Node, cotangents: list[Tensor | None], needs: tuple[bool, ...]
) -> list[Tensor | None]:
    """The differentiable gradient of a fused op: run its composition on the tape and go back through that."""
    unsaved = [p for p, d in zip(node.op.params, node.inputs, strict=False) if isinstance(d, Meta)]
    if unsaved:
        raise GradientError(
            f"{node.op.name}: a second gradient needs the inputs {unsaved}, which `saves` leaves out"
        )
    # An identity of its own for each input cuts the composition off below, and stays connected for the outer
    # gradient.
    inputs = [
        None if d is None else (OPS["identity"](Tensor(d, *e)) if e is not None else Tensor(d))
        for d, e in zip(node.inputs, node.edges, strict=True)
    ]
    outs = _compose(node.op, inputs, node.attrs)[: node.op.visible]
    pairs = [(o, c) for o, c in zip(outs, cotangents, strict=True) if c is not None and o.node is not None]
    targets = [t for t, needed in zip(inputs, needs, strict=True) if needed and t is not None]
    found = iter(
        gradients([o for o, _ in pairs], [c for _, c in pairs], targets, create_graph=True)
        if pairs
        else [None] * len(targets)
    )
    return [next(found) if needed else None for needed in needs]


def backward(output: Tensor, cotangent: Tensor | None = None) -> None:
    """Add the gradient of `output` to `.grad` of every leaf that it depends on."""
    if output.node is None:
        raise GradientError("backward: the tensor does not depend on anything that requires a gradient")
    found: set[Any] = set()
    stack = [output.node]
    while stack:
        node = stack.pop()
        if node in found:
            continue
        found.add(node)
        if isinstance(node, Node):
            stack += [e[0] for e in node.edges if e is not None]
    leaves = [t for leaf in found if isinstance(leaf, Leaf) and (t := leaf.tensor()) is not None]
    for leaf, g in zip(
        leaves, gradients([output], None if cotangent is None else [cotangent], leaves), strict=True
    ):
        if g is not None:
            with no_grad():
                leaf.grad = g if leaf.grad is None else OPS["add"](leaf.grad, g)


register_methods({"backward": backward})
