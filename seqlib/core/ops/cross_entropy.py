"""Cross entropy of logits with label smoothing and ignored targets. N rows (tokens), V classes.

With log p = log_softmax(logits), ε the smoothing (Szegedy et al. 2016) and t the target, a row costs
(1-ε)·(-log p[t]) + ε·mean over V of -log p; rows whose target is `ignore_index` cost and weigh nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seqlib.core import dtypes
from seqlib.core.op import Meta, VjpContext, fused, need_float, need_int, shape_error
from seqlib.core.ops.blocks import block_scratch, same_float
from seqlib.core.ops.elementwise import exp, not_equal, where
from seqlib.core.ops.index import gather, one_hot
from seqlib.core.ops.reduce import mean, sum
from seqlib.core.ops.shape import reshape
from seqlib.core.ops.statistics import logsumexp
from seqlib.core.tensor import Tensor, as_tensor
from seqlib.util.errors import UsageError


def need_smoothing(op: str, smoothing: float) -> float:
    """Label smoothing as a float. Raises UsageError unless it is in [0, 1]."""
    if not 0.0 <= smoothing <= 1.0:
        raise UsageError(f"{op}: smoothing should be in [0, 1], got {smoothing}")
    return float(smoothing)


def check_weights(op: str, weights: Meta | None, targets: Meta, x: Meta) -> None:
    """Raises ShapeError unless the weights, if any, fit the targets and have x's dtype."""
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
    need_int("cross_entropy", "targets", targets)
    if len(logits.shape) != 2 or logits.shape[1] == 0:
        raise shape_error("cross_entropy", "logits", "[N, V] with V > 0", logits.shape)
    if targets.shape != logits.shape[:1]:
        raise shape_error("cross_entropy", "targets", f"[N] = {logits.shape[:1]}", targets.shape)
    check_weights("cross_entropy", weights, targets, logits)
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
        None if weights is None else as_tensor(weights).detach(),
        smoothing=need_smoothing("cross_entropy", smoothing),
        ignore_index=int(ignore_index),
    )
