"""Matrix products, batched, with transposed operands."""

from collections.abc import Sequence
from typing import Any

from seqlib.core import dtypes
from seqlib.core.op import Meta, VjpContext, broadcast_shapes, need_float, primitive, shape_error
from seqlib.core.ops.join import squeeze
from seqlib.core.ops.reduce import sum_to
from seqlib.core.ops.shape import reshape
from seqlib.core.tape import grad_enabled
from seqlib.core.tensor import Tensor, as_tensor


@primitive(saves="a b")
def _matmul(
    xp: Any, a: Any, b: Any, *, transpose_a: bool, transpose_b: bool, independent: bool = False, wide: bool = False
) -> Any:
    return xp.matmul(a.swapaxes(-1, -2) if transpose_a else a, b.swapaxes(-1, -2) if transpose_b else b)


@_matmul.infer
def _(a: Meta, b: Meta, *, transpose_a: bool, transpose_b: bool, independent: bool, wide: bool) -> list[Meta]:
    for name, x in (("a", a), ("b", b)):
        if len(x.shape) < 2:
            raise shape_error("matmul", name, "of at least 2 dimensions", x.shape)
        need_float("matmul", name, x)
    m, k = a.shape[-2:][::-1] if transpose_a else a.shape[-2:]
    k2, n = b.shape[-2:][::-1] if transpose_b else b.shape[-2:]
    if k != k2:
        a_text, b_text = (f"{x.shape}{' transposed' * t}" for x, t in ((a, transpose_a), (b, transpose_b)))
        raise shape_error("matmul", "b", f"of inner size {k} (a is {a_text})", b_text)
    dtype = dtypes.promote(a.dtype, b.dtype)
    shape = (*broadcast_shapes("matmul", a.shape[:-2], b.shape[:-2]), m, n)
    return [Meta(shape, dtypes.sums(dtype) if wide else dtype)]


@_matmul.flops
def _(a: Meta, b: Meta, *, transpose_a: bool, transpose_b: bool, **attrs: Any) -> int:
    n = b.shape[-2] if transpose_b else b.shape[-1]
    batch = Meta(broadcast_shapes("matmul", a.shape[:-2], b.shape[:-2]), a.dtype).size
    return 2 * batch * a.shape[-1] * a.shape[-2] * n


_matmul.cpu("product_numpy:matmul", strided=True, when=lambda metas, attrs: metas[0].dtype == metas[1].dtype)


@_matmul.vjp
def _(ctx: VjpContext, g: Tensor) -> Sequence[Any]:
    a, b = ctx.inputs
    ta, tb = ctx.attrs["transpose_a"], ctx.attrs["transpose_b"]
    ga, gb, alike = None, None, ctx.attrs["independent"]
    g = g.astype(a.dtype) if a.dtype == b.dtype else g  # of a wide product of 16 bits
    if ctx.needs[0]:
        ga = matmul(b, g, tb, True, independent=alike) if ta else matmul(g, b, False, not tb, independent=alike)
        ga = sum_to(ga, a.shape)
    if ctx.needs[1]:
        wide = a.ndim == b.ndim == 2  # a weight's: a sum over all rows, in float32 where a and b have 16 bits
        gb = matmul(g, a, True, ta, wide, alike) if tb else matmul(a, g, not ta, False, wide, alike)
        gb = sum_to(gb, b.shape)
    return ga, gb


def matmul(
    a: Tensor,
    b: Tensor,
    transpose_a: bool = False,
    transpose_b: bool = False,
    wide: bool = False,
    independent: bool | None = None,
) -> Tensor:
    """Matrix product over the last two axes, batched with broadcasting over the others.

    `transpose_a` and `transpose_b` read the last two axes of an operand exchanged, without a copy. A 1-d
    operand is a row (a) or a column (b), as in NumPy. `wide`: the product of 16-bit matrices is float32. `independent`
    (None: where no gradients are recorded): a row's bits are the same whatever the other rows are and however many.
    Raises ShapeError when the inner sizes differ.
    """
    a, b = as_tensor(a), as_tensor(b)
    if a.ndim == 1:
        row = matmul(reshape(a, (1, a.size)), b, False, transpose_b, wide, independent)
        return squeeze(row, -2 if b.ndim > 1 else -1)
    if b.ndim == 1:
        return squeeze(matmul(a, reshape(b, (b.size, 1)), transpose_a, False, wide, independent), -1)
    if a.ndim > 2 and b.ndim == 2 and not transpose_a:
        # One big product instead of a batch of small ones.
        flat = matmul(reshape(a, (-1 if a.size else 0, a.shape[-1])), b, False, transpose_b, wide, independent)
        return reshape(flat, (*a.shape[:-1], flat.shape[-1]))
    attrs = {"transpose_a": bool(transpose_a), "transpose_b": bool(transpose_b)}
    independent = not grad_enabled() if independent is None else independent
    return _matmul(a, b, **attrs, independent=independent, wide=bool(wide))
