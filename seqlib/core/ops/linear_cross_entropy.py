"""The output layer and its cross entropy in one, so that the logits [N, V] never exist as a whole.

N rows (tokens), D width, V classes, R rows of a block. The gradients for a cotangent of 1 are made in the
forward pass, while a block of logits is at hand, and scaled by the cotangent in the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from seqlib.core.backends.blas import ROWS
from seqlib.core.backends.blas import product as matrix_product
from seqlib.core.backends.threads import spread
from seqlib.core.op import (
    Attrs,
    Meta,
    Sample,
    VjpContext,
    dtype_error,
    fused,
    need_float,
    need_int,
    shape_error,
)
from seqlib.core.ops.blocks import CACHE, float32_only, pieces, rows_per_block, same_float
from seqlib.core.ops.create import full, zeros
from seqlib.core.ops.cross_entropy import (
    _cross_entropy,
    check_targets,
    cross_entropy_bwd,
    loss_dtype,
    need_smoothing,
)
from seqlib.core.ops.matmul import matmul
from seqlib.core.tape import grad_enabled
from seqlib.core.tensor import Tensor, as_tensor

_LOGITS = 1 << 23
"""Bytes of a block of logits: enough rows for the products to run at full speed."""


@fused(outs="loss weight gx gw", visible=2, saves="x w targets gx gw")
def _linear_cross_entropy(
    x: Tensor, w: Tensor, targets: Tensor, *, smoothing: float, ignore_index: int, want_x: bool, want_w: bool
) -> tuple[Tensor, ...]:
    attrs = {"smoothing": smoothing, "ignore_index": ignore_index}
    logits = matmul(x, w, False, True)
    loss, weight, lse = _cross_entropy.fn(logits, targets, **attrs)
    gx = gw = zeros((0,), x.dtype)
    if want_x or want_w:
        g = cross_entropy_bwd.fn(full((), 1.0, x.dtype), logits.detach(), targets, lse.detach(), **attrs)
        gx = matmul(g, w.detach()) if want_x else gx
        gw = matmul(g, x.detach(), True, False) if want_w else gw
    return loss, weight, gx, gw


@_linear_cross_entropy.infer
def _(
    x: Meta, w: Meta, targets: Meta, *, smoothing: float, ignore_index: int, want_x: bool, want_w: bool
) -> list[Meta]:
    name = "linear_cross_entropy"
    need_float(name, "x", x)
    need_int(name, "targets", targets)
    if w.dtype != x.dtype:
        raise dtype_error(name, "w", f"{x.dtype}, as x", w.dtype)
    if len(x.shape) != 2:
        raise shape_error(name, "x", "[N, D]", x.shape)
    if len(w.shape) != 2 or w.shape[1] != x.shape[1] or w.shape[0] == 0:
        raise shape_error(name, "w", f"[V, {x.shape[1]}] with V > 0 (x is {x.shape})", w.shape)
    if targets.shape != x.shape[:1]:
        raise shape_error(name, "targets", f"[N] = {x.shape[:1]}", targets.shape)
    scalar, nothing = Meta((), loss_dtype(x.dtype)), Meta((0,), x.dtype)
    return [scalar, scalar, x if want_x else nothing, w if want_w else nothing]


@_linear_cross_entropy.flops
def _(x: Meta, w: Meta, targets: Meta, *, want_x: bool, want_w: bool, **attrs: Any) -> int:
    return 2 * (1 + want_x + want_w) * x.size * w.shape[0]


def _scratch(metas: Sequence[Meta | None], attrs: Attrs) -> list[Meta]:
    """A block of logits, its rows of x and its rows of gx."""
    x, w = metas[0], metas[1]
    assert x is not None and w is not None
    (n, d), v, size = x.shape, w.shape[0], x.dtype.itemsize
    rows = max(min(n, 64), rows_per_block(n, v, size, _LOGITS))
    return [Meta(s, x.dtype) for s in ((rows, v), (rows, d), (rows, d))]


def run(
    outs: Any,
    ins: Any,
    scratch: Any,
    *,
    smoothing: float,
    ignore_index: int,
    want_x: bool,
    want_w: bool,
    losses: Callable[[Any, Any, float, bool], float],
) -> None:
    """The kernel, for a given function of a block's logits (see `_losses`)."""
    x, w, targets = ins
    gx, gw = outs[2] if want_x else None, outs[3] if want_w else None
    counted = check_targets("linear_cross_entropy", targets, len(w), ignore_index)
    everything = len(counted) == len(x)
    if gx is not None and not everything:
        gx.fill(0)
    if gw is not None and not len(counted):
        gw.fill(0)
    loss = 0.0
    for piece in pieces(len(counted), len(scratch[0])):
        n = piece.stop - piece.start
        rows, logits = counted[piece], scratch[0][:n]
        # Ignored rows (padding) are left out of the products.
        xs = x[piece] if everything else np.take(x, rows, axis=0, out=scratch[1][:n], mode="clip")
        matrix_product(xs, w.T, logits)
        loss += losses(logits, targets[rows], smoothing, gx is not None or gw is not None)
        if gx is not None:
            product = gx[piece] if everything else scratch[2][:n]
            matrix_product(logits, w, product)
            if not everything:
                gx[rows] = product
        if gw is not None:
            _add_weight_gradient(gw, logits, xs, piece.start == 0)
    for out, value in zip(outs, (loss, len(counted)), strict=False):
        if out is not None:
            out[...] = value


