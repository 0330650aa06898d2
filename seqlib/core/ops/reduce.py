"""Reductions over axes: sum, mean, max, min, argmax, argmin, any, all. They shadow Python's own names in
this file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from seqlib.core import dtypes
from seqlib.core.op import OPS, Meta, Op, VjpContext, normalize_axis, primitive, shape_error
from seqlib.core.ops.shape import broadcast_to, cast, reshape
from seqlib.core.tensor import Tensor, as_tensor

Axes = tuple[int, ...]


def axes_of(op: str, axis: Any, ndim: int) -> Axes:
    """The axes of a reduction as a sorted tuple; None means all. Raises ShapeError for one out of range or
    named twice.
    """
    if axis is None:
        return tuple(range(ndim))
    given = (axis,) if isinstance(axis, int) else tuple(axis)
    axes = sorted(normalize_axis(op, a, ndim) for a in given)
    if len(set(axes)) != len(axes):
        raise shape_error(op, "axis", "of different axes", axis)
    return tuple(axes)


def reduced_shape(shape: tuple[int, ...], axes: Axes, keepdims: bool) -> tuple[int, ...]:
    if keepdims:
        return tuple(1 if i in axes else d for i, d in enumerate(shape))
    return tuple(d for i, d in enumerate(shape) if i not in axes)


def expand_reduced(g: Tensor, shape: tuple[int, ...], axes: Axes) -> Tensor:
    """A reduction's result (or its gradient) repeated to the input's shape."""
    return broadcast_to(reshape(g, reduced_shape(shape, axes, True)), shape)


@primitive(saves="")
def _sum(xp: Any, x: Any, *, axis: Axes, keepdims: bool) -> Any:
    return xp.sum(x, axis=axis, keepdims=keepdims, dtype=x.dtype if x.dtype != bool else np.int32)


@_sum.infer
def _(x: Meta, *, axis: Axes, keepdims: bool) -> list[Meta]:
    return [Meta(reduced_shape(x.shape, axis, keepdims), dtypes.int32 if x.dtype == dtypes.bool_ else x.dtype)]


@_sum.cpu(strided=True)
def _(outs: Any, ins: Any, scratch: Any, *, axis: Axes, keepdims: bool) -> None:
    np.sum(ins[0], axis=axis, keepdims=keepdims, dtype=outs[0].dtype, out=outs[0])


_sum.vjp(lambda ctx, g: (expand_reduced(g, ctx.inputs[0].shape, ctx.attrs["axis"]),))


def sum(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Sum of x over `axis` (int, tuple or None for all; kept with size 1 if `keepdims`). bool is counted as int32."""
    x = as_tensor(x)
    return _sum(x, axis=axes_of("sum", axis, x.ndim), keepdims=bool(keepdims))


def sum_to(g: Tensor, shape: tuple[int, ...]) -> Tensor:
    """`g` summed over the axes that broadcasting from `shape` added or stretched."""
    if g.shape == shape:
        return g
    extra = g.ndim - len(shape)
    axes = tuple(i for i in range(g.ndim) if i < extra or (shape[i - extra] == 1 and g.shape[i] != 1))
    return reshape(_sum(g, axis=axes, keepdims=False), shape) if axes else reshape(g, shape)


# -- mean ------------------------------------------------------------------------------------------


def _count(shape: tuple[int, ...], axes: Axes) -> int:
    n = 1
    for a in axes:
        n *= shape[a]
    return n


@primitive(saves="")
def _mean(xp: Any, x: Any, *, axis: Axes, keepdims: bool) -> Any:
    dtype = x.dtype if x.dtype.kind == "f" else dtypes.float32
    return xp.true_divide(xp.sum(x, axis=axis, keepdims=keepdims, dtype=dtype), dtype.type(_count(x.shape, axis)))


@_mean.infer
def _(x: Meta, *, axis: Axes, keepdims: bool) -> list[Meta]:
    dtype = x.dtype if dtypes.is_float(x.dtype) else dtypes.float32
    return [Meta(reduced_shape(x.shape, axis, keepdims), dtype)]


@_mean.cpu(strided=True)
def _(outs: Any, ins: Any, scratch: Any, *, axis: Axes, keepdims: bool) -> None:
    np.sum(ins[0], axis=axis, keepdims=keepdims, dtype=outs[0].dtype, out=outs[0])
    np.true_divide(outs[0], outs[0].dtype.type(_count(ins[0].shape, axis)), out=outs[0])


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
    x = as_tensor(x)
    return _mean(x, axis=axes_of("mean", axis, x.ndim), keepdims=bool(keepdims))


