"""Tracing: run a function once with placeholders, and keep the graph of what it did."""

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

from seqlib.core import tree
from seqlib.core.backends.threads import fork_locks
from seqlib.core.graph import Graph, Value, active_graph, recording
from seqlib.core.op import Meta
from seqlib.core.tensor import Tensor, Variable
from seqlib.util.errors import TraceError

MAX_NODES = 200_000
_lock = threading.RLock()  # a trace swaps the content of Variables for graph values
fork_locks.insert(0, _lock)


class Traced(NamedTuple):
    """A graph, and how its outputs and the function's static results make the returned tree.

    `result_leaves` holds an index into `graph.outputs` for a tensor, and the leaf itself for anything else.
    """

    graph: Graph
    result_tree: tree.TreeDef
    result_leaves: list[tuple[bool, Any]]


def collect_variables(state: Any, prefix: str = "") -> dict[str, Variable]:
    """The Variables reachable from `state`: a Variable, a list, tuple or dict of such, or anything with
    `state_variables()`.

    Each Variable is listed once, under its first name. Raises TypeError for an object that holds none.
    """
    found: dict[int, tuple[str, Variable]] = {}
    for name, variable in _walk(state, prefix):
        found.setdefault(id(variable), (name, variable))
    return dict(found.values())


def _walk(state: Any, prefix: str) -> Iterator[tuple[str, Variable]]:
    if isinstance(state, Variable):
        yield prefix or state.name, state
        for dtype, copy in getattr(state, "copies", {}).items():
            yield f"{prefix or state.name}.{dtype}", copy
        return
    children: dict[Any, Any]
    if isinstance(state, (list, tuple)):
        children = dict(enumerate(cast("Sequence[Any]", state)))
    elif isinstance(state, dict):
        children = cast("dict[Any, Any]", state)
    elif hasattr(state, "state_variables"):
        children = state.state_variables()
    else:
        raise TypeError(f"state: {type(state).__name__} holds no Variables (it has no state_variables())")
    for key, child in children.items():
        yield from _walk(child, f"{prefix}.{key}" if prefix else str(key))


@contextmanager
def _substituted(variables: dict[str, Variable], graph: Graph) -> Generator[None, None, None]:
    """Inside, every Variable holds a graph value; after, its storage again, and the graph knows the final
    values.
    """
    storage = [(v, v.data) for v in variables.values()]
    try:
        for name, variable in variables.items():
            variable.data = graph.add_location(variable, Meta(variable.shape, variable.dtype), name)
        yield
        graph.updates = [(v, v.data) for v, initial in graph.locations if v.data is not initial]
    finally:
        for variable, array in storage:
            variable.data = array


def trace(
    fn: Callable[..., Any], args: tree.TreeDef, leaves: Sequence[Any], variables: dict[str, Variable], device: str
) -> Traced:
    """The graph of `fn(*args, **kwargs)` for a device, where `args` is the structure of `(args, kwargs)`.

    A leaf that is a Meta becomes a placeholder; any other is passed as it is. Raises TraceError for a tensor
    that comes from outside, a result that is not a tensor of this trace, or a graph beyond MAX_NODES.
    """
    if active_graph() is not None:
        raise TraceError("trace: already tracing")
    graph = Graph(device)
    with _lock, _substituted(variables, graph), recording(graph):
        placeholders = [
            Tensor(graph.add_input(leaf, f"arg{i}")) if isinstance(leaf, Meta) else leaf
            for i, leaf in enumerate(leaves)
        ]
        positional, keyword = tree.unflatten(args, placeholders)
        result = fn(*positional, **keyword)
        flat, result_tree = tree.flatten(result)
        result_leaves = [_output(graph, leaf) for leaf in flat]
    if len(graph.nodes) > MAX_NODES:
        raise TraceError(
            f"the compiled function has {len(graph.nodes)} operations, more than {MAX_NODES}; use a loop over calls"
        )
    return Traced(graph, result_tree, result_leaves)


def _output(graph: Graph, leaf: Any) -> tuple[bool, Any]:
    if not isinstance(leaf, Tensor):
        return False, leaf
    if not isinstance(leaf.data, Value):
        raise TraceError("the compiled function returns a tensor that was made outside it")
    graph.outputs.append(leaf.data)
    return True, len(graph.outputs) - 1
