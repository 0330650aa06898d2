"""Elementwise ops: arithmetic, comparison, logic and the common functions. Each is one expression string."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from seqlib.core import dtypes
from seqlib.core.op import Meta, Op, VjpContext, broadcast_shapes, dtype_error, register
from seqlib.core.ops.expression import compile_expression
from seqlib.core.ops.fused_elementwise import add_kernels, ufuncs
from seqlib.core.ops.reduce import sum_to
from seqlib.core.tensor import Tensor, as_tensor

Grad = Callable[..., Sequence[Any]]


_KINDS = {
    "number": "the result has the promoted dtype. Raises ShapeError, and DtypeError when all are bool",
    "float": "the result is floating, float32 for integers and bool. Raises ShapeError",
    "bool": "the result is bool. Raises ShapeError",
}
"""What the docstring of an op says about its result."""


def _result_dtype(name: str, kind: str, metas: Sequence[Meta]) -> dtypes.DType:
    found = metas[0].dtype
    for m in metas[1:]:
        found = dtypes.promote(found, m.dtype)
    if kind == "bool":
        return dtypes.bool_
    if kind == "float":
        return found if dtypes.is_float(found) else dtypes.float32
    if found == dtypes.bool_:
        raise dtype_error(name, "arguments", "numbers, not all bool", found)
    return found


def elementwise(
    name: str,
    params: str,
    expression: str,
    *,
    kind: str = "number",
    grad: Grad | None = None,
    saves: str = "",
    doc: str = "",
) -> Op:
    """Declare an elementwise op with broadcasting.

    `kind`: "number" keeps the promoted dtype, "float" turns integers into float32, "bool" gives bool.
    `grad(ctx, g)` returns a gradient for each input in the broadcast shape (it is summed back to the
    input's shape), None where there is none.
    """
    names = tuple(params.split())
    plan = compile_expression(expression, names)

    def infer(*metas: Meta) -> list[Meta]:
        return [Meta(broadcast_shapes(name, *(m.shape for m in metas)), _result_dtype(name, kind, metas))]

    def reference(xp: Any, *arrays: Any) -> Any:
        meta = infer(*(Meta(a.shape, a.dtype) for a in arrays))[0]
        out = xp.empty(meta.shape, meta.dtype)
        ufuncs(plan)([out], arrays, ())
        return out

    reference.__doc__ = doc or f"{name}: {expression}, elementwise with broadcasting; {_KINDS[kind]}."
    op = register(Op(name, reference, names, {}, saves=frozenset(saves.split()), differentiable=grad is not None))
    op.expression, op.infer_rule = expression, infer
    add_kernels(op, plan)
    if grad is not None:

        def vjp(ctx: VjpContext, g: Tensor) -> list[Tensor | None]:
            grads = grad(ctx, g)
            return [
                None if d is None or not needed else sum_to(d, x.shape)
                for d, x, needed in zip(grads, ctx.inputs, ctx.needs, strict=True)
            ]

        op.vjp(vjp)
    return op


add = elementwise("add", "a b", "a + b", grad=lambda ctx, g: (g, g))
sub = elementwise("sub", "a b", "a - b", grad=lambda ctx, g: (g, -g))
mul = elementwise("mul", "a b", "a * b", saves="a b", grad=lambda ctx, g: (g * ctx.inputs[1], g * ctx.inputs[0]))
div = elementwise(
    "div",
    "a b",
    "a / b",
    kind="float",
    saves="b y",
    grad=lambda ctx, g: (g / ctx.inputs[1], -g * ctx.outputs[0] / ctx.inputs[1]),
)
neg = elementwise("neg", "x", "-x", grad=lambda ctx, g: (-g,))
square = elementwise("square", "x", "x * x", saves="x", grad=lambda ctx, g: (g * ctx.inputs[0] * 2.0,))
power = elementwise(
    "power",
    "a b",
    "a ** b",
    kind="float",
    saves="a b y",
    grad=lambda ctx, g: (
        g * ctx.inputs[1] * power(ctx.inputs[0], ctx.inputs[1] - 1.0) if ctx.needs[0] else None,
        # d/db a^b = a^b log a, and 0 where a is 0
        g * ctx.outputs[0] * log(where(equal(ctx.inputs[0], 0.0), 1.0, ctx.inputs[0])) if ctx.needs[1] else None,
    ),
)


def _by_choice(ctx: VjpContext, g: Tensor) -> Sequence[Any]:
    # A tie sends half of the gradient each way, so that the result does not depend on the order of the arguments.
    a, b, y = ctx.inputs[0], ctx.inputs[1], ctx.outputs[0]
    both = where(equal(a, b), 0.5, 1.0)
    return where(equal(a, y), g * both, 0.0), where(equal(b, y), g * both, 0.0)


maximum = elementwise("maximum", "a b", "maximum(a, b)", saves="a b y", grad=_by_choice)
minimum = elementwise("minimum", "a b", "minimum(a, b)", saves="a b y", grad=_by_choice)


def _clip_grad(ctx: VjpContext, g: Tensor) -> Sequence[Any]:
    x, low, high = ctx.inputs
    raised = maximum(x, low)
    inside, above = less_equal(raised, high), less(x, low)
    return (
        where(logical_and(inside, logical_not(above)), g, 0.0),
        where(logical_and(inside, above), g, 0.0),
        where(inside, 0.0, g),
    )


clip_to = elementwise("clip", "x low high", "minimum(maximum(x, low), high)", saves="x low high", grad=_clip_grad)


def clip(x: Any, a_min: Any = None, a_max: Any = None) -> Tensor:
    """`x` limited to [a_min, a_max], elementwise with broadcasting; None leaves a side open, and a_max wins over a
    larger a_min. The result has the promoted dtype. The gradient goes to x where it lies within the bounds, both
    included, else to the bound. Raises ShapeError, and DtypeError when all are bool.
    """
    x = as_tensor(x)
    whole = dtypes.is_int(x.dtype)
    low = a_min if a_min is not None else np.iinfo(x.dtype).min if whole else -float("inf")
    high = a_max if a_max is not None else np.iinfo(x.dtype).max if whole else float("inf")
    return clip_to(x, low, high)


exp = elementwise("exp", "x", "exp(x)", kind="float", saves="y", grad=lambda ctx, g: (g * ctx.outputs[0],))
log = elementwise("log", "x", "log(x)", kind="float", saves="x", grad=lambda ctx, g: (g / ctx.inputs[0],))
sqrt = elementwise("sqrt", "x", "sqrt(x)", kind="float", saves="y", grad=lambda ctx, g: (g * 0.5 / ctx.outputs[0],))
rsqrt = elementwise(
    "rsqrt",
    "x",
    "1.0 / sqrt(x)",
    kind="float",
    saves="y",
    grad=lambda ctx, g: (g * -0.5 * ctx.outputs[0] * ctx.outputs[0] * ctx.outputs[0],),
)
tanh = elementwise(
    "tanh", "x", "tanh(x)", kind="float", saves="y", grad=lambda ctx, g: (g * (1.0 - ctx.outputs[0] * ctx.outputs[0]),)
)
sin = elementwise("sin", "x", "sin(x)", kind="float", saves="x", grad=lambda ctx, g: (g * cos(ctx.inputs[0]),))
cos = elementwise("cos", "x", "cos(x)", kind="float", saves="x", grad=lambda ctx, g: (-g * sin(ctx.inputs[0]),))
erf = elementwise(
    "erf",
    "x",
    "erf(x)",
    kind="float",
    saves="x",
    grad=lambda ctx, g: (g * 1.1283791670955126 * exp(-ctx.inputs[0] * ctx.inputs[0]),),
)
abs_ = elementwise("abs", "x", "abs(x)", saves="x", grad=lambda ctx, g: (g * sign(ctx.inputs[0]),))
sign = elementwise("sign", "x", "sign(x)")
floor = elementwise("floor", "x", "floor(x)", kind="float")

equal = elementwise("equal", "a b", "equal(a, b)", kind="bool")
not_equal = elementwise("not_equal", "a b", "not_equal(a, b)", kind="bool")
less = elementwise("less", "a b", "less(a, b)", kind="bool")
less_equal = elementwise("less_equal", "a b", "less_equal(a, b)", kind="bool")
greater = elementwise("greater", "a b", "greater(a, b)", kind="bool")
greater_equal = elementwise("greater_equal", "a b", "greater_equal(a, b)", kind="bool")
logical_and = elementwise("logical_and", "a b", "logical_and(a, b)", kind="bool")
logical_or = elementwise("logical_or", "a b", "logical_or(a, b)", kind="bool")
logical_not = elementwise("logical_not", "x", "logical_not(x)", kind="bool")
isnan = elementwise("isnan", "x", "isnan(x)", kind="bool")
isinf = elementwise("isinf", "x", "isinf(x)", kind="bool")
isfinite = elementwise("isfinite", "x", "isfinite(x)", kind="bool")

# 1 / (1 + exp(-x)) overflows to 1 / inf = 0 for very negative x, which is the right limit.
sigmoid = elementwise(
    "sigmoid",
    "x",
    "1.0 / (1.0 + exp(-x))",
    kind="float",
    saves="y",
    grad=lambda ctx, g: (g * ctx.outputs[0] * (1.0 - ctx.outputs[0]),),
)


def _silu_grad(ctx: VjpContext, g: Tensor) -> Sequence[Any]:
    x = ctx.inputs[0]
    s = sigmoid(x)
    return (g * s * (1.0 + x * (1.0 - s)),)


silu = elementwise("silu", "x", "x / (1.0 + exp(-x))", kind="float", saves="x", grad=_silu_grad)

where = elementwise(
    "where",
    "condition a b",
    "where(condition, a, b)",
    saves="condition",
    grad=lambda ctx, g: (None, where(ctx.inputs[0], g, 0.0), where(ctx.inputs[0], 0.0, g)),
    doc="a where the bool `condition` holds, else b, elementwise with broadcasting; the result has the promoted dtype "
    "of a and b. Raises ShapeError, and DtypeError for a condition that is not bool.",
)


@where.infer
def _(condition: Meta, a: Meta, b: Meta) -> list[Meta]:
    if condition.dtype != dtypes.bool_:
        raise dtype_error("where", "condition", "bool", condition.dtype)
    return [Meta(broadcast_shapes("where", condition.shape, a.shape, b.shape), dtypes.promote(a.dtype, b.dtype))]


# The gradient of relu by its output's sign, in one pass. It is 0 at 0.
relu_bwd = elementwise(
    "relu_bwd",
    "g y",
    "where(greater(y, 0.0), g, 0.0)",
    saves="y",
    grad=lambda ctx, h: (relu_bwd(h, ctx.inputs[1]), None),
)
relu = elementwise("relu", "x", "maximum(x, 0.0)", saves="y", grad=lambda ctx, g: (relu_bwd(g, ctx.outputs[0]),))


def _gelu_grad(ctx: VjpContext, g: Tensor) -> Sequence[Any]:
    x = ctx.inputs[0]
    density = exp(x * x * -0.5) * 0.3989422804014327
    return (g * (0.5 * (1.0 + erf(x * 0.7071067811865476)) + x * density),)


def _gelu_tanh_grad(ctx: VjpContext, g: Tensor) -> Sequence[Any]:
    x = ctx.inputs[0]
    t = tanh(0.7978845608028654 * (x + 0.044715 * x * x * x))
    slope = 0.7978845608028654 * (1.0 + 0.134145 * x * x)
    return (g * (0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * slope),)


gelu_erf = elementwise(
    "gelu_erf", "x", "0.5 * x * (1.0 + erf(x * 0.7071067811865476))", kind="float", saves="x", grad=_gelu_grad
)
gelu_tanh = elementwise(
    "gelu_tanh",
    "x",
    "0.5 * x * (1.0 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))",
    kind="float",
    saves="x",
    grad=_gelu_tanh_grad,
)


def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """Gaussian error linear unit (Hendrycks and Gimpel 2016): x Φ(x); `approximate="tanh"` gives their tanh
    form. The result is floating, float32 for integers. Raises ValueError for another `approximate`.
    """
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: approximate should be 'none' or 'tanh', got {approximate!r}")
    return gelu_tanh(x) if approximate == "tanh" else gelu_erf(x)
