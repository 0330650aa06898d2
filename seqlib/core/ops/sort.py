"""Sorting along an axis: sort, argsort, top_k. Stable: equal elements keep their order. NaN counts as
greater than all numbers.
"""

from collections.abc import Sequence
from typing import Any

from seqlib.core import dtypes
from seqlib.core.op import Meta, VjpContext, normalize_axis, primitive, shape_error
from seqlib.core.ops.index import _gather_grad, gather
from seqlib.core.tensor import Tensor, as_tensor


def stable_order(xp: Any, x: Any, axis: int, descending: bool) -> Any:
    if not descending:
        return xp.argsort(x, axis=axis, kind="stable")
    # The stable order of the reversed array, read backwards, is the descending one with ties in their first order.
    backwards = xp.flip(xp.argsort(xp.flip(x, axis), axis=axis, kind="stable"), axis)
    return x.shape[axis] - 1 - backwards


@primitive(saves="", differentiable=False)
def _argsort(xp: Any, x: Any, *, axis: int, descending: bool) -> Any:
    return stable_order(xp, x, axis, descending)


_argsort.infer(lambda x, *, axis, descending: [Meta(x.shape, dtypes.int32)])


def argsort(x: Tensor, axis: int = -1, descending: bool = False) -> Tensor:
    """The int32 indices that sort `x` along `axis`; of equal elements the lower index comes first,
    descending too. Raises ShapeError for a 0-d x or an axis out of range.
    """
    x = as_tensor(x)
    if not x.ndim:
        raise shape_error("argsort", "x", "of at least one dimension", x.shape)
    return _argsort(x, axis=normalize_axis("argsort", axis, x.ndim), descending=bool(descending))


def sort(x: Tensor, axis: int = -1, descending: bool = False) -> Tensor:
    """`x` sorted along `axis`, from the greatest down with `descending`; gradients go where the elements came from.
    Raises ShapeError for an axis out of range."""
    x = as_tensor(x)
    return gather(x, argsort(x, axis, descending), axis)


# -- top_k -----------------------------------------------------------------------------------------


@primitive(outs="values indices", saves="indices")
def _top_k(xp: Any, x: Any, *, k: int) -> Any:
    indices = stable_order(xp, x, -1, True)[..., :k]
    return xp.take_along_axis(x, indices, axis=-1), indices


@_top_k.infer
def _(x: Meta, *, k: int) -> list[Meta]:
    shape = (*x.shape[:-1], k)
    return [Meta(shape, x.dtype), Meta(shape, dtypes.int32)]


_top_k.cpu("sort_numpy:top_k")


@_top_k.vjp
def _(ctx: VjpContext, g: Tensor, _: Tensor | None) -> Sequence[Any]:
    shape = ctx.inputs[0].shape
    return (_gather_grad(g, ctx.outputs[1], shape=shape, axis=len(shape) - 1),)


def top_k(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """(values, int32 indices) of the `k` greatest of x [..., N] → [..., k], in descending order; ties go to the
    lower index.

    Raises ShapeError when the axis has fewer than `k` elements.
    """
    x = as_tensor(x)
    if not x.ndim or not 0 <= k <= x.shape[-1]:
        raise shape_error("top_k", "k", f"in [0, {x.shape[-1] if x.ndim else 0}], the last axis of x", k)
    return _top_k(x, k=int(k))
