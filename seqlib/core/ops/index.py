"""Reading and adding at positions given by a tensor: take, gather, scatter_add, one_hot. (`x[...]` is in
getitem.py.)

Indices are int32 or int64; a negative one counts from the end. One out of range raises IndexRangeError,
when the op runs or, in a compiled function, when the program runs. Sums over equal indices are made in one
fixed order, so bits repeat.
"""

import math
from typing import Any

import numpy as np

from seqlib.core import dtypes
from seqlib.core.op import Meta, need_int, normalize_axis, primitive, shape_error
from seqlib.core.ops.bounds import check_bounds
from seqlib.core.tensor import Tensor, as_tensor

# -- take and scatter_add --------------------------------------------------------------------------


def _taken_shape(shape: tuple[int, ...], index: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return (*shape[:axis], *index, *shape[axis + 1 :])


@primitive(saves="indices")
def _take(xp: Any, x: Any, indices: Any, *, axis: int) -> Any:
    check_bounds("take", "indices", indices, x.shape[axis])
    return xp.take(x, indices, axis=axis)


@_take.infer
def _(x: Meta, indices: Meta, *, axis: int) -> list[Meta]:
    need_int("take", "indices", indices)
    return [Meta(_taken_shape(x.shape, indices.shape, axis), x.dtype)]


_take.cpu("index_numpy:take")


_take.vjp(lambda ctx, g: (_take_grad(g, ctx.inputs[1], shape=ctx.inputs[0].shape, axis=ctx.attrs["axis"]), None))


@primitive(saves="indices")
def _take_grad(xp: Any, g: Any, indices: Any, *, shape: tuple[int, ...], axis: int) -> Any:
    """Zeros of `shape` with g added at the positions that a `take` read."""
    out = xp.zeros(shape, g.dtype)
    xp.add.at(out, (*(slice(None),) * axis, indices), g)
    return out


_take_grad.infer(lambda g, indices, *, shape, axis: [Meta(shape, g.dtype)])


_take_grad.cpu("index_numpy:take_gradient", strided=True)


_take_grad.vjp(lambda ctx, h: (_take(h, ctx.inputs[1], axis=ctx.attrs["axis"]), None))


def take(x: Tensor, indices: Tensor, axis: int | None = None) -> Tensor:
    """The elements of `x` along `axis` at `indices`, whose shape replaces that axis; of the flattened `x`
    without an axis.

    Raises DtypeError for indices that are not integers, IndexRangeError for one out of range, ShapeError for a 0-d x.
    """
    x = as_tensor(x)
    at = 0 if axis is None else normalize_axis("take", axis, x.ndim)
    if axis is not None and not x.ndim:
        raise shape_error("take", "x", "of at least one dimension", x.shape)
    return _take(x.reshape(-1) if axis is None else x, as_tensor(indices), axis=at)


@primitive(saves="indices")
def _scatter_add(xp: Any, x: Any, indices: Any, updates: Any, *, axis: int) -> Any:
    check_bounds("scatter_add", "indices", indices, x.shape[axis])
    out = x.copy()
    xp.add.at(out, (*(slice(None),) * axis, indices), updates)
    return out


@_scatter_add.infer
def _(x: Meta, indices: Meta, updates: Meta, *, axis: int) -> list[Meta]:
    need_int("scatter_add", "indices", indices)
    expected = _taken_shape(x.shape, indices.shape, axis)
    if updates.shape != expected:
        raise shape_error("scatter_add", "updates", f"of shape {expected}", updates.shape)
    return [Meta(x.shape, x.dtype)]


_scatter_add.cpu("index_numpy:scatter_add", strided=True, overlap=((0, 0),))


_scatter_add.vjp(lambda ctx, g: (g, None, _take(g, ctx.inputs[1], axis=ctx.attrs["axis"]) if ctx.needs[2] else None))


def scatter_add(x: Tensor, indices: Tensor, updates: Tensor, axis: int = 0) -> Tensor:
    """`x` with `updates` added along `axis` at `indices`; an index that occurs twice gets both.

    `updates` has the shape of `take(x, indices, axis)`. Raises ShapeError, DtypeError or IndexRangeError
    otherwise.
    """
    x = as_tensor(x)
    if not x.ndim:
        raise shape_error("scatter_add", "x", "of at least one dimension", x.shape)
    return _scatter_add(x, as_tensor(indices), updates, axis=normalize_axis("scatter_add", axis, x.ndim))


# -- gather ----------------------------------------------------------------------------------------


def flat_positions(xp: Any, index: Any, shape: tuple[int, ...], axis: int) -> Any:
    """Row-major positions in an array of `shape` of the elements that take_along_axis reads."""
    inner = math.prod(shape[axis + 1 :])
    positions = xp.where(index < 0, index + shape[axis], index).astype(np.int64) * inner
    ndim = len(shape)
    outer = xp.arange(math.prod(shape[:axis])).reshape(*shape[:axis], *(1,) * (ndim - axis)) * (shape[axis] * inner)
    return positions + outer + xp.arange(inner).reshape(shape[axis + 1 :])


@primitive(saves="indices")
def _gather(xp: Any, x: Any, indices: Any, *, axis: int) -> Any:
    check_bounds("gather", "indices", indices, x.shape[axis])
    return xp.take_along_axis(x, indices, axis=axis)


@_gather.infer
def _(x: Meta, indices: Meta, *, axis: int) -> list[Meta]:
    need_int("gather", "indices", indices)
    expected = tuple(d for i, d in enumerate(x.shape) if i != axis)
    if len(indices.shape) != len(x.shape) or tuple(d for i, d in enumerate(indices.shape) if i != axis) != expected:
        raise shape_error("gather", "indices", f"of the shape of x, {x.shape}, except along axis {axis}", indices.shape)
    return [Meta(indices.shape, x.dtype)]


_gather.cpu("index_numpy:gather")


_gather.vjp(lambda ctx, g: (_gather_grad(g, ctx.inputs[1], shape=ctx.inputs[0].shape, axis=ctx.attrs["axis"]), None))


@primitive(saves="indices")
def _gather_grad(xp: Any, g: Any, indices: Any, *, shape: tuple[int, ...], axis: int) -> Any:
    """Zeros of `shape` with g added at the positions that a `gather` read."""
    out = xp.zeros(math.prod(shape), g.dtype)
    xp.add.at(out, flat_positions(xp, indices, shape, axis).reshape(-1), g.reshape(-1))
    return out.reshape(shape)


_gather_grad.infer(lambda g, indices, *, shape, axis: [Meta(shape, g.dtype)])


_gather_grad.cpu("index_numpy:gather_gradient")


_gather_grad.vjp(lambda ctx, h: (_gather(h, ctx.inputs[1], axis=ctx.attrs["axis"]), None))


def gather(x: Tensor, indices: Tensor, axis: int = -1) -> Tensor:
    """NumPy's take_along_axis, along `axis`: result[…, i, …] = x[…, indices[…, i, …], …]; the other axes of `indices`
    are those of `x`.

    Raises ShapeError, DtypeError or IndexRangeError.
    """
    x = as_tensor(x)
    if not x.ndim:
        raise shape_error("gather", "x", "of at least one dimension", x.shape)
    return _gather(x, as_tensor(indices), axis=normalize_axis("gather", axis, x.ndim))


# -- one_hot ---------------------------------------------------------------------------------------


@primitive(differentiable=False)
def _one_hot(xp: Any, ids: Any, *, depth: int, dtype: Any) -> Any:
    check_bounds("one_hot", "ids", ids, depth, negative=False)
    return (ids[..., None] == xp.arange(depth)).astype(dtype)


@_one_hot.infer
def _(ids: Meta, *, depth: int, dtype: Any) -> list[Meta]:
    need_int("one_hot", "ids", ids)
    return [Meta((*ids.shape, depth), dtypes.canonical(dtype))]


_one_hot.cpu("index_numpy:one_hot")


def one_hot(ids: Tensor, depth: int, dtype: Any = dtypes.float32) -> Tensor:
    """1 at position ids[…] of a new last axis of size `depth`, 0 elsewhere: ids int [...] → `dtype` [..., depth].
    Raises IndexRangeError for an id outside [0, depth), ShapeError for a negative depth.
    """
    if depth < 0:
        raise shape_error("one_hot", "depth", "≥ 0", depth)
    return _one_hot(as_tensor(ids), depth=int(depth), dtype=dtypes.canonical(dtype))