# -- max and min -----------------------------------------------------------------------------------


def _extremum(name: str) -> Op:
    """Declare max or min: the gradient is shared evenly by the elements that tie."""

    def reference(xp: Any, x: Any, *, axis: Axes, keepdims: bool) -> Any:
        return getattr(xp, name)(x, axis=axis, keepdims=keepdims)

    reference.__name__ = name
    reference.__doc__ = f"The {name} over axes."
    op = primitive(saves="x y")(reference)

    @op.infer
    def _(x: Meta, *, axis: Axes, keepdims: bool) -> list[Meta]:
        result = Meta(reduced_shape(x.shape, axis, keepdims), x.dtype)
        if result.size and not x.size:
            raise shape_error(name, "x", f"non-empty along axis {axis}", x.shape)
        return [result]

    @op.cpu(strided=True)
    def _(outs: Any, ins: Any, scratch: Any, *, axis: Axes, keepdims: bool) -> None:
        getattr(np, name)(ins[0], axis=axis, keepdims=keepdims, out=outs[0])

    @op.vjp
    def _(ctx: VjpContext, g: Tensor) -> Sequence[Any]:
        x, y, axes = ctx.inputs[0], ctx.outputs[0], ctx.attrs["axis"]
        chosen = cast(OPS["equal"](x, expand_reduced(y, x.shape, axes)), x.dtype)
        share = reshape(g, reduced_shape(x.shape, axes, True)) / _sum(chosen, axis=axes, keepdims=True)
        return (chosen * share,)

    return op


_max = _extremum("max")
_min = _extremum("min")


def max(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Greatest element over `axis` (int, tuple or None for all); NaN if one is NaN. Elements that tie share
    the gradient evenly.

    Raises ShapeError when there is nothing to choose from.
    """
    x = as_tensor(x)
    return _max(x, axis=axes_of("max", axis, x.ndim), keepdims=bool(keepdims))


def min(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Least element over `axis` (int, tuple or None for all), as `max`."""
    x = as_tensor(x)
    return _min(x, axis=axes_of("min", axis, x.ndim), keepdims=bool(keepdims))


# -- argmax and argmin -----------------------------------------------------------------------------


def _arg_extremum(name: str) -> Op:
    def reference(xp: Any, x: Any, *, axis: int) -> Any:
        return getattr(xp, name)(x, axis=axis)

    reference.__name__ = name
    reference.__doc__ = f"The index of the first {name[3:]} along an axis, int32."
    op = primitive(saves="", differentiable=False)(reference)

    @op.infer
    def _(x: Meta, *, axis: int) -> list[Meta]:
        result = Meta(reduced_shape(x.shape, (axis,), False), dtypes.int32)
        if result.size and not x.size:
            raise shape_error(name, "x", f"non-empty along axis {axis}", x.shape)
        return [result]

    return op


_argmax = _arg_extremum("argmax")
_argmin = _arg_extremum("argmin")


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


# -- any and all -----------------------------------------------------------------------------------


def _logical(name: str) -> Op:
    def reference(xp: Any, x: Any, *, axis: Axes, keepdims: bool) -> Any:
        return getattr(xp, name)(x, axis=axis, keepdims=keepdims)

    reference.__name__ = name
    reference.__doc__ = f"Whether {name} of the elements differ from zero."
    op = primitive(saves="", differentiable=False)(reference)

    op.infer(lambda x, *, axis, keepdims: [Meta(reduced_shape(x.shape, axis, keepdims), dtypes.bool_)])

    @op.cpu(strided=True)
    def _(outs: Any, ins: Any, scratch: Any, *, axis: Axes, keepdims: bool) -> None:
        getattr(np, name)(ins[0], axis=axis, keepdims=keepdims, out=outs[0])

    return op


_any = _logical("any")
_all = _logical("all")


def any(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """True where an element over `axis` (int, tuple or None for all) is not zero; False over nothing."""
    x = as_tensor(x)
    return _any(x, axis=axes_of("any", axis, x.ndim), keepdims=bool(keepdims))


def all(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """True where all elements over `axis` (int, tuple or None for all) are not zero; True over nothing."""
    x = as_tensor(x)
    return _all(x, axis=axes_of("all", axis, x.ndim), keepdims=bool(keepdims))
