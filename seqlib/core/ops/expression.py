"""Elementwise expressions: one string from which every backend's code is made.

An expression uses the input names, numbers, `+ - * / **`, unary minus and the functions of FUNCTIONS. It may name
what it uses more than once, and have several results: `"s = 1.0 / (1.0 + exp(-x)); x * s, s"`. `compile_expression`
turns it into steps; `expression_numpy` runs them as ufuncs over blocks that stay in the cache, `expression_cpu` as
compiled loops. Both compute every step in IEEE arithmetic in the same order, so they give the same values.
"""

import ast
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, reduce
from typing import Any, NamedTuple

from seqlib.core import dtypes
from seqlib.core.op import Attrs, Metas

FUNCTIONS = {
    **dict.fromkeys(("exp", "log", "sqrt", "tanh", "sin", "cos", "erf", "abs", "sign", "floor", "number"), 1),
    **dict.fromkeys(("maximum", "minimum", "power", "add", "subtract", "multiply", "divide"), 2),
    **dict.fromkeys(("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"), 2),
    **dict.fromkeys(("logical_and", "logical_or"), 2),
    **dict.fromkeys(("logical_not", "isnan", "isinf", "isfinite", "negative"), 1),
    "where": 3,
}
"""Names and numbers of arguments. `number` makes a bool 0 or 1 in the dtype that is computed in."""
BOOLEAN = frozenset(
    "equal not_equal less less_equal greater greater_equal logical_and logical_or logical_not isnan isinf "
    "isfinite".split()
)
"""Those that give bool."""
_BINARY: dict[type[ast.operator], str] = {
    ast.Add: "add",
    ast.Sub: "subtract",
    ast.Mult: "multiply",
    ast.Div: "divide",
    ast.Pow: "power",
}


class Step(NamedTuple):
    """One call: `fn(*args)` into `target`. An argument is a number, ("in", i) or ("at", s); storages 0 … are the
    outputs themselves, the rest temporaries.
    """

    fn: str
    args: tuple[Any, ...]
    target: int


class Plan(NamedTuple):
    """The steps of an expression, in order."""

    steps: tuple[Step, ...]
    outputs: int
    storages: int
    masks: frozenset[int]  # storages of bool
    overlap: tuple[tuple[int, int], ...]  # (output, input) that may share their storage


class _Builder:
    """Collects the calls of an expression, each distinct one once."""

    def __init__(self, expression: str, params: Sequence[str]) -> None:
        self.expression = expression
        self.params = params
        self.names: dict[str, Any] = {}
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.known: dict[Any, int] = {}

    def refuse(self, node: ast.AST) -> ValueError:
        return ValueError(f"expression {self.expression!r}: {ast.dump(node)} is not allowed")

    def run(self) -> list[int]:
        """The numbers of the calls that are results."""
        body = ast.parse(self.expression).body
        for statement in body[:-1]:
            if not (isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)):
                raise self.refuse(statement)
            self.names[statement.targets[0].id] = self.visit(statement.value)
        last = body[-1]
        if not isinstance(last, ast.Expr):
            raise self.refuse(last)
        parts = last.value.elts if isinstance(last.value, ast.Tuple) else [last.value]
        results = [self.visit(part) for part in parts]
        if any(not isinstance(r, tuple) or r[0] != "call" for r in results) or len(set(results)) < len(results):
            raise ValueError(f"expression {self.expression!r}: a result is computed by nothing, or given twice")
        return [r[1] for r in results]

    def visit(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Name):
            if node.id in self.names:
                return self.names[node.id]
            if node.id in self.params:
                return ("in", self.params.index(node.id))
            raise self.refuse(node)
        if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
            return node.value
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            inner = self.visit(node.operand)
            return -inner if isinstance(inner, (int, float)) else self.call("negative", (inner,))
        if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
            return self.call(_BINARY[type(node.op)], (self.visit(node.left), self.visit(node.right)))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS:
            return self.call(node.func.id, tuple(self.visit(a) for a in node.args))
        raise self.refuse(node)

    def call(self, fn: str, args: tuple[Any, ...]) -> Any:
        if len(args) != FUNCTIONS[fn]:
            raise ValueError(f"expression {self.expression!r}: {fn} takes {FUNCTIONS[fn]} arguments")
        key = (fn, tuple(a if isinstance(a, tuple) else repr(a) for a in args))
        if key not in self.known:
            self.known[key] = len(self.calls)
            self.calls.append((fn, args))
        return ("call", self.known[key])


