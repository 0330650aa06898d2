"""Reductions over axes: sum, mean, max, min, argmax, argmin, any, all. They shadow Python's own names in
this file.
"""

import math
from collections.abc import Sequence
from typing import Any

from seqlib.core import dtypes
from seqlib.core.op import OPS, Meta, Op, VjpContext, normalize_axes, normalize_axis, primitive, shape_error
from seqlib.core.ops import expression
from seqlib.core.ops.shape import _broadcast_to, broadcast_to, cast, reshape
from seqlib.core.tensor import Tensor, as_tensor

Axes = tuple[int, ...]


def reduced_shape(shape: tuple[int, ...], axes: Axes, keepdims: bool) -> tuple[int, ...]:
    if keepdims:
        return tuple(1 if i in axes else d for i, d in enumerate(shape))
    return tuple(d for i, d in enumerate(shape) if i not in axes)


def expand_reduced(g: Tensor, shape: tuple[int, ...], axes: Axes) -> Tensor:
    """A reduction's result (or its gradient) repeated to the input's shape."""
    return broadcast_to(reshape(g, reduced_shape(shape, axes, True)), shape)


def _result(op: Op, x: Meta, axes: Axes, keepdims: bool, dtype: dtypes.DType) -> list[Meta]:
    """The shape rule of what chooses from elements."""
    result = Meta(reduced_shape(x.shape, axes, keepdims), dtype)
    if result.size and not x.size:
        raise shape_error(op.name, "x", f"non-empty along axis {', '.join(map(str, axes))}", x.shape)
    return [result]


def over(op: Op, x: Any, axis: Any, keepdims: bool) -> Tensor:
    """A reduction by `op` over `axis`: an int, several, or None for all."""
    x = as_tensor(x)
    return op(x, axis=normalize_axes(op.name, axis, x.ndim), keepdims=bool(keepdims))


# -- sum and mean ----------------------------------------------------------------------------------


def summed_dtype(dtype: dtypes.DType) -> dtypes.DType:
    """What a sum of `dtype` is made in: bool is counted as int32."""
    return dtypes.int32 if dtype == dtypes.bool_ else dtype


@primitive(saves="")
def _sum(xp: Any, x: Any, *, axis: Axes, keepdims: bool, wide: bool = False) -> Any:
    return xp.sum(x, axis=axis, keepdims=keepdims, dtype=summed_dtype(x.dtype))


@_sum.infer
def _(x: Meta, *, axis: Axes, keepdims: bool, wide: bool) -> list[Meta]:
    return [Meta(reduced_shape(x.shape, axis, keepdims), (dtypes.sums if wide else summed_dtype)(x.dtype))]


_sum.cpu("reduce_numpy:sum", strided=True)
_sum.cpu(
    "reduce_cpu:sum",
    strided=True,
    needs="numba",
    when=lambda metas, attrs: (
        metas[0].dtype == dtypes.float32 and metas[0].size >= expression.LARGE and 0 in attrs["axis"]
    ),
)
_sum.vjp(lambda ctx, g: (expand_reduced(g, ctx.inputs[0].shape, ctx.attrs["axis"]),))


