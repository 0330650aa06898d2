"""Views and copies: cast, reshape, transpose, broadcast_to, slicing. A view costs no launch."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from seqlib.core import dtypes
from seqlib.core.op import Layout, Meta, contiguous_layout, normalize_axes, normalize_axis, primitive, shape_error
from seqlib.core.tensor import Tensor, as_tensor


@primitive(saves="", like="x")
def identity(xp: Any, x: Any) -> Any:
    """The same content as a tensor of its own on the tape."""
    return x


identity.view(lambda layout: layout)


identity.vjp(lambda ctx, g: (g,))


@primitive(saves="", like="copy")
def compute_copy(xp: Any, copy: Any, parameter: Any) -> Any:
    """`copy`, which holds `parameter` in another dtype; the gradient is the parameter's, in its dtype."""
    return copy


compute_copy.view(lambda layout: layout)


compute_copy.vjp(lambda ctx, g: (None, cast(g, ctx.inputs[1].dtype)))


@primitive(saves="")
def _cast(xp: Any, x: Any, *, dtype: Any) -> Any:
    return x.astype(dtype)


_cast.infer(lambda x, *, dtype: [Meta(x.shape, dtypes.canonical(dtype))])


_cast.cpu("copy_numpy:cast", strided=True)


_cast.vjp(lambda ctx, g: (cast(g, ctx.inputs[0].dtype) if dtypes.is_float(ctx.inputs[0].dtype) else None,))


def cast(x: Tensor, dtype: Any) -> Tensor:
    """`x` in `dtype`, rounded to nearest even; the tensor itself if it has that dtype already."""
    wanted = dtypes.canonical(dtype)
    return x if isinstance(x, Tensor) and x.dtype == wanted else _cast(x, dtype=wanted)


# -- reshape ---------------------------------------------------------------------------------------


@primitive(saves="")
def _reshape(xp: Any, x: Any, *, shape: tuple[int, ...]) -> Any:
    return x.reshape(shape)


@_reshape.infer
def _(x: Meta, *, shape: tuple[int, ...]) -> list[Meta]:
    result = Meta(shape, x.dtype)
    if result.size != x.size:
        raise shape_error("reshape", "shape", f"of {x.size} elements (the input is {x.shape})", shape)
    return [result]


_reshape.view(lambda layout, *, shape: reshaped_layout(layout, shape))


def reshaped_layout(layout: Layout, shape: tuple[int, ...]) -> Layout | None:
    """The layout of a reshape without a copy, or None where one is needed (NumPy's rule: each group of old
    axes that merges or splits must be evenly spaced).
    """
    if 0 in shape:
        return Layout(shape, contiguous_layout(shape).strides, layout.offset)
    old = [(d, s) for d, s in zip(layout.shape, layout.strides, strict=True) if d != 1]
    strides: list[int] = [0] * len(shape)
    oi = ni = 0
    while oi < len(old) and ni < len(shape):
        old_from, new_from = oi, ni
        old_size, new_size = old[oi][0], shape[ni]
        while old_size != new_size:
            if new_size < old_size:
                ni += 1
                new_size *= shape[ni]
            else:
                oi += 1
                old_size *= old[oi][0]
        for k in range(old_from, oi):
            if old[k][1] != old[k + 1][0] * old[k + 1][1]:
                return None
        step = old[oi][1]
        for k in range(ni, new_from - 1, -1):
            strides[k] = step
            step *= shape[k]
        oi, ni = oi + 1, ni + 1
    for k in range(ni, len(shape)):  # what is left has size 1
        strides[k] = 1
    return Layout(shape, tuple(strides), layout.offset)


_reshape.vjp(lambda ctx, g: (reshape(g, ctx.inputs[0].shape),))


def reshape(x: Tensor, shape: Any) -> Tensor:
    """`x` in another shape of the same size (row-major); one entry may be -1. A view where the layout
    allows it.

    Raises ShapeError when the sizes differ.
    """
    wanted = [shape] if isinstance(shape, int) else [int(d) for d in shape]
    if wanted.count(-1) == 1:
        rest = int(np.prod([d for d in wanted if d != -1]))
        if rest == 0 or x.size % rest:
            expected = f"a divisor of {x.size} elements (the input is {x.shape})"
            raise shape_error("reshape", "shape", expected, tuple(wanted))
        wanted[wanted.index(-1)] = x.size // rest
    if any(d < 0 for d in wanted):
        raise shape_error("reshape", "shape", "of non-negative sizes with at most one -1", tuple(wanted))
    return _reshape(x, shape=tuple(wanted))


# -- transpose -------------------------------------------------------------------------------------


@primitive(saves="")
def _transpose(xp: Any, x: Any, *, axes: tuple[int, ...]) -> Any:
    return x.transpose(axes)


@_transpose.infer
def _(x: Meta, *, axes: tuple[int, ...]) -> list[Meta]:
    if sorted(axes) != list(range(len(x.shape))):
        raise shape_error("transpose", "axes", f"a permutation of 0 … {len(x.shape) - 1}", axes)
    return [Meta(tuple(x.shape[a] for a in axes), x.dtype)]


@_transpose.view
def _(layout: Layout, *, axes: tuple[int, ...]) -> Layout:
    return Layout(tuple(layout.shape[a] for a in axes), tuple(layout.strides[a] for a in axes), layout.offset)


