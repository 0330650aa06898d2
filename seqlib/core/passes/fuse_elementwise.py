"""Elementwise fusion: connected elementwise ops become one op with one expression, hence one loop over memory.

A group's values have one number of elements. Where their shapes differ (a reshape lies between) they are brought to
the coarsest shape that splits them all, so that reshapes of inputs and results are views. A group runs where its last
member stood; an op joins only if nothing in between reads what the group computes, so nothing else moves, and nothing
is computed twice. Each element goes through the same operations as before: values do not change.
"""

import ast
import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from seqlib.core import dtypes
from seqlib.core.graph import Graph, Node, Value
from seqlib.core.op import OPS, Meta
from seqlib.core.ops.fused_elementwise import fused_elementwise

MAX_MEMBERS = 48
MAX_ARRAYS = 16
"""Inputs and results of a group: a loop over more streams than this gains nothing."""
_VIEWS = frozenset(("reshape", "identity"))


def fuse_elementwise(graph: Graph) -> None:
    """Replace groups of at least two elementwise ops."""
    groups = _Groups(graph)
    for number, node in enumerate(graph.nodes):
        groups.visit(number, node)
    emitted: list[Node] = []
    waiting: dict[Node, list[Node]] = {}  # views of a group's results, by the last member
    for node in graph.nodes:
        group = groups.of.get(node)
        viewed = groups.of.get(groups.producer(node.inputs[0])) if node.op.name in _VIEWS else None
        if viewed is not None and groups.position[node] < groups.position[viewed[-1]]:
            if groups.read_outside(groups.root[node.outputs[0]], viewed):
                waiting.setdefault(viewed[-1], []).append(node)
            continue
        if group is None or len(group) == 1:
            emitted.append(node)
        elif node is group[-1]:
            emitted += _fused(group, groups)
            emitted += waiting.pop(node, [])
    graph.nodes = emitted


class _Groups:
    """The groups while they grow. `of` maps a member to its group, in the order of execution."""

    def __init__(self, graph: Graph) -> None:
        self.of: dict[Node, list[Node]] = {}
        self.root: dict[Value, Value] = {}  # a view of a member's result → that result
        self.device = graph.device
        self.position = {node: i for i, node in enumerate(graph.nodes)}
        self.readers: dict[Value, list[Node]] = {}  # of a result, through such views
        # What only depends on locations that stay is computed once for many runs (`hoist`): not beside the rest.
        written = graph.written
        self.fixed = {v for variable, v in graph.locations if id(variable) not in written}
        for node in graph.nodes:
            if all(v is None or v.constant is not None or v in self.fixed for v in node.inputs):
                self.fixed.update(node.outputs)
            for v in node.reads:
                if node.op.name in _VIEWS:
                    self.root[node.outputs[0]] = self.root.get(v, v)
                else:
                    self.readers.setdefault(self.root.get(v, v), []).append(node)
        self.wanted = {self.root.get(v, v) for v in graph.results}

    def producer(self, value: Value | None) -> Any:
        return None if value is None else self.root.get(value, value).node

    def visit(self, number: int, node: Node) -> None:
        dtype = _compute_dtype(node)
        if dtype is None or (dtypes.is_half(dtype) and self.device == "cpu"):
            return
        group = self.of[node] = [node]
        for v in node.inputs:
            other = self.of.get(self.producer(v))
            if other is not None and other is not group and self._may_join(number, other, group):
                group = sorted({*other, *group}, key=self.position.__getitem__)
                self.of.update(dict.fromkeys(group, group))

    def _may_join(self, number: int, other: list[Node], group: list[Node]) -> bool:
        a, b = other[0].outputs[0], group[-1].outputs[0]
        if a.meta.size != b.meta.size or (a in self.fixed) != (b in self.fixed):
            return False
        members = {*other, *group}
        if _compute_dtype(other[0]) != _compute_dtype(group[-1]) or len(members) > MAX_MEMBERS:
            return False
        if common_shape({m.outputs[0].shape for m in members}) is None:
            return False
        readers = (reader for m in other for reader in self.readers.get(m.outputs[0], []))
        if any(self.position[reader] < number and reader not in members for reader in readers):
            return False
        inputs = {v for m in members for v in m.inputs if self.producer(v) not in members}
        return len(inputs) + len(self.results(members)) <= MAX_ARRAYS

    def results(self, members: Any) -> list[Value]:
        """The values of a group that somebody else reads, or that the program gives."""
        return [m.outputs[0] for m in members if self.read_outside(m.outputs[0], members)]

    def read_outside(self, value: Value, members: Any) -> bool:
        return value in self.wanted or any(reader not in members for reader in self.readers.get(value, []))


def _compute_dtype(node: Node) -> dtypes.DType | None:
    """The floating dtype of an op that a group may take (16 bits on a GPU, where they are kept in float32), else None.

    All its values have that dtype or are bool, and one input at least has it, so that numbers in the expression are
    computed with in that dtype.
    """
    if _expression(node) is None or len(node.outputs) != 1 or node.outputs[0].meta.size == 0:
        return None
    found = {v.dtype for v in (*node.inputs, *node.outputs) if v is not None} - {dtypes.bool_}
    if len(found) != 1 or not dtypes.is_float(next(iter(found))):
        return None
    (dtype,) = found
    return dtype if node.op.name == "cast" or any(v is not None and v.dtype == dtype for v in node.inputs) else None


