"""The output layer and its cross entropy in one, so that the logits [N, V] never exist as a whole.

N rows (tokens), D width, V classes, R rows of a block. The gradients for a cotangent of 1 are made in the
forward pass, while a block of logits is at hand, and scaled by the cotangent in the backward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seqlib.core import dtypes
from seqlib.core.op import Attrs, Meta, Metas, VjpContext, fused, need_alike, need_int, shape_error
from seqlib.core.ops.blocks import float32_only, rows_per_block, same_float
from seqlib.core.ops.create import full, zeros
from seqlib.core.ops.cross_entropy import _cross_entropy, check_weights, cross_entropy_bwd, need_smoothing
from seqlib.core.ops.matmul import matmul
from seqlib.core.tape import grad_enabled
from seqlib.core.tensor import Tensor, as_tensor

_LOGITS = 1 << 23
"""Bytes of a block of logits: enough rows for the products to run at full speed."""


@fused(outs="loss weight gx gw", visible=2, saves="x w targets weights gx gw")
def _linear_cross_entropy(
    x: Tensor,
    w: Tensor,
    targets: Tensor,
    weights: Any = None,
    *,
    smoothing: float,
    ignore_index: int,
    want_x: bool,
    want_w: bool,
) -> tuple[Tensor, ...]:
    attrs = {"smoothing": smoothing, "ignore_index": ignore_index}
    logits = matmul(x, w, False, True)
    loss, weight, lse = _cross_entropy.fn(logits, targets, weights, **attrs)
    gx = gw = zeros((0,), x.dtype)
    if want_x or want_w:
        one = full((), 1.0, x.dtype)
        g = cross_entropy_bwd.fn(one, logits.detach(), targets, lse.detach(), weights, **attrs)
        gx = matmul(g, w.detach()) if want_x else gx
        gw = matmul(g, x.detach(), True, False) if want_w else gw
    return loss, weight, gx, gw


@_linear_cross_entropy.infer
def _(
    x: Meta,
    w: Meta,
    targets: Meta,
    weights: Meta | None,
    *,
    smoothing: float,
    ignore_index: int,
    want_x: bool,
    want_w: bool,
) -> list[Meta]:
    name = "linear_cross_entropy"
    need_alike(name, x=x, w=w)
    need_int(name, "targets", targets)
    if len(x.shape) != 2:
        raise shape_error(name, "x", "[N, D]", x.shape)
    if len(w.shape) != 2 or w.shape[1] != x.shape[1] or w.shape[0] == 0:
        raise shape_error(name, "w", f"[V, {x.shape[1]}] with V > 0 (x is {x.shape})", w.shape)
    if targets.shape != x.shape[:1]:
        raise shape_error(name, "targets", f"[N] = {x.shape[:1]}", targets.shape)
    check_weights(name, weights, targets, x)
    scalar, nothing = Meta((), dtypes.sums(x.dtype)), Meta((0,), x.dtype)
    gw = Meta(w.shape, dtypes.sums(w.dtype))  # a sum over all rows
    return [scalar, scalar, x if want_x else nothing, gw if want_w else nothing]


@_linear_cross_entropy.flops
def _(x: Meta, w: Meta, *rest: Any, want_x: bool, want_w: bool, **attrs: Any) -> int:
    return 2 * (1 + want_x + want_w) * x.size * w.shape[0]


def _scratch(metas: Metas, attrs: Attrs) -> list[Meta]:
    """A block of logits, its rows of x and its rows of gx."""
    x, w = metas[0], metas[1]
    (n, d), v, size = x.shape, w.shape[0], x.dtype.itemsize
    rows = max(min(n, 64), rows_per_block(n, v, size, _LOGITS))
    return [Meta(s, x.dtype) for s in ((rows, v), (rows, d), (rows, d))]


_linear_cross_entropy.cpu("linear_cross_entropy_numpy:forward", when=same_float(0, 1, 3), scratch=_scratch)
_linear_cross_entropy.cpu(
    "linear_cross_entropy_cpu:forward", needs="numba", when=float32_only(0, 1, 3), scratch=_scratch
)


@_linear_cross_entropy.vjp
def _(ctx: VjpContext, g: Tensor | None, weight: Any) -> Sequence[Any]:
    if g is None:
        return None, None, None, None
    gx, gw = ctx.outputs[2:]
    return gx * g if ctx.needs[0] else None, gw * g if ctx.needs[1] else None, None, None


def linear_cross_entropy(
    x: Tensor, w: Tensor, targets: Tensor, smoothing: float = 0.0, ignore_index: int = -1, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """`cross_entropy(x wᵀ, targets)` in blocks of rows: (sum of the losses in nats, number of counted rows),
    0-d.

    x floating [N, D], w [V, D] in the same dtype, targets int [N], `weights` as there. The
    gradients by x and w are computed at once if one of them requires it. Raises IndexRangeError for a target that is
    neither in [0, V) nor `ignore_index` (in a compiled function when it runs), UsageError for a smoothing outside
    [0, 1], ShapeError, DtypeError.
    """
    x, w = as_tensor(x), as_tensor(w)
    tracking = grad_enabled()
    return _linear_cross_entropy(
        x,
        w,
        targets,
        None if weights is None else as_tensor(weights).detach(),
        smoothing=need_smoothing("linear_cross_entropy", smoothing),
        ignore_index=int(ignore_index),
        want_x=tracking and x.requires_grad,
        want_w=tracking and w.requires_grad,
    )