def sum(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Sum of x over `axis` (int, tuple or None for all; kept with size 1 if `keepdims`). bool is counted as int32."""
    return over(_sum, x, axis, keepdims)


def sum_to(g: Tensor, shape: tuple[int, ...]) -> Tensor:
    """`g` summed over the axes that broadcasting from `shape` added or stretched; sums of 16-bit floats are float32."""
    if g.shape == shape:
        return g
    extra = g.ndim - len(shape)
    axes = tuple(i for i in range(g.ndim) if i < extra or (shape[i - extra] == 1 and g.shape[i] != 1))
    return reshape(_sum(g, axis=axes, keepdims=False, wide=True), shape) if axes else reshape(g, shape)


# Here, because a sum is a shape's neighbour above.
_broadcast_to.vjp(lambda ctx, g: (sum_to(g, ctx.inputs[0].shape),))


def _count(shape: tuple[int, ...], axes: Axes) -> int:
    return math.prod(shape[a] for a in axes)


@primitive(saves="")
def _mean(xp: Any, x: Any, *, axis: Axes, keepdims: bool) -> Any:
    dtype = x.dtype if x.dtype.kind == "f" else dtypes.float32
    return xp.true_divide(xp.sum(x, axis=axis, keepdims=keepdims, dtype=dtype), dtype.type(_count(x.shape, axis)))


@_mean.infer
def _(x: Meta, *, axis: Axes, keepdims: bool) -> list[Meta]:
    dtype = x.dtype if dtypes.is_float(x.dtype) else dtypes.float32
    return [Meta(reduced_shape(x.shape, axis, keepdims), dtype)]


_mean.cpu("reduce_numpy:mean", strided=True)


@_mean.vjp
def _(ctx: VjpContext, g: Tensor) -> Sequence[Any]:
    x, axes = ctx.inputs[0], ctx.attrs["axis"]
    if not dtypes.is_float(x.dtype):
        return (None,)
    return (expand_reduced(g / float(_count(x.shape, axes)), x.shape, axes),)


def mean(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Mean over `axis` (int, tuple or None for all); integers and bool give float32. Over nothing it is
    NaN.
    """
    return over(_mean, x, axis, keepdims)


# -- what NumPy calls by the same name -------------------------------------------------------------


def _by_name(name: str, doc: str, saves: str = "") -> Op:
    """Declare max, min, any or all."""

    def reference(xp: Any, x: Any, *, axis: Axes, keepdims: bool) -> Any:
        return getattr(xp, name)(x, axis=axis, keepdims=keepdims)

    reference.__name__, reference.__doc__ = name, doc
    op = primitive(saves=saves, differentiable=bool(saves))(reference)
    op.cpu(f"reduce_numpy:{name}", strided=True)
    return op


_max, _min = (_by_name(name, f"The {name} over axes.", saves="x y") for name in ("max", "min"))
_any, _all = (_by_name(name, f"Whether {name} of the elements differ from zero.") for name in ("any", "all"))
for _op in (_any, _all):
    _op.infer(lambda x, *, axis, keepdims: [Meta(reduced_shape(x.shape, axis, keepdims), dtypes.bool_)])


def _extremum_gradient(ctx: VjpContext, g: Tensor) -> Sequence[Any]:
    """Shared evenly by the elements that tie."""
    x, y, axes = ctx.inputs[0], ctx.outputs[0], ctx.attrs["axis"]
    chosen = cast(OPS["equal"](x, expand_reduced(y, x.shape, axes)), x.dtype)
    share = reshape(g, reduced_shape(x.shape, axes, True)) / _sum(chosen, axis=axes, keepdims=True)
    return (chosen * share,)


for _op in (_max, _min):
    _op.infer(lambda x, *, axis, keepdims, op=_op: _result(op, x, axis, keepdims, x.dtype))
    _op.vjp(_extremum_gradient)


def max(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Greatest element over `axis` (int, tuple or None for all); NaN if one is NaN. Elements that tie share
    the gradient evenly.

    Raises ShapeError when there is nothing to choose from.
    """
    return over(_max, x, axis, keepdims)


def min(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Least element over `axis` (int, tuple or None for all), as `max`."""
    return over(_min, x, axis, keepdims)


def any(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """True where an element over `axis` (int, tuple or None for all) is not zero; False over nothing."""
    return over(_any, x, axis, keepdims)


def all(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """True where all elements over `axis` (int, tuple or None for all) are not zero; True over nothing."""
    return over(_all, x, axis, keepdims)


# -- argmax and argmin -----------------------------------------------------------------------------


@primitive(saves="", differentiable=False)
def _argmax(xp: Any, x: Any, *, axis: int) -> Any:
    """The index of the first max along an axis, int32."""
    return xp.argmax(x, axis=axis)


@primitive(saves="", differentiable=False)
def _argmin(xp: Any, x: Any, *, axis: int) -> Any:
    """The index of the first min along an axis, int32."""
    return xp.argmin(x, axis=axis)


for _op in (_argmax, _argmin):
    _op.infer(lambda x, *, axis, op=_op: _result(op, x, (axis,), False, dtypes.int32))


def argmax(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Index (int32) of the greatest element along `axis`, of the flattened tensor without one; ties go to
    the lower index.
    """
    return _arg(_argmax, as_tensor(x), axis, keepdims)


def argmin(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Index (int32) of the least element along `axis`, of the flattened tensor without one; ties go to the
    lower index.
    """
    return _arg(_argmin, as_tensor(x), axis, keepdims)


def _arg(op: Op, x: Tensor, axis: int | None, keepdims: bool) -> Tensor:
    flat, at = (reshape(x, (x.size,)), 0) if axis is None else (x, normalize_axis(op.name, axis, x.ndim))
    found = op(flat if flat.ndim else reshape(flat, (1,)), axis=at)
    if not keepdims:
        return found
    return reshape(found, reduced_shape(x.shape, tuple(range(x.ndim)) if axis is None else (at,), True))
