"""Random ops: pure functions of a generator's state (see seqlib.core.philox), so a mask can always be made
again."""

from typing import Any

import numpy as np

from seqlib.core import debug, dtypes, philox
from seqlib.core.op import Meta, dtype_error, fused, need_float, primitive, shape_error
from seqlib.core.ops.blocks import float32_only
from seqlib.core.ops.elementwise import relu_bwd
from seqlib.core.rng import current_generator
from seqlib.core.tape import infer_composed
from seqlib.core.tensor import Tensor, as_tensor
from seqlib.util.errors import UsageError


def seed_offset(state: Any, draw: int) -> tuple[int, int]:
    """The Philox seed and offset of draw number `draw` after the int64 [2] array `state`."""
    seed, offset = np.asarray(state).view(np.uint64).tolist()
    return seed, (offset + draw) % 2**64


def need_state(op: str, state: Meta) -> None:
    if state.shape != (2,) or state.dtype != dtypes.int64:
        raise shape_error(op, "state", "int64 [2], a generator's state", f"{state.dtype} {state.shape}")


def need_rate(op: str, argument: str, p: float) -> float:
    """A dropout rate as a float. Raises UsageError unless 0 ≤ p < 1, also after rounding to 1/65536."""
    if not 0.0 <= p < 1.0 or philox.keep_threshold(p) > 65535:
        raise UsageError(f"{op}: {argument} should be in [0, 1 - 2**-16], got {p} (at {debug.where()})")
    return float(p)


@primitive(differentiable=False)
def random_bits(xp: Any, state: Any, *, shape: tuple[int, ...], draw: int) -> Any:
    """The 16-bit Philox draws of an array of `shape` as int32 in [0, 65536); state int64 [2], `draw` counts
    calls after it."""
    size = int(np.prod(shape, dtype=np.int64))
    words = philox.bits16(*seed_offset(state if xp is np else state.get(), draw), 0, size)
    return xp.asarray(words.astype(np.int32)).reshape(shape)


@random_bits.infer
def _(state: Meta, *, shape: tuple[int, ...], draw: int) -> list[Meta]:
    need_state("random_bits", state)
    return [Meta(tuple(shape), dtypes.int32)]


@primitive(saves="state")
def _dropout(xp: Any, x: Any, state: Any, *, p: float, draw: int) -> Any:
    bits = random_bits.fn(xp, state, shape=x.shape, draw=draw)
    return x * xp.where(bits >= philox.keep_threshold(p), philox.keep_scale(p), 0.0).astype(x.dtype)


@_dropout.infer
def _(x: Meta, state: Meta, *, p: float, draw: int) -> list[Meta]:
    need_float("dropout", "x", x)
    need_state("dropout", state)
    return [x]


_dropout.cpu("random_numpy:forward", overlap=((0, 0),))


_dropout.cpu("random_cpu:forward", needs="numba", when=float32_only(0), overlap=((0, 0),))


_dropout.vjp(lambda ctx, g: (_dropout(g, ctx.inputs[1], **ctx.attrs), None))


@fused(differentiable=False, fuse=(Meta((8,), dtypes.float32), Meta((2,), dtypes.int64), Meta((8,), dtypes.float32)))
def dropout_relu_bwd(g: Tensor, state: Tensor, r: Tensor, *, p: float, draw: int) -> Tensor:
    """The gradient through a relu with the result r and the dropout behind it."""
    return relu_bwd(_dropout(g, state, p=p, draw=draw), r)


infer_composed(dropout_relu_bwd)


@primitive(differentiable=False)
def _multinomial(xp: Any, logits: Any, state: Any, *, samples: int, draw: int) -> Any:
    given = xp.asarray(logits, xp.float64)
    if xp is np and not (np.isfinite(given).any(-1) & ~(np.isnan(given) | (given == np.inf)).any(-1)).all():
        raise UsageError(f"multinomial: logits should be numbers or -inf, one finite in each row (at {debug.where()})")
    sums = xp.cumsum(xp.exp(given - given.max(axis=-1, keepdims=True)), axis=-1)
    size = sums[..., 0].size * samples
    words = philox.bits32(*seed_offset(state if xp is np else state.get(), draw), 0, 2 * size).astype(np.uint64)
    uniform = ((words[::2] << np.uint64(21)) | (words[1::2] >> np.uint64(11))).astype(np.float64) * 2.0**-53
    goals = xp.asarray(uniform).reshape(*sums.shape[:-1], samples) * sums[..., -1:]
    rows = zip(sums.reshape(-1, sums.shape[-1]), goals.reshape(-1, samples), strict=True)
    found = [xp.searchsorted(row, goal, side="right") for row, goal in rows]
    return xp.asarray(found, xp.int32).reshape(goals.shape)


@_multinomial.infer
def _(logits: Meta, state: Meta, *, samples: int, draw: int) -> list[Meta]:
    need_float("multinomial", "logits", logits)
    need_state("multinomial", state)
    if not logits.shape or logits.shape[-1] == 0:
        raise shape_error("multinomial", "logits", "[..., V] with V > 0", logits.shape)
    if samples < 0:
        raise shape_error("multinomial", "samples", "0 or more", samples)
    return [Meta((*logits.shape[:-1], samples), dtypes.int32)]


def multinomial(logits: Tensor, samples: int = 1) -> Tensor:
    """`samples` independent draws, with replacement, from softmax(logits) of each row: floating [..., V] → int32
    [..., samples].

    Logits may be unnormalised log-probabilities (`log(p)` for probabilities p); a class of -inf is never drawn. Draw i
    (row-major) inverts the cumulative distribution at a number of 53 bits, words 2i and 2i + 1 of one draw of the
    generator in force. Raises UsageError for a row without a finite logit, or with NaN or inf (in a compiled function
    when it runs), ShapeError and DtypeError.
    """
    state, draw = current_generator().draw()
    return _multinomial(as_tensor(logits), state, samples=int(samples), draw=draw)


def dropout(x: Tensor, p: float) -> Tensor:
    """Zero each element of x (floating) with probability p and scale the rest by 1/(1-p) (Srivastava et al.
    2014).

    p is rounded to a multiple of 1/65536. The mask is a draw of the generator in force (`use_generator`), is
    not kept, and is made again in the backward pass. p = 0 returns x itself and draws nothing. Raises
    UsageError unless 0 ≤ p < 1, DtypeError.
    """
    rate = need_rate("dropout", "p", p)
    x = as_tensor(x)
    if philox.keep_threshold(rate) == 0:
        return x
    if not dtypes.is_float(x.dtype):
        raise dtype_error("dropout", "x", "a floating dtype", x.dtype)
    state, draw = current_generator().draw()
    return _dropout(x, state, p=rate, draw=draw)
