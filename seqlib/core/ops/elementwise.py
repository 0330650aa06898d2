"""Elementwise ops: arithmetic, comparison, logic and the common functions. Each is one expression string, and one for
its gradient.
"""

import ast
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from seqlib.core import dtypes
from seqlib.core.op import OPS, Meta, Op, VjpContext, broadcast_shapes, dtype_error, register
from seqlib.core.ops.expression import compile_expression
from seqlib.core.ops.fused_elementwise import add_kernels, ufuncs
from seqlib.core.ops.reduce import sum_to
from seqlib.core.tensor import Tensor, as_tensor

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


def elementwise(name: str, params: str, expression: str, kind: str = "number", *, grad: str = "", doc: str = "") -> Op:
    """Declare an elementwise op with broadcasting.

    `kind`: "number" keeps the promoted dtype, "float" turns integers into float32, "bool" gives bool.
    `grad` is a gradient for each input in the broadcast shape (it is summed back to the input's shape), or None: an
    expression of the inputs, the result `y`, its cotangent `g` and ops by name. What it reads is what the tape keeps.
    """
    names = tuple(params.split())
    plan = compile_expression(expression, names)
    read = {node.id for node in ast.walk(ast.parse(grad)) if isinstance(node, ast.Name)}

    def infer(*metas: Meta) -> list[Meta]:
        return [Meta(broadcast_shapes(name, *(m.shape for m in metas)), _result_dtype(name, kind, metas))]

    def reference(xp: Any, *arrays: Any) -> Any:
        meta = infer(*(Meta(a.shape, a.dtype) for a in arrays))[0]
        out = xp.empty(meta.shape, meta.dtype)
        ufuncs(plan)([out], arrays, ())
        return out

    def vjp(ctx: VjpContext, g: Tensor) -> list[Tensor | None]:
        grads = _gradient(grad, names)(ctx.needs, g, *ctx.inputs, ctx.outputs[0])
        return [None if d is None else sum_to(d, x.shape) for d, x in zip(grads, ctx.inputs, strict=True)]

    reference.__doc__ = doc or f"{name}: {expression}, elementwise with broadcasting; {_KINDS[kind]}."
    op = register(Op(name, reference, names, {}, saves=frozenset(read), differentiable=bool(grad)))
    op.expression = expression
    op.infer(infer)
    add_kernels(op, plan)
    if grad:
        op.vjp(vjp)
    return op


@lru_cache(maxsize=256)
def _gradient(grad: str, params: tuple[str, ...]) -> Callable[..., Sequence[Tensor | None]]:
    """The function of `grad`; an input's gradient is made if it is needed."""
    *named, last = ast.parse(grad).body
    assert isinstance(last, ast.Expr)
    parts = last.value.elts if isinstance(last.value, ast.Tuple) else [last.value]
    wanted = (f"({ast.unparse(part)}) if needs[{i}] else None" for i, part in enumerate(parts))
    lines = [*map(ast.unparse, named), f"return {', '.join(wanted)},"]
    source = f"def gradient(needs, g, {', '.join(params)}, y):\n    " + "\n    ".join(lines)
    namespace: dict[str, Any] = dict(OPS)
    exec(compile(source, __file__, "exec"), namespace)
    return namespace["gradient"]


add = elementwise("add", "a b", "a + b", grad="g, g")
sub = elementwise("sub", "a b", "a - b", grad="g, -g")
mul = elementwise("mul", "a b", "a * b", grad="g * b, g * a")
div = elementwise("div", "a b", "a / b", "float", grad="g / b, -g * y / b")
neg = elementwise("neg", "x", "-x", grad="-g")
square = elementwise("square", "x", "x * x", grad="g * x * 2.0")
# d/db a^b = a^b log a, and 0 where a is 0
_POWER = "g * b * power(a, b - 1.0), g * y * log(where(equal(a, 0.0), 1.0, a))"
power = elementwise("power", "a b", "a ** b", "float", grad=_POWER)

# A tie sends half of the gradient each way, so that the result does not depend on the order of the arguments.
_BY_CHOICE = "h = g * where(equal(a, b), 0.5, 1.0); where(equal(a, y), h, 0.0), where(equal(b, y), h, 0.0)"
maximum = elementwise("maximum", "a b", "maximum(a, b)", grad=_BY_CHOICE)
minimum = elementwise("minimum", "a b", "minimum(a, b)", grad=_BY_CHOICE)
clip_to = elementwise(
    "clip",
    "x low high",
    "minimum(maximum(x, low), high)",
    grad="inside = less_equal(maximum(x, low), high); above = less(x, low);"
    "where(logical_and(inside, logical_not(above)), g, 0.0), where(logical_and(inside, above), g, 0.0),"
    "where(inside, 0.0, g)",
)


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


