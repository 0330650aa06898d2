"""Variance, log-sum-exp, products and running sums."""

import math
from collections.abc import Sequence
from typing import Any

from seqlib.core.op import Meta, VjpContext, fused, need_float, normalize_axes, normalize_axis, primitive
from seqlib.core.ops import reduce
from seqlib.core.ops.elementwise import equal, exp, isfinite, log, square, where
from seqlib.core.ops.join import pad, split
from seqlib.core.ops.reduce import Axes, expand_reduced, reduced_shape
from seqlib.core.ops.shape import cast, flip, reshape, transpose
from seqlib.core.tensor import Tensor, as_tensor

# -- var -------------------------------------------------------------------------------------------


def var(x: Tensor, axis: Any = None, ddof: int = 0, keepdims: bool = False) -> Tensor:
    """Variance over `axis` (int, tuple or None for all): the mean of the squared deviations, divided by n -
    `ddof`.

    Two passes, so it does not cancel. NaN where n ≤ `ddof`. Raises DtypeError for a dtype that is not
    floating.
    """
    x = as_tensor(x)
    need_float("var", "x", Meta(x.shape, x.dtype))
    axes = normalize_axes("var", axis, x.ndim)
    n = math.prod(x.shape[a] for a in axes)
    deviation = x - reduce.mean(x, axes, keepdims=True)
    return reduce.sum(square(deviation), axes, keepdims) / float(max(n - ddof, 0))


# -- logsumexp -------------------------------------------------------------------------------------


@fused(saves="x y")
def _logsumexp(x: Tensor, *, axis: Axes, keepdims: bool) -> Tensor:
    top = reduce.max(x, axis, keepdims=True).detach()
    shift = where(isfinite(top), top, 0.0)
    y = log(reduce.sum(exp(x - shift), axis, keepdims=True)) + shift
    return reshape(y, reduced_shape(x.shape, axis, keepdims))


@_logsumexp.infer
def _(x: Meta, *, axis: Axes, keepdims: bool) -> list[Meta]:
    need_float("logsumexp", "x", x)
    return [Meta(reduced_shape(x.shape, axis, keepdims), x.dtype)]


@_logsumexp.vjp
def _(ctx: VjpContext, g: Tensor) -> Sequence[Any]:
    x, y, axes = ctx.inputs[0], ctx.outputs[0], ctx.attrs["axis"]
    # Where all elements are -inf, so is y; the gradient there is 0 and not exp(-inf + inf).
    shift = where(equal(y, -math.inf), 0.0, y)
    return (expand_reduced(g, x.shape, axes) * exp(x - expand_reduced(shift, x.shape, axes)),)


def logsumexp(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """log Σ exp(x) over `axis` (int, tuple or None for all), shifted by the maximum so that it does not
    overflow.

    Raises DtypeError for a dtype that is not floating, ShapeError where there is nothing to sum.
    """
    return reduce.over(_logsumexp, x, axis, keepdims)


# -- prod ------------------------------------------------------------------------------------------


def prod(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Product over `axis` (int, tuple or None for all), 1 over nothing. bool is counted as int32.

    Halves are multiplied again and again, so no gradient divides by an element: it is right where some are 0.
    """
    x = as_tensor(x)
    axes = normalize_axes("prod", axis, x.ndim)
    kept = [i for i in range(x.ndim) if i not in axes]
    shape = [x.shape[i] for i in kept]
    n = math.prod(x.shape[i] for i in axes)
    size = 1 << (n - 1).bit_length() if n else 1
    rows = reshape(transpose(cast(x, reduce.summed_dtype(x.dtype)), (*kept, *axes)), (*shape, n))
    rows = pad(rows, [*[(0, 0)] * len(kept), (0, size - n)], value=1) if size > n else rows
    while size > 1:
        first, second = split(rows, 2, axis=-1)
        rows, size = first * second, size // 2
    return reshape(rows, reduced_shape(x.shape, axes, bool(keepdims)))


# -- cumsum ----------------------------------------------------------------------------------------


@primitive(saves="")
def _cumsum(xp: Any, x: Any, *, axis: int) -> Any:
    return xp.cumsum(x, axis=axis, dtype=reduce.summed_dtype(x.dtype))


_cumsum.infer(lambda x, *, axis: [Meta(x.shape, reduce.summed_dtype(x.dtype))])


_cumsum.cpu("reduce_numpy:cumsum", strided=True)


@_cumsum.vjp
def _(ctx: VjpContext, g: Tensor) -> Sequence[Any]:
    axis = ctx.attrs["axis"]
    return (flip(_cumsum(flip(g, axis), axis=axis), axis),)


def cumsum(x: Tensor, axis: int | None = None) -> Tensor:
    """Running sum along `axis`, of the flattened tensor without one. bool is counted as int32."""
    x = as_tensor(x)
    flat, at = (reshape(x, (x.size,)), 0) if axis is None else (x, normalize_axis("cumsum", axis, x.ndim))
    return _cumsum(flat, axis=at) if flat.ndim else _cumsum(reshape(flat, (1,)), axis=0).reshape(())
