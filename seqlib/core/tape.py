"""`apply`, the one function that runs or records an op, and the gradient tape that it writes.

Gradient rules call ops, so forward, backward and optimizer land in one graph when traced, and gradients of
gradients need no second mechanism. A tape node keeps arrays (or graph values), never Tensors: Tensor → Node →
Tensor cycles would leave memory to the garbage collector. Gradients are keyed by (node, slot).
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from seqlib.core import debug, dtypes, hooks
from seqlib.core.ambient import ambient, setting
from seqlib.core.backends import backend_of
from seqlib.core.graph import Graph, Value, active_graph, current_scope, recording
from seqlib.core.meta import no_memory
from seqlib.core.op import OPS, Attrs, Meta, Op, as_tuple, metas_of, set_dispatch
from seqlib.core.tensor import Tensor, Variable, as_array
from seqlib.util.errors import SeqlibError, TraceError

Edge = tuple[Any, int]  # (Node or Leaf, slot)


class GradientError(SeqlibError):
    """A gradient was asked for that does not exist."""


_sequence = itertools.count()


def next_seq() -> int:
    """A number above that of every node on the tape and below those to come."""
    return next(_sequence)


def grad_enabled() -> bool:
    return ambient.grad


def grad_mode(enabled: bool) -> AbstractContextManager[None]:
    return setting(grad=enabled)


def no_grad() -> Any:
    """Context manager: ops inside leave no trace on the tape."""
    return grad_mode(False)


def watching(seen: dict[int, tuple[Variable, int]]) -> AbstractContextManager[None]:
    """Put the Variables that ops inside read into `seen`, by id, each with its version at the first reading."""
    return setting(watchers=(*ambient.watchers, seen))


@dataclass(eq=False, slots=True, repr=False)
class Node:
    """An op on the tape: what its gradient rule reads, and where its inputs came from."""

    op: Op
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    attrs: Attrs
    edges: tuple[Edge | None, ...]
    versions: tuple[tuple[Variable, int], ...]  # of the locations among the saved inputs, which may be written to
    seq: int = field(default_factory=_sequence.__next__)
    layers: tuple[str, ...] = field(default_factory=lambda: ambient.scopes)  # the gradient's ops belong to them, too

    def tensors(self, datas: Sequence[Any]) -> tuple[Tensor, ...]:
        """Its outputs as tensors, on the tape where they are visible and floating."""
        return tuple(
            Tensor(d, self, slot) if slot < self.op.visible and dtypes.is_float(d.dtype) else Tensor(d)
            for slot, d in enumerate(datas)
        )


@dataclass(eq=False, slots=True, repr=False)
class Region(Node):
    """A stretch of code on the tape as one node: its gradient runs `again()`, which gives the node's outputs anew,
    on the tape, and goes on through what that recorded. Its edges are those by which the stretch reached outside.
    """

    again: Callable[[], Sequence[Tensor]] = field(kw_only=True)


def edges_of(tensors: Sequence[Tensor | None]) -> tuple[Edge | None, ...]:
    return tuple(None if t is None or t.node is None else (t.node, t.slot) for t in tensors)


def below(roots: Iterable[Any], enter: Callable[[Any], bool]) -> dict[Any, None]:
    """The nodes and leaves from the roots down, as far as `enter` lets in."""
    found: dict[Any, None] = {}
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node not in found and enter(node):
            found[node] = None
            if isinstance(node, Node):
                stack += [edge[0] for edge in node.edges if edge is not None]
    return found


def call_op(name: str, outputs: int) -> Op:
    """An op for a tape node that stands for a function call; it is not among OPS and never runs."""
    return Op(name, lambda: None, (), {}, tuple(f"y{i}" for i in range(outputs)), outputs)


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
    tracked = ambient.grad and op.differentiable and any(t is not None and t.node is not None for t in tensors)
    datas = [None if t is None else t.data for t in tensors]
    for seen in ambient.watchers:
        for t in tensors:
            if isinstance(t, Variable):
                seen.setdefault(id(t), (t, t.version))
    if op.fused and _needs_composition(op, datas, attrs):
        by_composition = tracked and op.vjp_rule is None
        with grad_mode(by_composition):
            results = compose(op, tensors, attrs)
        if by_composition:
            return results
        outs = [t.data for t in results]
    elif graph is not None:
        _check_traced(op, tensors)
        outs = graph.record(op, datas, attrs)
    else:
        _check_eager(op, tensors)
        watched = hooks.active() and op.view_rule is None
        outs = _watched(op, tensors, datas, attrs) if watched else backend_of(datas).execute(op, datas, attrs)
        if op.view_rule is not None and isinstance(tensors[0], Variable):
            outs = [outs[0].copy(order="K")]  # the location may be assigned to; what was read before then stays
    if not tracked:
        return tuple(Tensor(o) for o in outs)
    node = Node(
        op,
        tuple(d if d is None or op.saves_input(i) else Meta(d.shape, d.dtype) for i, d in enumerate(datas)),
        tuple(o if op.saves_output(i) else Meta(o.shape, o.dtype) for i, o in enumerate(outs)),
        attrs,
        edges_of(tensors),
        tuple((t, t.version) for i, t in enumerate(tensors) if isinstance(t, Variable) and op.saves_input(i)),
    )
    return node.tensors(outs)


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
    metas = metas_of(datas)
    op.infer_metas(metas, attrs)
    graph = active_graph()
    device = backend_of(datas).device if graph is None else graph.device
    return op.kernel(device, metas, attrs) is None


def _check_traced(op: Op, tensors: Sequence[Tensor | None]) -> None:
    for i, t in enumerate(tensors):
        if t is not None and not isinstance(t.data, Value):
            name = t.name if isinstance(t, Variable) and t.name else "a tensor"
            raise TraceError(
                f"{op.name}: {op.argument(i)} is {name} of shape {t.shape} made outside the compiled function and "
                f"neither an argument nor in state=[…] (at {debug.where()}); pass it as an argument, or list its "
                "owner in state"
            )


def _check_eager(op: Op, tensors: Sequence[Tensor | None]) -> None:
    for i, t in enumerate(tensors):
        if t is not None and isinstance(t.data, Value):
            raise TraceError(
                f"{op.name}: {op.argument(i)} comes from a compiled function that has ended; return it from there "
                "instead"
            )
        if t is not None and isinstance(t.data, Meta):
            raise no_memory(f"{op.name}: {op.argument(i)}", t)


def _watched(op: Op, tensors: Sequence[Tensor | None], arrays: list[Any], attrs: Attrs) -> list[Any]:
    backend = backend_of(arrays)

    def run() -> list[Any]:
        outs = backend.execute(op, arrays, attrs)
        backend.synchronize()
        return outs

    names = [t.name if isinstance(t, Variable) else "" for t in tensors]
    outs: Any = hooks.watch(run, arrays, (), names, (op.name, current_scope(), debug.user_line()))
    for seen in hooks.active():
        for out in outs:
            seen.hold(out)
    return outs


def compose(op: Op, tensors: Sequence[Tensor | None], attrs: Attrs) -> tuple[Tensor, ...]:
    """Run a fused op by its composition; half precision is widened before and rounded once after."""
    if not any(t is not None and dtypes.is_half(t.dtype) for t in tensors):
        return as_tuple(op.fn(*tensors, **attrs))
    metas = op.infer_metas(metas_of(tensors), attrs)
    wide = [None if t is None else cast_to(t, dtypes.sums(t.dtype)) for t in tensors]
    outs = as_tuple(op.fn(*wide, **attrs))
    return tuple(cast_to(o, m.dtype) for o, m in zip(outs, metas, strict=True))


def infer_composed(op: Op) -> None:
    """Give a fused op the shape rule that follows from its composition."""

    @lru_cache(maxsize=256)
    def found(metas: tuple[Meta, ...], attrs: tuple[tuple[str, Any], ...]) -> list[Meta]:
        with recording(Graph()), grad_mode(False):
            results = as_tuple(op.fn(*(Tensor(Value(m)) for m in metas), **dict(attrs)))
        return [Meta(t.shape, t.dtype) for t in results]

    op.infer(lambda *metas, **attrs: list(found(metas, tuple(attrs.items()))))


def cast_to(t: Tensor, dtype: dtypes.DType) -> Tensor:
    return t if t.dtype == dtype else OPS["cast"](t, dtype=dtype)


def filled(like: Tensor | Meta, value: float) -> Tensor:
    """`value` everywhere, in the shape and dtype of `like`."""
    return OPS["full"](shape=like.shape, value=value, dtype=like.dtype)
