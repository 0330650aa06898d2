"""Reductions over axes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from seqlib.core import dtypes
from seqlib.core.op import Meta, Sample, VjpContext, normalize_axis, primitive
from seqlib.core.ops.shape import broadcast_to, reshape
from seqlib.core.tensor import Tensor

Axes = tuple[int, ...]


def axes_of(op: str, axis: Any, ndim: int) -> Axes:
    """The axes of a reduction as a sorted tuple; None means all. Raises ShapeError for one out of range or named twice."""
    if axis is None:
        return tuple(range(ndim))
    given = (axis,) if isinstance(axis, int) else tuple(axis)
    return tuple(sorted({normalize_axis(op, int(a), ndim) for a in given}))


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


@_sum.vjp
def _(ctx: VjpContext, g: Tensor) -> Sequence[Any]:
    return (expand_reduced(g, ctx.inputs[0].shape, ctx.attrs["axis"]),)


@_sum.samples
def _() -> Iterable[Sample]:
    x = np.random.default_rng(0).normal(size=(3, 5, 7)).astype(np.float32)
    yield Sample((x,), {"axis": (1,), "keepdims": False})
    yield Sample((x,), {"axis": (0, 2), "keepdims": True})
    yield Sample((x,), {"axis": (0, 1, 2), "keepdims": False})
    yield Sample((x[:, :0],), {"axis": (1,), "keepdims": False})
    yield Sample((x > 0,), {"axis": (0, 1, 2), "keepdims": False}, grad=())


def sum(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Sum over `axis` (int, tuple or None for all). bool is counted as int32."""
    return _sum(x, axis=axes_of("sum", axis, x.ndim), keepdims=bool(keepdims))


def sum_to(g: Tensor, shape: tuple[int, ...]) -> Tensor:
    """`g` summed over the axes that broadcasting from `shape` added or stretched."""
    if g.shape == shape:
        return g
    extra = g.ndim - len(shape)
    axes = tuple(i for i in range(g.ndim) if i < extra or (shape[i - extra] == 1 and g.shape[i] != 1))
    return reshape(_sum(g, axis=axes, keepdims=False), shape) if axes else reshape(g, shape)
