"""Cross entropy of logits with label smoothing and ignored targets; and with the output layer in one, so that the
logits never exist as a whole. N rows (tokens), D width, V classes, R rows of a block.

With log p = log_softmax(logits), ε the smoothing (Szegedy et al. 2016) and t the target, a row costs
(1-ε)·(-log p[t]) + ε·mean over V of -log p; rows whose target is `ignore_index` cost and weigh nothing.
"""

from collections.abc import Sequence
from typing import Any

from seqlib.core import dtypes
from seqlib.core.op import Attrs, Meta, Metas, VjpContext, fused, need_alike, need_float, need_int, shape_error
from seqlib.core.ops.blocks import block_scratch, float32_only, rows_per_block, same_float
from seqlib.core.ops.create import full, zeros
from seqlib.core.ops.elementwise import exp, not_equal, where
from seqlib.core.ops.index import gather, one_hot
from seqlib.core.ops.matmul import matmul
from seqlib.core.ops.reduce import mean, sum
from seqlib.core.ops.shape import reshape
from seqlib.core.ops.statistics import logsumexp
from seqlib.core.tape import grad_enabled
from seqlib.core.tensor import Tensor, as_tensor
from seqlib.util.errors import UsageError


def _smoothing(op: str, smoothing: float) -> float:
    """Label smoothing as a float. Raises UsageError unless it is in [0, 1]."""
    if not 0.0 <= smoothing <= 1.0:
        raise UsageError(f"{op}: smoothing should be in [0, 1], got {smoothing}")
    return float(smoothing)


def _constant(weights: Any) -> Tensor | None:
    return None if weights is None else as_tensor(weights).detach()


def _check_targets(op: str, targets: Meta, weights: Meta | None, x: Meta) -> None:
    """Targets, one for each row of x, and their weights, if any, in x's dtype."""
    need_int(op, "targets", targets)
    if targets.shape != x.shape[:1]:
        raise shape_error(op, "targets", f"[N] = {x.shape[:1]}", targets.shape)
    if weights is not None and (weights.shape, weights.dtype) != (targets.shape, x.dtype):
        expected = f"{x.dtype} of shape {targets.shape}, one for each target"
        raise shape_error(op, "weights", expected, f"{weights.dtype} {weights.shape}")


@fused(outs="loss weight lse", visible=2, saves="logits targets weights lse")
def _cross_entropy(
    logits: Tensor, targets: Tensor, weights: Any = None, *, smoothing: float, ignore_index: int
) -> tuple[Tensor, ...]:
    counted = not_equal(targets, ignore_index)
    lse = logsumexp(logits, axis=-1)
    index = reshape(where(counted, targets, 0), (targets.size, 1))
    loss = lse - (1.0 - smoothing) * reshape(gather(logits, index, axis=1), targets.shape)
    if smoothing:
        loss = loss - smoothing * mean(logits, axis=-1)
    factors = counted.astype(logits.dtype)
    if weights is not None:
        factors, loss = where(counted, weights, 0.0), loss * weights
    return sum(where(counted, loss, 0.0)), sum(factors), lse


@_cross_entropy.infer
def _(logits: Meta, targets: Meta, weights: Meta | None, *, smoothing: float, ignore_index: int) -> list[Meta]:
    need_float("cross_entropy", "logits", logits)
    if len(logits.shape) != 2 or logits.shape[1] == 0:
        raise shape_error("cross_entropy", "logits", "[N, V] with V > 0", logits.shape)
    _check_targets("cross_entropy", targets, weights, logits)
    scalar = Meta((), dtypes.sums(logits.dtype))
    return [scalar, scalar, Meta(targets.shape, dtypes.sums(logits.dtype))]


_cross_entropy.cpu("cross_entropy_numpy:forward", when=same_float(0, 2), scratch=block_scratch)


@fused(differentiable=False, like="logits")
def cross_entropy_bwd(
    g: Tensor, logits: Tensor, targets: Tensor, lse: Tensor, weights: Any = None, *, smoothing: float, ignore_index: int
) -> Tensor:
    """The gradient by the logits for the cotangent g (0-d) of the loss: g·(softmax - (1-ε)·onehot(t) - ε/V),
    times the row's weight, 0 if ignored."""
    n, classes = logits.shape
    counted = not_equal(targets, ignore_index)
    hot = one_hot(where(counted, targets, 0), depth=classes, dtype=logits.dtype)
    rows = exp(logits - reshape(lse, (n, 1))) - smoothing / classes - hot * (1.0 - smoothing)
    if weights is not None:
        rows = rows * reshape(weights, (n, 1))
    return where(reshape(counted, (n, 1)), rows * g, 0.0)


cross_entropy_bwd.cpu("cross_entropy_numpy:backward", when=same_float(0, 1, 3, 4))


@_cross_entropy.vjp
def _(ctx: VjpContext, g: Tensor | None, weight: Any) -> Sequence[Any]:
    if g is None:
        return None, None, None
    logits, targets, weights = ctx.inputs
    return cross_entropy_bwd(g, logits, targets, ctx.outputs[2], weights, **ctx.attrs), None, None


def cross_entropy(
    logits: Tensor, targets: Tensor, smoothing: float = 0.0, ignore_index: int = -1, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """(sum of the losses in nats, number of counted rows), both 0-d of at least float32.

    logits floating [N, V], targets int [N]. Each row whose target is not `ignore_index` costs
    (1-smoothing)·(-log p[target]) + smoothing·mean of -log p over V. With `weights` [N] in the logits' dtype
    (constants: they get no gradient) it is (sum of weight times loss, sum of the weights) of the counted rows.

    Raises IndexRangeError for another target outside [0, V) (in a compiled function when it runs), UsageError for a
    smoothing outside [0, 1], ShapeError, DtypeError.
    """
    return _cross_entropy(
        logits,
        targets,
        _constant(weights),
        smoothing=_smoothing("cross_entropy", smoothing),
        ignore_index=int(ignore_index),
    )


# -- with the output layer -----------------------------------------------------------------------------------

# The gradients for a cotangent of 1 are made in the forward pass, while a block of logits is at hand, and scaled by the
# cotangent in the backward pass.
_LOGITS = 1 << 24
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
def _(x: Meta, w: Meta, targets: Meta, weights: Meta | None, *, want_x: bool, want_w: bool, **attrs: Any) -> list[Meta]:
    name = "linear_cross_entropy"
    need_alike(name, x=x, w=w)
    if len(x.shape) != 2:
        raise shape_error(name, "x", "[N, D]", x.shape)
    if len(w.shape) != 2 or w.shape[1] != x.shape[1] or w.shape[0] == 0:
        raise shape_error(name, "w", f"[V, {x.shape[1]}] with V > 0 (x is {x.shape})", w.shape)
    _check_targets(name, targets, weights, x)
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
        _constant(weights),
        smoothing=_smoothing("linear_cross_entropy", smoothing),
        ignore_index=int(ignore_index),
        want_x=tracking and x.requires_grad,
        want_w=tracking and w.requires_grad,
    )