def _losses(logits: Any, targets: Any, smoothing: float, want_grad: bool) -> float:
    """The sum of the losses of a block; its logits become their gradients if wanted, else they are spoilt."""
    classes = logits.shape[1]
    total = 0.0
    for rows in pieces(len(logits), rows_per_block(len(logits), classes, logits.itemsize, 2 * CACHE)):
        a, t = logits[rows], targets[rows]
        at = np.arange(len(t)), t
        np.subtract(a, np.maximum.reduce(a, axis=1, keepdims=True), out=a)
        loss = a[at] * -(1.0 - smoothing)
        if smoothing:
            loss -= np.add.reduce(a, axis=1) * (smoothing / classes)
        np.exp(a, out=a)
        norm = np.add.reduce(a, axis=1)
        loss += np.log(norm)
        total += float(loss.sum(dtype=np.float64))
        if want_grad:
            np.multiply(a, (1.0 / norm)[:, None], out=a)
            if smoothing:
                np.subtract(a, smoothing / classes, out=a)
            a[at] -= 1.0 - smoothing
    return total


def _add_weight_gradient(gw: Any, g: Any, x: Any, first: bool) -> None:
    """gw = gᵀ x for the first block, gw += gᵀ x for the others."""
    if first:
        matrix_product(g.T, x, gw)
    else:
        spread(_add_rows, len(gw), gw.size, gw, g, x, multiple=ROWS)


def _add_rows(first: int, last: int, gw: Any, g: Any, x: Any) -> None:
    # In pieces of rows that stay in the cache between the product and the addition.
    part = np.empty((rows_per_block(last - first, x.shape[1], x.itemsize), x.shape[1]), x.dtype)
    for rows in pieces(last - first, len(part)):
        start, stop = first + rows.start, first + rows.stop
        product = part[: stop - start]
        np.matmul(g[:, start:stop].T, x, out=product)
        np.add(gw[start:stop], product, out=gw[start:stop])


_linear_cross_entropy.cpu(partial(run, losses=_losses), when=same_float(0, 1), scratch=_scratch)
_linear_cross_entropy.cpu(
    "linear_cross_entropy_cpu:forward", needs="numba", when=float32_only(0, 1), scratch=_scratch
)


@_linear_cross_entropy.vjp
def _(ctx: VjpContext, g: Tensor | None, weight: Any) -> Sequence[Any]:
    if g is None:
        return None, None, None
    gx, gw = ctx.outputs[2:]
    return gx * g if ctx.needs[0] else None, gw * g if ctx.needs[1] else None, None


@_linear_cross_entropy.samples
def _() -> Iterable[Sample]:
    rng = np.random.default_rng(0)
    for n, d, v, smoothing in ((3, 4, 5, 0.0), (7, 3, 1023, 0.1), (1023, 2, 9, 0.2), (0, 3, 4, 0.1)):
        x, w = rng.normal(size=(n, d)).astype(np.float32), rng.normal(size=(v, d)).astype(np.float32)
        targets = rng.integers(0, v, n).astype(np.int32)
        for ignored in (0, 1):
            targets[n // 2 : n // 2 + ignored] = -1
            attrs = {"smoothing": smoothing, "ignore_index": -1, "want_x": True, "want_w": True}
            yield Sample((x, w, targets.copy()), attrs)
    attrs = {"smoothing": 0.1, "ignore_index": 2, "want_x": False, "want_w": False}
    yield Sample((x[:0], w, targets[:0]), attrs, grad=())
    attrs = {"smoothing": 0.1, "ignore_index": 2, "want_x": True, "want_w": False}
    yield Sample((np.ones((4, 3), np.float32), w, np.array([0, 2, 2, 1])), attrs, grad=(0,))


def linear_cross_entropy(
    x: Tensor, w: Tensor, targets: Tensor, smoothing: float = 0.0, ignore_index: int = -1
) -> tuple[Tensor, Tensor]:
    """`cross_entropy(x wᵀ, targets)` in blocks of rows: (sum of the losses in nats, number of counted rows),
    0-d.

    x floating [N, D], w [V, D] in the same dtype, targets int [N]. The gradients by x and w are computed at
    once if one of them requires it. Raises IndexRangeError for a target that is neither in [0, V) nor
    `ignore_index` (in a compiled function when it runs), UsageError for a smoothing outside [0, 1],
    ShapeError, DtypeError.
    """
    x, w = as_tensor(x), as_tensor(w)
    tracking = grad_enabled()
    return _linear_cross_entropy(
        x,
        w,
        targets,
        smoothing=need_smoothing("linear_cross_entropy", smoothing),
        ignore_index=int(ignore_index),
        want_x=tracking and x.requires_grad,
        want_w=tracking and w.requires_grad,
    )
