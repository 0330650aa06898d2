"""Joining, cutting and padding: concatenate, stack, unstack, split, pad, expand_dims, squeeze. Cuts are views."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from seqlib.core import dtypes
from seqlib.core.op import Meta, VjpContext, normalize_axes, normalize_axis, primitive, shape_error
from seqlib.core.ops.create import zeros
from seqlib.core.ops.shape import reshape, slice_
from seqlib.core.tensor import Tensor, as_tensor

# -- concatenate -----------------------------------------------------------------------------------


@primitive(saves="")
def _concatenate(xp: Any, *xs: Any, axis: int) -> Any:
    return xp.concatenate(xs, axis=axis)


@_concatenate.infer
def _(*xs: Meta, axis: int) -> list[Meta]:
    first = xs[0]
    dtype, total = first.dtype, 0
    for i, x in enumerate(xs):
        rest = [d for k, d in enumerate(first.shape) if k != axis]
        if len(x.shape) != len(first.shape) or [d for k, d in enumerate(x.shape) if k != axis] != rest:
            expected = f"of shape {first.shape} except along axis {axis}"
            raise shape_error("concatenate", f"xs[{i}]", expected, x.shape)
        dtype = dtypes.promote(dtype, x.dtype)
        total += x.shape[axis]
    return [Meta((*first.shape[:axis], total, *first.shape[axis + 1 :]), dtype)]


_concatenate.cpu("copy_numpy:concatenate", strided=True)


@_concatenate.vjp
def _(ctx: VjpContext, g: Tensor) -> Sequence[Any]:
    axis = ctx.attrs["axis"]
    grads: list[Tensor | None] = []
    start = 0
    for x, needed in zip(ctx.inputs, ctx.needs, strict=True):
        grads.append(_cut(g, axis, start, x.shape[axis]) if needed else None)
        start += x.shape[axis]
    return grads


def concatenate(xs: Sequence[Tensor], axis: int = 0) -> Tensor:
    """The tensors `xs` joined along `axis`; their shapes agree along the other axes. Raises ShapeError where they
    don't.
    """
    tensors = [as_tensor(x) for x in xs]
    if not tensors or not tensors[0].ndim:
        expected = "at least one tensor of at least one dimension"
        raise shape_error("concatenate", "xs", expected, f"{len(tensors)} of shape {[t.shape for t in tensors]}")
    return _concatenate(*tensors, axis=normalize_axis("concatenate", axis, tensors[0].ndim))


def stack(xs: Sequence[Tensor], axis: int = 0) -> Tensor:
    """The tensors `xs`, of one shape, joined along a new `axis`. Raises ShapeError when their shapes differ."""
    tensors = [as_tensor(x) for x in xs]
    if not tensors:
        raise shape_error("stack", "xs", "at least one tensor", "none")
    for i, t in enumerate(tensors):
        if t.shape != tensors[0].shape:
            raise shape_error("stack", f"xs[{i}]", f"of shape {tensors[0].shape}", t.shape)
    at = normalize_axis("stack", axis, tensors[0].ndim + 1)
    return _concatenate(*(expand_dims(t, at) for t in tensors), axis=at)


# -- taking apart ----------------------------------------------------------------------------------


@primitive(outs="*", saves="")
def _unstack(xp: Any, x: Any, *, axis: int) -> Any:
    return tuple(xp.moveaxis(x, axis, 0))


_unstack.infer(lambda x, *, axis: [Meta((*x.shape[:axis], *x.shape[axis + 1 :]), x.dtype)] * x.shape[axis])


_unstack.cpu("copy_numpy:unstack", strided=True)


@_unstack.vjp
def _(ctx: VjpContext, *gs: Tensor | None) -> Sequence[Any]:
    one = next(g for g in gs if g is not None)
    return (stack([zeros(one.shape, one.dtype) if g is None else g for g in gs], ctx.attrs["axis"]),)


def unstack(x: Tensor, axis: int = 0) -> list[Tensor]:
    """The slices of `x` along `axis`, without that axis: what `stack` joins.

    Each is a tensor of its own, and the gradient of `x` is put together once, so this is the way to go through
    all steps of a sequence. Raises ShapeError for an axis out of range.
    """
    x = as_tensor(x)
    return list(_unstack(x, axis=normalize_axis("unstack", axis, x.ndim)))


# -- cutting ---------------------------------------------------------------------------------------


def _cut(x: Tensor, axis: int, start: int, size: int) -> Tensor:
    starts, sizes = [0] * x.ndim, list(x.shape)
    starts[axis], sizes[axis] = start, size
    return slice_(x, starts, sizes)


def split(x: Tensor, sections: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    """`x` cut along `axis`: into `sections` equal parts (an int), or into parts of the sizes in `sections`,
    one of which may be -1.

    Parts are views. Raises ShapeError when the sizes don't add up to the axis.
    """
    x = as_tensor(x)
    at = normalize_axis("split", axis, x.ndim)
    total = x.shape[at]
    if isinstance(sections, int):
        if sections < 1 or total % sections:
            raise shape_error("split", "sections", f"a divisor of {total}, the size of axis {axis}", sections)
        sizes = [total // sections] * sections
    else:
        sizes = [int(s) for s in sections]
        if sizes.count(-1) == 1:
            sizes[sizes.index(-1)] = total - sum(sizes) - 1
        if sum(sizes) != total or any(s < 0 for s in sizes):
            raise shape_error("split", "sections", f"sizes that add up to {total}, axis {axis} of x", tuple(sections))
    starts = np.cumsum([0, *sizes])[:-1].tolist()
    return [_cut(x, at, start, size) for start, size in zip(starts, sizes, strict=True)]


# -- pad -------------------------------------------------------------------------------------------

Widths = tuple[tuple[int, int], ...]


@primitive(saves="")
def _pad(xp: Any, x: Any, *, widths: Widths, value: float) -> Any:
    return xp.pad(x, widths, constant_values=value)


@_pad.infer
def _(x: Meta, *, widths: Widths, value: float) -> list[Meta]:
    return [Meta(tuple(a + d + b for d, (a, b) in zip(x.shape, widths, strict=True)), x.dtype)]


_pad.cpu("copy_numpy:pad", strided=True)
_pad.vjp(lambda ctx, g: (slice_(g, [a for a, _ in ctx.attrs["widths"]], ctx.inputs[0].shape),))


def pad(x: Tensor, widths: Any, value: float = 0.0) -> Tensor:
    """`x` with `value` added around it: `widths` is (before, after) for each axis, or one pair for all.

    Raises ShapeError for widths that are negative or not one pair an axis."""
    x = as_tensor(x)
    pairs = [tuple(p) for p in (widths if np.ndim(widths) == 2 else [widths] * x.ndim)]
    if len(pairs) != x.ndim or any(len(p) != 2 or p[0] < 0 or p[1] < 0 for p in pairs):
        raise shape_error("pad", "widths", f"{x.ndim} pairs (before, after) of sizes ≥ 0", widths)
    return _pad(x, widths=tuple((int(a), int(b)) for a, b in pairs), value=value)


# -- axes of size 1 --------------------------------------------------------------------------------


def expand_dims(x: Tensor, axis: int | Sequence[int]) -> Tensor:
    """`x` with axes of size 1 put in at `axis` (positions in the result), a view. Raises ShapeError for one
    out of range, or named twice."""
    x = as_tensor(x)
    ndim = x.ndim + (1 if isinstance(axis, int) else len(axis))
    places, sizes = normalize_axes("expand_dims", axis, ndim), iter(x.shape)
    return reshape(x, tuple(1 if i in places else next(sizes) for i in range(ndim)))


def squeeze(x: Tensor, axis: int | Sequence[int] | None = None) -> Tensor:
    """`x` without the axes of size 1 (all, or those named in `axis`), a view. Raises ShapeError for a named
    axis of another size.
    """
    x = as_tensor(x)
    if axis is None:
        return reshape(x, tuple(d for d in x.shape if d != 1))
    places = normalize_axes("squeeze", axis, x.ndim)
    for a in places:
        if x.shape[a] != 1:
            raise shape_error("squeeze", "axis", f"an axis of size 1 (x is {x.shape})", a)
    return reshape(x, tuple(d for i, d in enumerate(x.shape) if i not in places))
