"""softmax and log_softmax along an axis. Rows are [rows, N] below."""

from functools import partial

from seqlib.core import dtypes
from seqlib.core.op import Meta, Op, fused, need_float, normalize_axis, shape_error
from seqlib.core.ops.blocks import block_scratch, same_float
from seqlib.core.ops.elementwise import exp, log
from seqlib.core.ops.reduce import max, sum
from seqlib.core.ops.shape import swapaxes
from seqlib.core.tensor import Tensor

# -- softmax -------------------------------------------------------------------------------------------------


@fused(saves="x y", fuse=(Meta((3, 5), dtypes.float32),))
def _softmax(x: Tensor) -> Tensor:
    # The shift by the maximum changes nothing in exact arithmetic, so no gradient goes through it.
    e = exp(x - max(x, axis=-1, keepdims=True).detach()) if x.shape[-1] else exp(x)
    return e / sum(e, axis=-1, keepdims=True)


@fused(differentiable=False, like="y")
def softmax_bwd(g: Tensor, y: Tensor) -> Tensor:
    """The gradient of softmax by its result: y (g - Σ g y)."""
    return y * (g - sum(g * y, axis=-1, keepdims=True))


_softmax.cpu("softmax_numpy:softmax", when=same_float(), overlap=((0, 0),))


softmax_bwd.cpu("softmax_numpy:softmax_gradient", when=same_float(), overlap=((0, 0),))


_softmax.vjp(lambda ctx, g: (softmax_bwd(g, ctx.outputs[0]),))


# -- log_softmax ---------------------------------------------------------------------------------------------


@fused(saves="x y", fuse=(Meta((3, 5), dtypes.float32),))
def _log_softmax(x: Tensor) -> Tensor:
    shifted = x - max(x, axis=-1, keepdims=True).detach() if x.shape[-1] else x
    return shifted - log(sum(exp(shifted), axis=-1, keepdims=True))


@fused(differentiable=False, like="y")
def log_softmax_bwd(g: Tensor, y: Tensor) -> Tensor:
    """The gradient of log_softmax by its result: g - exp(y) Σ g."""
    return g - exp(y) * sum(g, axis=-1, keepdims=True)


_log_softmax.cpu("softmax_numpy:log_softmax", when=same_float(), scratch=block_scratch, overlap=((0, 0),))


log_softmax_bwd.cpu("softmax_numpy:log_softmax_gradient", when=same_float(), scratch=block_scratch, overlap=((0, 0),))


_log_softmax.vjp(lambda ctx, g: (log_softmax_bwd(g, ctx.outputs[0]),))


# -- what they share -----------------------------------------------------------------------------------------


def _like_x(op: str, x: Meta) -> list[Meta]:
    need_float(op, "x", x)
    if not x.shape:
        raise shape_error(op, "x", "of at least 1 dimension", x.shape)
    return [x]


_softmax.infer(partial(_like_x, "softmax"))
_log_softmax.infer(partial(_like_x, "log_softmax"))


def _along(op: Op, x: Tensor, axis: int) -> Tensor:
    at = normalize_axis(op.name, axis, x.ndim)
    return op(x) if at == x.ndim - 1 else swapaxes(op(swapaxes(x, at, -1)), at, -1)


def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """exp(x) / Σ exp(x) along `axis`, in the shape of x (floating). The maximum is subtracted first, so
    nothing overflows; a row of -inf alone gives NaN (ops.attention gives zeros there). Raises ShapeError for
    an axis out of range."""
    return _along(_softmax, x, axis)


def log_softmax(x: Tensor, axis: int = -1) -> Tensor:
    """x - log Σ exp(x) along `axis`, in the shape of x (floating), without overflow. Raises ShapeError for an
    axis out of range."""
    return _along(_log_softmax, x, axis)
