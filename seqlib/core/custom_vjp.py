"""`custom_vjp`: a function with a gradient written by hand."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, cast

from seqlib.core import dtypes, tree
from seqlib.core.op import VjpContext, as_tuple, metas_of, shape_error
from seqlib.core.rng import Draws
from seqlib.core.tape import GradientError, Node, call_op, edges_of, filled, grad_enabled, no_grad
from seqlib.core.tensor import Tensor, Variable, as_tensor


class CustomVjp:
    """A function of tensors with a gradient of its own. Made by `custom_vjp`."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        functools.update_wrapper(self, fn)
        self._fn = fn
        self._name: str = getattr(fn, "__name__", type(fn).__name__)
        self._rules: tuple[Callable[..., Any], Callable[..., Any]] | None = None

    def defvjp(self, forward: Callable[..., Any], backward: Callable[..., Any]) -> "CustomVjp":
        """Set the rule: `forward(*tensors, **static)` returns (what the function returns, residuals),
        `backward(residuals, *cotangents)` one gradient for each tensor (None: no gradient).
        """
        self._rules = forward, backward
        return self

    def __call__(self, *args: Any, **static: Any) -> Any:
        if self._rules is None:
            raise GradientError(f"{self._name}: it has no gradient yet; call {self._name}.defvjp(forward, backward)")
        tensors = [None if a is None else as_tensor(a) for a in args]
        if not grad_enabled() or all(t is None or t.node is None for t in tensors):
            return self._fn(*tensors, **static)
        forward, backward = self._rules
        draws = Draws()
        with no_grad(), draws.recording():
            result, residuals = self._pair(forward(*tensors, **static))
        outputs = as_tuple(result)
        for i, t in enumerate(outputs):
            if not isinstance(t, Tensor):
                raise GradientError(f"{self._name}: output {i} of forward is a {type(t).__name__}, not a tensor")
        kept = [t for t in (*tensors, *tree.flatten(residuals)[0]) if isinstance(t, Variable)]
        residuals = tree.map_leaves(lambda t: Tensor(t.data) if isinstance(t, Tensor) else t, residuals)

        def rule(ctx: VjpContext, *cotangents: Tensor | None) -> Sequence[Tensor | None]:
            saved = residuals
            if grad_enabled():  # a second gradient may follow: what was kept has to hang on the inputs
                with draws.replaying():
                    saved = self._pair(forward(*ctx.inputs, **static))[1]
            pairs = zip(cotangents, ctx.outputs, strict=True)
            given = [filled(m, 0.0) if c is None and dtypes.is_float(m.dtype) else c for c, m in pairs]
            return self._checked(backward(saved, *given), ctx.inputs)

        op = call_op(self._name, len(outputs))
        op.vjp_rule = rule
        node = Node(
            op,
            tuple(None if t is None else t.data for t in tensors),
            tuple(metas_of(outputs)),
            {},
            edges_of(tensors),
            tuple((v, v.version) for v in kept),
        )
        made = node.tensors([t.data for t in outputs])
        return made if isinstance(result, tuple) else made[0]

    def _pair(self, result: Any) -> tuple[Any, Any]:
        pair = as_tuple(result)
        if len(pair) != 2:
            raise GradientError(f"{self._name}: forward should return (outputs, residuals), got {result!r}")
        return pair[0], pair[1]

    def _checked(self, result: Any, inputs: Sequence[Any]) -> Sequence[Tensor | None]:
        grads = as_tuple(tuple(cast("list[Any]", result)) if isinstance(result, list) else result)
        if len(grads) != len(inputs):
            raise GradientError(
                f"{self._name}: backward should return {len(inputs)} gradients, one for each tensor, got {len(grads)}"
            )
        found = [None if g is None else as_tensor(g) for g in grads]
        for i, (g, x) in enumerate(zip(found, inputs, strict=True)):
            if g is not None and (x is None or g.shape != x.shape):
                expected = "None, as the input is" if x is None else f"of shape {x.shape}"
                raise shape_error(self._name, f"the gradient of {self._argument(i)}", expected, g.shape)
        return found

    def _argument(self, index: int) -> str:
        names = list(inspect.signature(self._fn).parameters)
        return names[index] if index < len(names) else f"input {index}"


def custom_vjp(fn: Callable[..., Any]) -> CustomVjp:
    """Decorator: `fn(*tensors, **static)`, whose gradient is the rule given by `defvjp(forward, backward)`.

        @seqlib.custom_vjp
        def clipped(x, *, limit):
            return x

        def forward(x, *, limit):
            return x, limit                                    # what it returns, what backward reads

        def backward(limit, g):
            return seqlib.minimum(seqlib.maximum(g, -limit), limit)   # one gradient for each tensor

        clipped.defvjp(forward, backward)

    Positional arguments are tensors (or what makes one, or None), keyword arguments are static. `fn` runs when no
    gradient is wanted, else `forward`, which leaves no trace on the tape. Residuals are a tree of tensors and anything
    else. `backward` gets a cotangent for each output, zeros where an output does not matter and None for one that is
    not floating. All of them are written in seqlib ops, so they work eagerly and inside a compiled function, and a
    second gradient (`create_graph`) differentiates `backward` and, run again on the tape for the purpose, what
    `forward` computed of the residuals. Gradients flow to the positional arguments alone: pass Parameters as such.

    Raises GradientError that names the function for a missing rule or a wrong number of gradients, ShapeError for a
    gradient of another shape than its tensor.
    """
    return CustomVjp(fn)
