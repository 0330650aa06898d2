"""Rotary position embedding (Su et al. 2021, "RoFormer")."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from seqlib.core.op import Meta, VjpContext, need_float, need_int, primitive, shape_error
from seqlib.core.ops.blocks import float32_only, same_float
from seqlib.core.tensor import Tensor, as_tensor

Scaling = tuple[float, float, float, float]
"""Factor, low, high, length: see `rotary`."""


def cosine_sine(
    xp: Any, positions: Any, half: int, base: float, inverse: bool, scaling: Scaling | None
) -> tuple[Any, Any]:
    """cos and sin of positions · rates, float64 [..., T, 1, half]; the sine negated for `inverse`."""
    rates = base ** (-xp.arange(half, dtype=xp.float64) / max(half, 1))
    if scaling is not None:
        factor, low, high, length = scaling
        kept = xp.clip((length * rates / (2 * math.pi) - low) / (high - low), 0.0, 1.0)
        rates *= (1 - kept) / factor + kept
    angles = positions[..., None, None].astype(xp.float64) * rates
    sine = xp.sin(angles)
    return xp.cos(angles), -sine if inverse else sine


@primitive(saves="positions")
def _rotary(
    xp: Any, x: Any, positions: Any, *, base: float, inverse: bool, heads: int, scaling: Scaling | None = None
) -> Any:
    half = x.shape[-1] // 2
    cosine, sine = (a.astype(x.dtype) for a in cosine_sine(xp, positions, half, base, inverse, scaling))
    first, second, rest = x[..., :heads, :half], x[..., :heads, half:], x[..., heads:, :]
    turned = xp.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)
    return xp.concatenate([turned, rest], axis=-2)


@_rotary.infer
def _(x: Meta, positions: Meta, *, heads: int, **attrs: Any) -> list[Meta]:
    need_float("rotary", "x", x)
    need_int("rotary", "positions", positions)
    if len(x.shape) < 3 or x.shape[-1] % 2:
        raise shape_error("rotary", "x", "[..., T, H, K] with an even K", x.shape)
    if not 0 <= heads <= x.shape[-2]:
        raise shape_error("rotary", "heads", f"in [0, {x.shape[-2]}], the heads of x", heads)
    if positions.shape not in (x.shape[-3:-2], x.shape[:-2]):
        raise shape_error("rotary", "positions", f"{x.shape[-3:-2]} or {x.shape[:-2]}", positions.shape)
    return [x]


_rotary.cpu("rotary_numpy:forward", when=same_float(0), overlap=((0, 0),))


_rotary.cpu("rotary_cpu:forward", needs="numba", when=float32_only(0), overlap=((0, 0),))


@_rotary.vjp
def _(ctx: VjpContext, g: Tensor) -> Sequence[Any]:
    # A rotation's transpose is the rotation back.
    return _rotary(g, ctx.inputs[1], **{**ctx.attrs, "inverse": not ctx.attrs["inverse"]}), None


def rotary(
    x: Tensor, positions: Tensor, base: float = 10000.0, heads: int | None = None, scaling: Scaling | None = None
) -> Tensor:
    """x floating [..., T, H, K] with the pairs (i, i + K/2) of each head turned by positions · base^(-2i/K).

    positions int [T], or [..., T] as x. Only the first `heads` of H are turned (default: all). The product of a
    turned query and a turned key depends on the difference of their positions alone. `scaling` (factor, low, high, L)
    makes pairs slow for longer texts than the L trained on (Llama 3.1): those that turn at most `low` times in L turn
    `factor` times slower, those that turn at least `high` times as before, between them it is interpolated. Raises
    ShapeError for an odd K or positions that do not fit, DtypeError.
    """
    x = as_tensor(x)
    turned = (x.shape[-2] if x.ndim > 1 else 0) if heads is None else int(heads)
    return _rotary(x, positions, base=float(base), inverse=False, heads=turned, scaling=scaling)