exp = elementwise("exp", "x", "exp(x)", "float", grad="g * y")
log = elementwise("log", "x", "log(x)", "float", grad="g / x")
sqrt = elementwise("sqrt", "x", "sqrt(x)", "float", grad="g * 0.5 / y")
rsqrt = elementwise("rsqrt", "x", "1.0 / sqrt(x)", "float", grad="g * -0.5 * y * y * y")
tanh = elementwise("tanh", "x", "tanh(x)", "float", grad="g * (1.0 - y * y)")
sin = elementwise("sin", "x", "sin(x)", "float", grad="g * cos(x)")
cos = elementwise("cos", "x", "cos(x)", "float", grad="-g * sin(x)")
erf = elementwise("erf", "x", "erf(x)", "float", grad="g * 1.1283791670955126 * exp(-x * x)")
abs_ = elementwise("abs", "x", "abs(x)", grad="g * sign(x)")
sign = elementwise("sign", "x", "sign(x)")
floor = elementwise("floor", "x", "floor(x)", "float")

equal = elementwise("equal", "a b", "equal(a, b)", "bool")
not_equal = elementwise("not_equal", "a b", "not_equal(a, b)", "bool")
less = elementwise("less", "a b", "less(a, b)", "bool")
less_equal = elementwise("less_equal", "a b", "less_equal(a, b)", "bool")
greater = elementwise("greater", "a b", "greater(a, b)", "bool")
greater_equal = elementwise("greater_equal", "a b", "greater_equal(a, b)", "bool")
logical_and = elementwise("logical_and", "a b", "logical_and(a, b)", "bool")
logical_or = elementwise("logical_or", "a b", "logical_or(a, b)", "bool")
logical_not = elementwise("logical_not", "x", "logical_not(x)", "bool")
isnan = elementwise("isnan", "x", "isnan(x)", "bool")
isinf = elementwise("isinf", "x", "isinf(x)", "bool")
isfinite = elementwise("isfinite", "x", "isfinite(x)", "bool")

# 1 / (1 + exp(-x)) overflows to 1 / inf = 0 for very negative x, which is the right limit.
sigmoid = elementwise("sigmoid", "x", "1.0 / (1.0 + exp(-x))", "float", grad="g * y * (1.0 - y)")
_SILU = "s = sigmoid(x); g * s * (1.0 + x * (1.0 - s))"
silu = elementwise("silu", "x", "x / (1.0 + exp(-x))", "float", grad=_SILU)

where = elementwise(
    "where",
    "condition a b",
    "where(condition, a, b)",
    grad="None, where(condition, g, 0.0), where(condition, 0.0, g)",
    doc="a where the bool `condition` holds, else b, elementwise with broadcasting; the result has the promoted dtype "
    "of a and b. Raises ShapeError, and DtypeError for a condition that is not bool.",
)


@where.infer
def _(condition: Meta, a: Meta, b: Meta) -> list[Meta]:
    if condition.dtype != dtypes.bool_:
        raise dtype_error("where", "condition", "bool", condition.dtype)
    return [Meta(broadcast_shapes("where", condition.shape, a.shape, b.shape), dtypes.promote(a.dtype, b.dtype))]


# The gradient of relu by its output's sign, in one pass. It is 0 at 0.
relu_bwd = elementwise("relu_bwd", "h r", "where(greater(r, 0.0), h, 0.0)", grad="relu_bwd(g, r), None")
relu = elementwise("relu", "x", "maximum(x, 0.0)", grad="relu_bwd(g, y)")

gelu_erf = elementwise(
    "gelu_erf",
    "x",
    "0.5 * x * (1.0 + erf(x * 0.7071067811865476))",
    "float",
    grad="density = exp(x * x * -0.5) * 0.3989422804014327;"
    "g * (0.5 * (1.0 + erf(x * 0.7071067811865476)) + x * density)",
)
# With u(x) the argument of tanh and t = tanh(u): slope (1 + t)/2 + x (1 - t²) u'/2; by x again
# (1 - t²) (u' + x u''/2 - x t u'²).
_U = "t = tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)); u = 0.7978845608028654 * (1.0 + 0.134145 * x * x); "
gelu_tanh_bwd = elementwise(
    "gelu_tanh_bwd",
    "h x",
    _U + "h * (0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * u)",
    "float",
    grad=_U + "gelu_tanh_bwd(g, x), g * h * (1.0 - t * t) * (u + x * (x * 0.10703222443091353 - t * u * u))",
)
gelu_tanh = elementwise(
    "gelu_tanh",
    "x",
    "0.5 * x * (1.0 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))",
    "float",
    grad="gelu_tanh_bwd(g, x)",
)


def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """Gaussian error linear unit (Hendrycks and Gimpel 2016): x Φ(x); `approximate="tanh"` gives their tanh
    form. The result is floating, float32 for integers. Raises ValueError for another `approximate`.
    """
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: approximate should be 'none' or 'tanh', got {approximate!r}")
    return gelu_tanh(x) if approximate == "tanh" else gelu_erf(x)
