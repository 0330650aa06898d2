"""`x[index]` with NumPy's meaning: integers, slices, None and Ellipsis are views; integer arrays pick
elements.

Basic indices become one slice and one reshape. Index arrays (one or several, broadcast together) become one
`take`: the axes that they index are brought together and merged, and the arrays become one array of
positions along the merged axis.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from seqlib.core import debug, dtypes
from seqlib.core.graph import Value
from seqlib.core.op import Meta, broadcast_shapes, dtype_error, need_int, primitive, shape_error
from seqlib.core.ops.bounds import IndexRangeError, check_bounds
from seqlib.core.ops.index import take
from seqlib.core.ops.shape import identity, reshape, slice_, transpose
from seqlib.core.tensor import Tensor, as_tensor, tensor
from seqlib.util.errors import TraceError


class _Entry(NamedTuple):
    """One item of an index: "new" (an axis of size 1), "slice", "int" or "array"; `size` is what it leaves
    of its axis.
    """

    kind: str
    start: int = 0
    size: int = 1
    step: int = 1
    axis_size: int = 1
    array: Tensor | None = None


@primitive(differentiable=False)
def _ravel_index(xp: Any, *indices: Any, sizes: tuple[int, ...]) -> Any:
    """Row-major positions in an array of shape `sizes` of the elements at (indices[0], indices[1], …),
    broadcast together.
    """
    flat: Any = 0
    for k, (index, size) in enumerate(zip(indices, sizes, strict=True)):
        check_bounds("getitem", f"index array {k}", index, size)
        flat = flat * size + xp.where(index < 0, index + size, index)
    return flat


@_ravel_index.infer
def _(*indices: Meta, sizes: tuple[int, ...]) -> list[Meta]:
    for k, index in enumerate(indices):
        need_int("getitem", f"index array {k}", index)
    dtype = dtypes.int32 if math.prod(sizes) < 2**31 else dtypes.int64
    return [Meta(broadcast_shapes("getitem", *(i.shape for i in indices)), dtype)]


def getitem(x: Tensor, index: Any) -> Tensor:
    """`x[index]` by NumPy's rules, differentiable by x.

    An index is an int, slice, None, Ellipsis, an integer array (tensor, NumPy array or list), or a bool
    mask, or a tuple of them. A mask is allowed where its content is known: not for a tensor inside a
    compiled function, where the size of the result would depend on it (TraceError). Raises IndexRangeError
    for an integer out of range, ShapeError for too many indices.
    """
    items = _arrays(x, index if isinstance(index, tuple) else (index,))
    advanced = any(isinstance(i, Tensor) for i in items)
    entries = _entries(x.shape, items, advanced)
    y = _basic(x, entries)
    return _advanced(y, [e for e in entries if e.kind != "int"]) if advanced else y


def _arrays(x: Tensor, items: Sequence[Any]) -> list[Any]:
    """The items with arrays as integer tensors, masks replaced by their indices, and Ellipsis by full
    slices.
    """
    found: list[Any] = []
    for item in items:
        if item is None or item is Ellipsis or isinstance(item, slice):
            found.append(item)
        elif isinstance(item, (int, np.integer)) and not isinstance(item, bool):
            found.append(int(item))
        elif isinstance(item, (Tensor, np.ndarray, list)):
            found += _index_tensors(item)
        else:
            expected = "int, slice, None, Ellipsis, an integer array or a bool mask"
            raise dtype_error("getitem", "index", expected, f"{type(item).__name__} {item!r}")
    used = sum(1 for i in found if i is not None and i is not Ellipsis)
    ellipses = sum(1 for i in found if i is Ellipsis)
    if used > x.ndim:
        raise shape_error("getitem", "index", f"at most {x.ndim} indices for shape {x.shape}", used)
    if ellipses > 1:
        raise shape_error("getitem", "index", "of at most one Ellipsis", ellipses)
    at = next((k for k, i in enumerate(found) if i is Ellipsis), len(found))
    return [*found[:at], *[slice(None)] * (x.ndim - used), *found[at + 1 :]]


def _index_tensors(item: Any) -> list[Tensor]:
    nothing = isinstance(item, list) and np.size(item) == 0  # which NumPy takes for floats
    index = as_tensor(np.zeros(np.shape(item), np.int32) if nothing else item)
    if index.dtype != dtypes.bool_:
        if not dtypes.is_int(index.dtype):
            raise dtype_error("getitem", "index", "of integers or a bool mask", index.dtype)
        return [index]
    content = index.data.constant if isinstance(index.data, Value) else index.data
    if content is None:
        raise TraceError(
            "getitem: a bool mask inside a compiled function gives a result whose shape is not known "
            f"(at {debug.where()}); use seqlib.where, or make the indices outside"
        )
    return [tensor(positions) for positions in np.nonzero(content)]


def _entries(shape: tuple[int, ...], items: Sequence[Any], advanced: bool) -> list[_Entry]:
    sizes = iter(shape)
    entries: list[_Entry] = []
    for item in items:
        if item is None:
            entries.append(_Entry("new"))
            continue
        d = next(sizes)
        if isinstance(item, slice):
            start, stop, step = item.indices(d)
            entries.append(_Entry("slice", start, len(range(start, stop, step)), step, d))
        elif isinstance(item, Tensor):
            entries.append(_Entry("array", 0, d, 1, d, item))
        else:
            if not -d <= item < d:
                raise IndexRangeError(f"getitem: index should be in [{-d}, {d}), got {item} (at {debug.where()})")
            # Beside index arrays an integer is one of them: it decides where the picked axes go.
            entries.append(
                _Entry("array", 0, d, 1, d, tensor(np.int32(item))) if advanced else _Entry("int", item % d, 1, 1, d)
            )
    return entries


def _basic(x: Tensor, entries: Sequence[_Entry]) -> Tensor:
    """Slices, integers and new axes: one view of a view."""
    of_x = [e for e in entries if e.kind != "new"]
    sizes = tuple(e.size for e in of_x)
    whole = sizes == x.shape and all(e.start == 0 and e.step == 1 for e in of_x)
    y = identity(x) if whole else slice_(x, [e.start if e.size else 0 for e in of_x], sizes, [e.step for e in of_x])
    shape = tuple(e.size for e in entries if e.kind != "int")
    return y if shape == y.shape else reshape(y, shape)


def _advanced(y: Tensor, entries: Sequence[_Entry]) -> Tensor:
    """Pick by index arrays from `y`, whose axes are `entries`."""
    places = [k for k, e in enumerate(entries) if e.kind == "array"]
    arrays = [e.array for e in entries if e.array is not None]
    sizes = tuple(y.shape[k] for k in places)
    if len(places) == 1:
        return take(y, arrays[0], places[0])
    # NumPy's rule: the picked axes stay where they were if they are neighbours, and go to the front otherwise.
    at = places[0] if places[-1] - places[0] == len(places) - 1 else 0
    others = [k for k in range(y.ndim) if k not in places]
    order = (*others[:at], *places, *others[at:])
    if order != tuple(range(y.ndim)):
        y = transpose(y, order)
    merged = reshape(y, (*y.shape[:at], math.prod(sizes), *y.shape[at + len(places) :]))
    return take(merged, _ravel_index(*arrays, sizes=sizes), at)