def _expression(node: Node) -> str | None:
    if node.op.name == "cast" and node.inputs[0] is not None and node.inputs[0].dtype == dtypes.bool_:
        return "number(x)"
    return node.op.expression


# -- shapes --------------------------------------------------------------------------------------------------


def common_shape(shapes: set[tuple[int, ...]]) -> tuple[int, ...] | None:
    """The coarsest shape whose axes split those of all `shapes` (of equal size), or None: (6, 4) and (4, 6) have
    none, (40, 24, 8) and (960, 8) have the first."""
    if len(shapes) == 1:
        return next(iter(shapes))
    cuts = sorted({math.prod(shape[i:]) for shape in shapes for i in range(len(shape) + 1)})
    if any(b % a for a, b in itertools.pairwise(cuts)):
        return None
    return tuple(b // a for a, b in itertools.pairwise(cuts))[::-1]


def split_shape(shape: tuple[int, ...], result: tuple[int, ...], common: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that an input of `shape`, broadcast to `result`, has beside values of shape `common`."""
    if result == common:
        return shape
    parts: list[int] = []
    axes = list(common)
    for own, whole in zip(reversed((1,) * (len(result) - len(shape)) + shape), reversed(result), strict=True):
        while whole > 1:
            axis = axes.pop()
            whole //= axis
            parts.append(axis if own > 1 else 1)
    return tuple(reversed(parts))


# -- emitting ------------------------------------------------------------------------------------------------


def _fused(group: list[Node], groups: _Groups) -> Iterator[Node]:
    """The nodes that replace a group: views of inputs, the fused op, views of results."""
    common = common_shape({m.outputs[0].shape for m in group})
    assert common is not None
    results = groups.results(group)
    builder = _Builder(groups, common)
    expression = builder.expression(group, results)
    asked = next((m.scope for m in reversed(group) if m.scope), ""), group[-1].line
    inputs: list[Value | None] = []
    for value, shape in builder.inputs:
        if value.shape != shape:
            view = Node(OPS["reshape"], [value], {"shape": shape}, *asked).give([Value(Meta(shape, value.dtype))])
            yield view
            value = view.outputs[0]
        inputs.append(value)
    op, attrs = fused_elementwise(expression, len(inputs)), {"shape": common, "expression": expression}
    made = [v if v.shape == common else Value(Meta(common, v.dtype)) for v in results]
    yield Node(op, inputs, attrs, *asked).give(made)
    for value, wide in zip(results, made, strict=True):
        if value is not wide:
            yield Node(OPS["reshape"], [wide], {"shape": value.shape}, *asked).give([value])


class _Builder(ast.NodeTransformer):
    """Composes the expression of a group. `inputs` numbers its (value, shape beside the group's common shape)."""

    def __init__(self, groups: _Groups, common: tuple[int, ...]) -> None:
        self.groups = groups
        self.common = common
        self.inputs: dict[tuple[Value, tuple[int, ...]], int] = {}
        self.names: dict[Value, str] = {}
        self.scope: dict[str, ast.expr] = {}

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.scope.get(node.id, node)

    def expression(self, group: list[Node], results: list[Value]) -> str:
        statements: list[str] = []
        for member in group:
            text = _expression(member)
            assert text is not None
            self.scope = self._arguments(member)
            for statement in ast.parse(text).body:
                name = f"t{len(statements)}"
                assert isinstance(statement, (ast.Assign, ast.Expr))
                statements.append(f"{name} = {ast.unparse(self.visit(statement.value))}")
                if isinstance(statement, ast.Assign):
                    assert isinstance(statement.targets[0], ast.Name)
                    self.scope[statement.targets[0].id] = ast.Name(name)
                else:
                    self.names[member.outputs[0]] = name
        return "; ".join([*statements, ", ".join(self.names[v] for v in results)])

    def _arguments(self, member: Node) -> dict[str, ast.expr]:
        dtype = _compute_dtype(member)
        varying = any(v is not None and v.dtype == dtype and _number(v) is None for v in member.inputs)
        found: dict[str, ast.expr] = {}
        for param, value in zip(member.op.params, member.inputs, strict=True):
            assert value is not None
            number = _number(value) if varying else None
            root = self.groups.root.get(value, value)
            if number is not None:
                found[param] = ast.Constant(number)
            elif root in self.names:
                found[param] = ast.Name(self.names[root])
            else:
                entry = (value, split_shape(value.shape, member.outputs[0].shape, self.common))
                found[param] = ast.Name(f"x{self.inputs.setdefault(entry, len(self.inputs))}")
        return found


def _number(value: Value) -> float | None:
    """The content of a floating constant of one repeated finite number."""
    if not dtypes.is_float(value.dtype):
        return None
    found: Any = None
    if value.constant is not None and value.constant.size == 1:
        found = value.constant.reshape(())[()]
    elif value.node is not None and value.node.op.name == "full":
        found = value.dtype.type(value.node.attrs["value"])
    return float(found) if found is not None and np.isfinite(found) else None
