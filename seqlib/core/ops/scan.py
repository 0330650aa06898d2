"""scan: a loop over the leading axis, the one control-flow op. T is the number of steps."""

from collections.abc import Callable
from typing import Any

from seqlib.core import tree
from seqlib.core.op import dtype_error, shape_error
from seqlib.core.ops.join import stack, unstack
from seqlib.core.tensor import as_tensor


def scan(
    body: Callable[[Any, Any], tuple[Any, Any]],
    carry: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """`carry, y = body(carry, x)` for each of T steps → the last carry, and the ys stacked on a new leading axis.

    `carry`, `xs` and `y` are trees (dicts, lists, tuples, dataclasses) of tensors. Step t gets x = xs[t]: every
    tensor of `xs` has a leading axis of T. Without `xs` the body gets None, and `length` says T. With `reverse` the
    steps go from T-1 down to 0; y of step t is at place t all the same. A body that has no y returns None for it.

    The loop is unrolled: eager it is a Python loop, in a compiled function the body's ops are recorded T times, so
    gradients of any order go through it as through any other ops. What does not depend on the carry is best computed
    before, for all steps at once. Raises ShapeError when the tensors of `xs` (and `length`) don't agree on T, for
    T = 0, and when the carry or y changes its structure or shape from step to step, DtypeError for its dtype.
    """
    leaves, structure = tree.flatten(xs) if xs is not None else ([], tree.LEAF)
    steps = _steps([as_tensor(leaf).shape for leaf in leaves], length)
    columns = [unstack(leaf) for leaf in leaves]
    carry = tree.map_leaves(as_tensor, carry)
    ys: list[list[Any]] = [[]] * steps
    form = None
    for t in reversed(range(steps)) if reverse else range(steps):
        x = None if xs is None else tree.unflatten(structure, [column[t] for column in columns])
        result = body(carry, x)
        if not isinstance(result, tuple) or len(result) != 2:
            raise shape_error("scan", "body", "a function that returns (carry, y)", type(result).__name__)
        after, y = tree.map_leaves(as_tensor, result[0]), result[1]
        _compare(carry, after, f"the carry that step {t} returned")
        carry = after
        ys[t], found = ([], None) if y is None else tree.flatten(y)
        if form is not None and found != form[0]:
            raise shape_error("scan", f"y of step {t}", f"of the first step's structure {form[0]}", found)
        form = (found,)
    assert form is not None
    if form[0] is None:
        return carry, None
    return carry, tree.unflatten(form[0], [stack(column) for column in zip(*ys, strict=True)])


def _steps(shapes: list[tuple[int, ...]], length: int | None) -> int:
    """T, by the leading axes and the length given."""
    if any(not shape for shape in shapes):
        raise shape_error("scan", "xs", "of at least one dimension each, the steps first", shapes)
    found = {shape[0] for shape in shapes} | (set() if length is None else {length})
    if len(found) != 1 or min(found) < 1:
        got = f"{shapes} and length {length}"
        raise shape_error("scan", "xs", "of one leading axis of at least 1 step, or `length` given", got)
    return found.pop()


def _compare(before: Any, after: Any, what: str) -> None:
    """The carry keeps its form: a loop whose state changes shape is a mistake nearly always."""
    olds, old_form = tree.flatten(before)
    news, new_form = tree.flatten(after)
    if old_form != new_form:
        raise shape_error("scan", what, f"of the structure {old_form}", new_form)
    for i, (old, new) in enumerate(zip(olds, news, strict=True)):
        if old.shape != new.shape:
            raise shape_error("scan", f"{what}, tensor {i}", f"of shape {old.shape}", new.shape)
        if old.dtype != new.dtype:
            raise dtype_error("scan", f"{what}, tensor {i}", str(old.dtype), new.dtype)
