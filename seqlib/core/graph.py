"""The static dataflow graph: values and the nodes that make them.
 A graph is built by `trace`, rewritten by `passes`, and lowered by `program`. It is in SSA form: a value is
made once. Reading a location (parameter or state) is an input; writing it is an entry of `updates`, carried
out at the end of the program.
"""

import itertools
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from seqlib.core import debug
from seqlib.core.ambient import ambient, setting
from seqlib.core.op import Attrs, Meta, Op, metas_of

_ids = itertools.count()


class Value:
    """An array that will exist when the program runs. `constant` holds its content if that is known."""

    __slots__ = ("constant", "dtype", "id", "meta", "name", "node", "shape", "slot")

    def __init__(self, meta: Meta, name: str = "", constant: npt.NDArray[Any] | None = None) -> None:
        self.id = next(_ids)
        self.meta = meta
        self.shape, self.dtype = meta
        self.node: Node | None = None
        self.slot = 0
        self.name = name
        self.constant = constant

    def __repr__(self) -> str:
        return f"{self.name or 'v' + str(self.id)}:{self.dtype}{list(self.shape)}"


@dataclass(eq=False, slots=True, repr=False)
class Node:
    """One op in a graph, with the layer (`scope`) and the user's line that asked for it."""

    op: Op
    inputs: list[Value | None]
    attrs: Attrs
    scope: str
    line: str
    region: int = 0  # of a recomputation; nodes of two regions are never one (0: none)
    outputs: list[Value] = field(default_factory=list[Value])

    @property
    def reads(self) -> list[Value]:
        """The inputs that are not absent."""
        return [v for v in self.inputs if v is not None]

    @property
    def metas(self) -> list[Meta | None]:
        """Those of the inputs."""
        return [None if v is None else v.meta for v in self.inputs]

    def give(self, values: list[Value]) -> "Node":
        """Make these its outputs."""
        self.outputs = values
        for slot, value in enumerate(values):
            value.node, value.slot = self, slot
        return self


class Graph:
    """Nodes in execution order, the inputs and locations they read, and what they give and write."""

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        self.nodes: list[Node] = []
        self.inputs: list[Value] = []
        self.locations: list[tuple[Any, Value]] = []  # (Variable, the value it holds at the start)
        self.outputs: list[Value] = []
        self.updates: list[tuple[Any, Value]] = []  # (Variable, the value it holds at the end)
        self._constants: dict[tuple[bytes, tuple[int, ...], Any], Value] = {}

    @property
    def results(self) -> list[Value]:
        """What it gives and what it writes."""
        return [*self.outputs, *(value for _, value in self.updates)]

    @property
    def written(self) -> set[int]:
        """The ids of the Variables that it writes."""
        return {id(variable) for variable, _ in self.updates}

    def add_input(self, meta: Meta, name: str) -> Value:
        value = Value(meta, name=name)
        self.inputs.append(value)
        return value

    def add_location(self, variable: Any, meta: Meta, name: str) -> Value:
        value = Value(meta, name=name)
        self.locations.append((variable, value))
        return value

    def constant(self, array: npt.NDArray[Any]) -> Value:
        """A value with known content; equal small constants are one value."""
        key = (array.tobytes(), array.shape, array.dtype) if array.size <= 64 else None
        if key is not None and key in self._constants:
            return self._constants[key]
        fixed = np.array(array, order="C")
        fixed.flags.writeable = False
        value = Value(Meta(fixed.shape, fixed.dtype), name="const", constant=fixed)
        if key is not None:
            self._constants[key] = value
        return value

    def record(self, op: Op, inputs: Sequence[Value | None], attrs: Attrs) -> list[Value]:
        """Append a node and return its output values; shapes by the op's rule."""
        metas = op.infer_metas(metas_of(inputs), attrs)
        node = Node(op, list(inputs), attrs, current_scope(), debug.user_line(), ambient.region)
        self.nodes.append(node.give([Value(meta) for meta in metas]))
        return node.outputs

    def __str__(self) -> str:
        lines = [f"inputs    {', '.join(map(repr, self.inputs)) or '-'}"]
        lines.append(f"locations {', '.join(repr(v) for _, v in self.locations) or '-'}")
        for node in self.nodes:
            outs = ", ".join(map(repr, node.outputs))
            ins = ", ".join("none" if v is None else (v.name or f"v{v.id}") for v in node.inputs)
            attrs = ", ".join(f"{k}={v}" for k, v in node.attrs.items() if v is not None)
            lines.append(f"  {outs} = {node.op.name}({ins}{'; ' + attrs if attrs else ''})  # {node.scope} {node.line}")
        lines.append(f"outputs   {', '.join(map(repr, self.outputs)) or '-'}")
        lines += [f"update    {variable.name} <- {value!r}" for variable, value in self.updates]
        return "\n".join(lines)


def active_graph() -> Graph | None:
    """The graph being traced in this thread, or None when ops run at once."""
    return ambient.graph


def recording(graph: Graph) -> AbstractContextManager[None]:
    """Record ops into `graph` instead of running them. Tracing inside a trace is refused by `trace`."""
    return setting(graph=graph)


def scope(name: str) -> AbstractContextManager[None]:
    """Name the layer that the ops inside belong to; names nest with dots."""
    return setting(scopes=(*ambient.scopes, name))


def current_scope() -> str:
    return ".".join(s for s in ambient.scopes if s)


def in_gradient_of(layers: tuple[str, ...]) -> AbstractContextManager[None]:
    """Ops inside belong to the layers' gradient: `encoder.layers.0.gradient`."""
    return setting(scopes=layers if layers[-1:] == ("gradient",) else (*layers, "gradient"))


def checkpointed(again: bool, layers: tuple[str, ...]) -> AbstractContextManager[None]:
    """Ops inside belong to a checkpoint in `layers`. `again`: they are computed anew, and no pass makes them one
    with those computed before.
    """
    region = next(_ids) + 1 if again else ambient.region
    return setting(scopes=layers, checkpoint=True, region=region)