@lru_cache(maxsize=1024)
def compile_expression(expression: str, params: tuple[str, ...]) -> Plan:
    """The steps of an expression. Raises ValueError for a construct that expressions do not have."""
    builder = _Builder(expression, params)
    results = builder.run()
    calls, slot = builder.calls, {call: o for o, call in enumerate(results)}
    last_use = {a[1]: k for k, (_, args) in enumerate(calls) for a in args if _is_call(a)}
    last_read = max((k for k, (_, args) in enumerate(calls) if any(_is_input(a) for a in args)), default=0)
    place: dict[int, int] = {}
    masks = {o for o, call in enumerate(results) if calls[call][0] in BOOLEAN}
    free: list[int] = []  # storages that hold nothing
    count = len(results)
    lent = set(range(count))  # outputs that are not written yet and hold nothing else
    steps: list[Step] = []
    for k, (fn, args) in enumerate(calls):
        dying = [place[a[1]] for a in args if _is_call(a) and last_use[a[1]] == k and a[1] not in slot]

        def serves(s: int, k: int = k, fn: str = fn) -> bool:
            """May call k's result lie in storage s until it is read for the last time?"""
            if (s in masks) != (fn in BOOLEAN):
                return False
            # An output takes what is underway once no input is read any more, so that it may lie where one lies.
            return s >= len(results) or (fn not in BOOLEAN and k >= last_read and last_use[k] <= results[s])

        if k in slot:
            target = slot[k]
        else:
            target = next(filter(serves, [*dying, *sorted(lent), *free]), count)
            if target == count:
                count += 1
                if fn in BOOLEAN:
                    masks.add(target)
        place[k] = target
        steps.append(Step(fn, tuple(("at", place[a[1]]) if _is_call(a) else a for a in args), target))
        lent.discard(target)
        free = [s for s in free if s != target]
        for s in dict.fromkeys(dying):
            if s != target:
                free.append(s) if s >= len(results) else lent.add(s)
    return Plan(tuple(steps), len(results), count, frozenset(masks), tuple(_overlap(steps, params, len(results))))


def _is_call(argument: Any) -> bool:
    return isinstance(argument, tuple) and argument[0] == "call"


def _is_input(argument: Any) -> bool:
    return isinstance(argument, tuple) and argument[0] == "in"


def _overlap(steps: Sequence[Step], params: Sequence[str], outputs: int) -> Iterator[tuple[int, int]]:
    for o in range(outputs):
        first_write = next(k for k, s in enumerate(steps) if s.target == o)
        for i in range(len(params)):
            if all(k <= first_write for k, s in enumerate(steps) if ("in", i) in s.args):
                yield o, i


def compute_dtype(ins: Sequence[Any], outs: Sequence[Any]) -> Any:
    """The dtype of the steps: the widest floating input's, else the result's, else what the inputs promote to."""
    floats = [a.dtype for a in ins if a.dtype.kind == "f"]
    if floats:
        return max(floats, key=lambda d: d.itemsize)
    numbers = [o.dtype for o in outs if o is not None and o.dtype != dtypes.bool_]
    return numbers[0] if numbers else reduce(dtypes.promote, (a.dtype for a in ins))


LARGE = 1 << 15
"""Elements from which a compiled loop is worth its call."""
_SLOW = frozenset(("maximum", "minimum", "where", "sign", "divide"))
_NUMPYS = frozenset(("exp", "log", "tanh", "sin", "cos", "erf", "power"))
"""What loops leave to NumPy: its vectorised functions are as fast, and then values do not depend on who runs."""


def loop_when(plan: Plan) -> Callable[[Metas, Attrs], bool]:
    """The `when` of a compiled loop: float32 (with perhaps bool), large, and better done in loops than by ufuncs,
    which need a pass over the cache for each step."""
    turns = 1 + sum(s.fn in _NUMPYS for s in plan.steps)
    gain = sum(2 if s.fn in _SLOW else 1 for s in plan.steps if s.fn not in _NUMPYS)

    def when(metas: Metas, attrs: Attrs) -> bool:
        found = {m.dtype for m in metas if m is not None}
        size = max((m.size for m in metas if m is not None), default=0)
        worth = gain > turns and size >= LARGE * turns
        return worth and dtypes.float32 in found and found <= {dtypes.float32, dtypes.bool_}

    return when
