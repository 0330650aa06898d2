"""Elementwise expressions: one string from which every backend's code is made.

An expression uses the input names, numbers, `+ - * / **`, unary minus and the functions of FUNCTIONS.
`numpy_kernel` turns it into a destination-passing function: each step is a ufunc with `out=`, run over
blocks that stay in the cache, so a long expression reads and writes main memory once.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from seqlib.core.backends.threads import spread
from seqlib.core.ops.special import erf

_WORTH = 8
"""How much less an element is worth here than in other kernels: two threads that call ufuncs on small blocks
wait for each other's interpreter."""
BLOCK = 1 << 17
"""Elements of a block. Smaller ones would stay in the second-level cache, but a step of a block costs the
interpreter about 15 µs, which is as long as 100,000 elements take."""


def _where(condition: Any, a: Any, b: Any, out: Any) -> None:
    # Through a mask copy: np.where has no `out`. `out` may be the storage of any input.
    if np.may_share_memory(out, condition):
        condition = condition.copy()
    if isinstance(b, float) and b == 0.0 and isinstance(a, np.ndarray) and a.dtype == out.dtype:
        # A masked copy branches at every element, 7 ns where that can't be predicted; bits and a mask take 1 ns.
        bits = np.dtype(f"i{out.itemsize}")
        mask = condition.view(np.int8).astype(bits)
        np.negative(mask, out=mask)
        np.bitwise_and(a.view(bits), mask, out=out.view(bits))
        return
    if isinstance(a, np.ndarray) and np.may_share_memory(out, a):
        np.copyto(out, b, where=np.logical_not(condition))
        return
    np.copyto(out, b)
    np.copyto(out, a, where=condition)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "tanh": np.tanh,
    "sin": np.sin,
    "cos": np.cos,
    "abs": np.absolute,
    "sign": np.sign,
    "floor": np.floor,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "power": np.power,
    "equal": np.equal,
    "not_equal": np.not_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_not": np.logical_not,
    "isnan": np.isnan,
    "isinf": np.isinf,
    "isfinite": np.isfinite,
    "where": _where,
    "erf": erf,
}
_BOOLEAN = {
    FUNCTIONS[name]
    for name in (
        "equal not_equal less less_equal greater greater_equal "
        "logical_and logical_or logical_not isnan isinf isfinite"
    ).split()
}
_BINARY: dict[type[ast.operator], Callable[..., Any]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.Pow: np.power,
}


class Step(NamedTuple):
    """One call: `fn(*args, out=target)`; an argument is a number, ("in", i) or ("tmp", i); temporary 0 is
    the output itself.
    """

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    target: int


class Plan(NamedTuple):
    steps: tuple[Step, ...]
    temporaries: int
    overlap: tuple[int, ...]  # inputs whose storage the output may share


def compile_expression(expression: str, params: Sequence[str]) -> Plan:
    """The steps of an expression. Raises ValueError for a construct that expressions do not have."""
    steps: list[Step] = []
    free: list[int] = []
    masks: set[int] = set()  # temporaries of bool are never shared with numbers
    count = 1

    def temporary() -> int:
        nonlocal count
        if free:
            return free.pop()
        count += 1
        return count - 1

    def visit(node: ast.expr, target: int | None) -> Any:
        nonlocal count
        if isinstance(node, ast.Name):
            return ("in", params.index(node.id))
        if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
            return node.value
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            fn, operands = np.negative, [node.operand]
        elif isinstance(node, ast.BinOp):
            fn, operands = _BINARY[type(node.op)], [node.left, node.right]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            fn, operands = FUNCTIONS[node.func.id], node.args
        else:
            raise ValueError(f"expression {expression!r}: {ast.dump(node)} is not allowed")
        # The first operand that is itself a computation may use this step's target for its result.
        args: list[Any] = []
        lent = target
        for i, operand in enumerate(operands):
            args.append(visit(operand, None if fn is _where and i == 0 else lent))
            if isinstance(args[-1], tuple) and args[-1] == ("tmp", lent):
                lent = None
        used = [a[1] for a in args if isinstance(a, tuple) and a[0] == "tmp" and a[1] not in masks]
        if fn in _BOOLEAN and target is None:
            count += 1
            out = count - 1
            masks.add(out)
        else:
            out = target if target is not None else (used[0] if used else temporary())
        steps.append(Step(fn, tuple(args), out))
        free.extend(t for t in used if t not in (out, 0))
        return ("tmp", out)

    result = visit(ast.parse(expression, mode="eval").body, 0)
    if result[0] == "in":
        raise ValueError(f"expression {expression!r} computes nothing")
    first_write = next(i for i, s in enumerate(steps) if s.target == 0)
    safe = tuple(
        i
        for i in range(len(params))
        if all(k <= first_write for k, s in enumerate(steps) if ("in", i) in s.args)
    )
    return Plan(tuple(steps), count, safe)


def numpy_kernel(plan: Plan) -> Callable[..., None]:
    """The destination-passing kernel of a plan: `kernel([out], ins, scratch)`; `compute` gives the dtype of
    the steps.
    """

    def run(outs: Sequence[Any], ins: Sequence[Any], _: Sequence[Any], **attrs: Any) -> None:
        out = outs[0]
        compute = _compute_dtype(ins, out)
        arrays = [a if a.dtype == compute or a.dtype == np.bool_ else a.astype(compute) for a in ins]
        if out.size <= BLOCK:
            _run(plan, out, arrays, compute)
            return
        if out.flags.c_contiguous and all(
            a.size == 1 or (a.shape == out.shape and a.flags.c_contiguous) for a in arrays
        ):
            flat, flats = out.reshape(-1), [a.reshape(-1) if a.size > 1 else a.reshape(()) for a in arrays]
            rows = BLOCK
        else:
            flat, flats = out, [np.broadcast_to(a, out.shape) for a in arrays]
            rows = max(1, BLOCK * out.shape[0] // out.size)
        spread(_blocks, len(flat), out.size // _WORTH, plan, rows, flat, flats, compute)

    return run


def _blocks(first: int, last: int, plan: Plan, rows: int, out: Any, ins: Sequence[Any], compute: Any) -> None:
    if len(plan.steps) == 1:
        rows = last - first  # nothing to keep in the cache between steps
    for start in range(first, last, rows):
        piece = slice(start, min(start + rows, last))
        _run(plan, out[piece], [a[piece] if a.ndim else a for a in ins], compute)


def _compute_dtype(ins: Sequence[Any], out: Any) -> Any:
    floats = [a.dtype for a in ins if a.dtype.kind == "f"]
    if floats:
        return max(floats, key=lambda d: d.itemsize)
    return out.dtype if out.dtype != np.bool_ else np.result_type(*ins)


def _run(plan: Plan, out: Any, ins: Sequence[Any], compute: Any) -> None:
    temporaries: list[Any] = [out] + [None] * (plan.temporaries - 1)
    for fn, args, target in plan.steps:
        values = [
            (ins[a[1]] if a[0] == "in" else temporaries[a[1]]) if isinstance(a, tuple) else a for a in args
        ]
        if temporaries[target] is None:
            boolean = fn in _BOOLEAN
            temporaries[target] = np.empty(out.shape, np.bool_ if boolean else compute)
        fn(*values, out=temporaries[target])