_transpose.vjp(lambda ctx, g: (_transpose(g, axes=tuple(np.argsort(ctx.attrs["axes"]).tolist())),))


def transpose(x: Tensor, axes: Any = None) -> Tensor:
    """`x` with its axes permuted (reversed without `axes`), a view."""
    order = range(x.ndim)[::-1] if axes is None else axes
    return _transpose(x, axes=tuple(normalize_axis("transpose", int(a), x.ndim, "axes") for a in order))


def swapaxes(x: Tensor, axis1: int, axis2: int) -> Tensor:
    """`x` with the axes `axis1` and `axis2` exchanged, a view. Raises ShapeError for one out of range."""
    order = list(range(x.ndim))
    a, b = (normalize_axis("swapaxes", v, x.ndim) for v in (axis1, axis2))
    order[a], order[b] = order[b], order[a]
    return _transpose(x, axes=tuple(order))


# -- broadcast and slice ---------------------------------------------------------------------------


@primitive(saves="")
def _broadcast_to(xp: Any, x: Any, *, shape: tuple[int, ...]) -> Any:
    return xp.broadcast_to(x, shape)


@_broadcast_to.infer
def _(x: Meta, *, shape: tuple[int, ...]) -> list[Meta]:
    padded = (1,) * (len(shape) - len(x.shape)) + x.shape
    if len(padded) != len(shape) or any(a not in (1, b) for a, b in zip(padded, shape, strict=True)):
        raise shape_error("broadcast_to", "x", f"broadcastable to {shape}", x.shape)
    return [Meta(shape, x.dtype)]


@_broadcast_to.view
def _(layout: Layout, *, shape: tuple[int, ...]) -> Layout:
    extra = len(shape) - len(layout.shape)
    strides = [0] * extra + [
        0 if a == 1 and b != 1 else s for a, s, b in zip(layout.shape, layout.strides, shape[extra:], strict=True)
    ]
    return Layout(shape, tuple(strides), layout.offset)


def broadcast_to(x: Tensor, shape: Any) -> Tensor:
    """`x` repeated to `shape` by NumPy's rules, a view."""
    return _broadcast_to(x, shape=tuple(int(d) for d in shape))


@primitive(saves="")
def _slice(xp: Any, x: Any, *, starts: tuple[int, ...], sizes: tuple[int, ...], steps: tuple[int, ...]) -> Any:
    return x[block_index(sizes, starts, steps)]


@_slice.infer
def _(x: Meta, *, starts: tuple[int, ...], sizes: tuple[int, ...], steps: tuple[int, ...]) -> list[Meta]:
    for d, a, n, s in zip(x.shape, starts, sizes, steps, strict=True):
        if n and not (0 <= a < d and 0 <= a + (n - 1) * s < d):
            raise shape_error("slice", "bounds", f"inside {x.shape}", (starts, sizes, steps))
    return [Meta(sizes, x.dtype)]


@_slice.view
def _(layout: Layout, *, starts: tuple[int, ...], sizes: tuple[int, ...], steps: tuple[int, ...]) -> Layout:
    offset = layout.offset + sum(a * s for a, s, n in zip(starts, layout.strides, sizes, strict=True) if n)
    return Layout(sizes, tuple(s * k for s, k in zip(layout.strides, steps, strict=True)), offset)


@primitive(saves="")
def _slice_grad(xp: Any, g: Any, *, shape: tuple[int, ...], starts: tuple[int, ...], steps: tuple[int, ...]) -> Any:
    """Zeros of `shape` with `g` written where a slice read it."""
    out = xp.zeros(shape, g.dtype)
    out[block_index(g.shape, starts, steps)] = g
    return out


def block_index(sizes: tuple[int, ...], starts: tuple[int, ...], steps: tuple[int, ...]) -> tuple[slice, ...]:
    """The index of a strided block."""
    return tuple(
        slice(a, a + n * s if a + n * s >= 0 else None, s) if n else slice(0, 0)
        for a, n, s in zip(starts, sizes, steps, strict=True)
    )


_slice_grad.infer(lambda g, *, shape, starts, steps: [Meta(shape, g.dtype)])


_slice_grad.cpu("copy_numpy:slice_gradient", strided=True)


def _places(ctx: Any) -> dict[str, Any]:
    return {"starts": ctx.attrs["starts"], "steps": ctx.attrs["steps"]}


_slice.vjp(lambda ctx, g: (_slice_grad(g, shape=ctx.inputs[0].shape, **_places(ctx)),))
_slice_grad.vjp(lambda ctx, g: (_slice(g, sizes=ctx.inputs[0].shape, **_places(ctx)),))


def slice_(x: Tensor, starts: Any, sizes: Any, steps: Any = None) -> Tensor:
    """A strided block of `x`: along each axis `sizes[i]` elements from `starts[i]` in steps of `steps[i]`
    (default 1), a view.
    """
    return _slice(
        x, starts=tuple(starts), sizes=tuple(sizes), steps=tuple(steps) if steps is not None else (1,) * x.ndim
    )


def flip(x: Tensor, axis: int | Sequence[int] | None = None) -> Tensor:
    """`x` in reverse order along `axis` (an int, several, or None for all), a view."""
    x = as_tensor(x)
    places = normalize_axes("flip", axis, x.ndim)
    starts = [max(d - 1, 0) if i in places else 0 for i, d in enumerate(x.shape)]
    return slice_(x, starts, x.shape, [-1 if i in places else 1 for i in range(x.ndim)])
