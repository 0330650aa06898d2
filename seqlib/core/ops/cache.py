"""Writing a block of a location in place: the step of a key-value cache."""

from collections.abc import Sequence
from typing import Any

from seqlib.core import dtypes
from seqlib.core.op import Meta, VjpContext, dtype_error, normalize_axis, primitive, shape_error
from seqlib.core.ops.bounds import check_bounds
from seqlib.core.ops.create import arange, zeros
from seqlib.core.ops.index import take
from seqlib.core.tensor import Tensor, as_tensor


@primitive(saves="index")
def _update_slice(xp: Any, cache: Any, x: Any, index: Any, *, axis: int) -> Any:
    out = cache.copy()
    out[block(index, cache.shape, x.shape, axis)] = x
    return out


def block(index: Any, cache: tuple[int, ...], part: tuple[int, ...], axis: int) -> tuple[slice, ...]:
    """The index of the part of a cache that an update writes."""
    check_bounds("update_slice", "index", index, cache[axis] - part[axis] + 1, negative=False)
    start = int(index)
    return (*(slice(None),) * axis, slice(start, start + part[axis]))


@_update_slice.infer
def _(cache: Meta, x: Meta, index: Meta, *, axis: int) -> list[Meta]:
    if index.shape or not dtypes.is_int(index.dtype):
        raise dtype_error("update_slice", "index", "a 0-d int32 or int64 tensor", f"{index.dtype}{list(index.shape)}")
    rest = [(*m.shape[:axis], *m.shape[axis + 1 :]) for m in (x, cache)]
    if len(x.shape) != len(cache.shape) or rest[0] != rest[1] or x.shape[axis] > cache.shape[axis]:
        expected = f"of the cache's shape {cache.shape}, at most so long along axis {axis}"
        raise shape_error("update_slice", "x", expected, x.shape)
    if x.dtype != cache.dtype:
        raise dtype_error("update_slice", "x", f"{cache.dtype} as the cache", x.dtype)
    return [cache]


_update_slice.cpu("copy_numpy:update_slice", strided=True, in_place=((0, 0),))


@_update_slice.vjp
def _(ctx: VjpContext, g: Tensor) -> Sequence[Any]:
    x, index, axis = ctx.inputs[1], ctx.inputs[2], ctx.attrs["axis"]
    g_cache = _update_slice(g, zeros(x.shape, g.dtype), index, axis=axis) if ctx.needs[0] else None
    g_x = take(g, index + arange(x.shape[axis]), axis) if ctx.needs[1] else None
    return g_cache, g_x, None


def update_slice(cache: Tensor, x: Tensor, index: Tensor, axis: int) -> Tensor:
    """`cache` with `x` written from position `index` (0-d int tensor) on along `axis`; the other axes
    agree.

    Eager, the result is a new tensor. In a compiled function the result is meant to be assigned to the
    location that `cache` is, which is then written in place, without a copy. Raises ShapeError, DtypeError,
    or IndexRangeError for a block that does not fit.
    """
    cache = as_tensor(cache)
    if not cache.ndim:
        raise shape_error("update_slice", "cache", "of at least one dimension", cache.shape)
    return _update_slice(cache, as_tensor(x), as_tensor(index), axis=normalize_axis("update_slice", axis, cache.ndim))
