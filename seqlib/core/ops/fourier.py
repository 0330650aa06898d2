"""Discrete Fourier transforms. A complex number is a pair (re, im) along a last axis of 2: the core has real dtypes.

N points, M = N // 2 + 1 frequencies of a real signal. A transform is linear, so its gradient is another one: that of
the transform scaled by s is the inverse direction scaled by s, for real signals with weights 2 or 1/2 on the
frequencies that stand for two.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from seqlib.core.op import Meta, VjpContext, need_float, normalize_axis, primitive, shape_error
from seqlib.core.ops.create import iota
from seqlib.core.ops.elementwise import equal, logical_or, where
from seqlib.core.ops.join import pad
from seqlib.core.ops.shape import reshape, slice_, swapaxes
from seqlib.core.tensor import Tensor, as_tensor
from seqlib.util.errors import unknown

_ADJOINT = {"backward": "forward", "forward": "backward", "ortho": "ortho"}
"""NumPy's `norm` of the transform back that has the same scale."""


def _complex(xp: Any, x: Any) -> Any:
    return xp.ascontiguousarray(x).view(xp.result_type(x.dtype, xp.complex64))[..., 0]


def _pairs(xp: Any, z: Any) -> Any:
    return xp.stack([z.real, z.imag], axis=-1)


@primitive(saves="")
def _fft(xp: Any, x: Any, *, inverse: bool, norm: str) -> Any:
    transform = xp.fft.ifft if inverse else xp.fft.fft
    return _pairs(xp, transform(_complex(xp, x), norm=norm))


@primitive(saves="")
def _rfft(xp: Any, x: Any, *, norm: str) -> Any:
    return _pairs(xp, xp.fft.rfft(x, norm=norm))


@primitive(saves="")
def _irfft(xp: Any, x: Any, *, n: int, norm: str) -> Any:
    return xp.fft.irfft(_complex(xp, x), n, norm=norm)


def _check(op: str, x: Meta, points: int) -> None:
    need_float(op, "x", x)
    if points < 1:
        raise shape_error(op, "x", "of at least one point along the axis", x.shape)


def _check_pairs(op: str, x: Meta) -> None:
    if len(x.shape) < 2 or x.shape[-1] != 2:
        raise shape_error(op, "x", "[..., points, 2], pairs (re, im) along the last axis", x.shape)
    _check(op, x, x.shape[-2])


@_fft.infer
def _(x: Meta, *, inverse: bool, norm: str) -> list[Meta]:
    _check_pairs("ifft" if inverse else "fft", x)
    return [x]


@_rfft.infer
def _(x: Meta, *, norm: str) -> list[Meta]:
    _check("rfft", x, x.shape[-1] if x.shape else 0)
    return [Meta((*x.shape[:-1], x.shape[-1] // 2 + 1, 2), x.dtype)]


@_irfft.infer
def _(x: Meta, *, n: int, norm: str) -> list[Meta]:
    _check_pairs("irfft", x)
    if n < 1 or x.shape[-2] != n // 2 + 1:
        raise shape_error("irfft", "n", f"with n // 2 + 1 = {x.shape[-2]} frequencies", n)
    return [Meta((*x.shape[:-2], n), x.dtype)]


def _weighted(x: Tensor, n: int, weight: float) -> Tensor:
    """Pairs [..., M, 2] with `weight` on the frequencies of n points that stand for two, a number and its conjugate."""
    k = iota(start=0, step=1, size=n // 2 + 1, dtype=np.dtype(np.int32))
    alone = logical_or(equal(k, 0), equal(k * 2, n))
    return x * reshape(where(alone, 1.0, weight).astype(x.dtype), (n // 2 + 1, 1))


_fft.vjp(lambda ctx, g: (_fft(g, inverse=not ctx.attrs["inverse"], norm=_ADJOINT[ctx.attrs["norm"]]),))


@_rfft.vjp
def _(ctx: VjpContext, g: Tensor) -> Sequence[Any]:
    n = ctx.inputs[0].shape[-1]
    return (_irfft(_weighted(g, n, 0.5), n=n, norm=_ADJOINT[ctx.attrs["norm"]]),)


_irfft.vjp(lambda ctx, g: (_weighted(_rfft(g, norm=_ADJOINT[ctx.attrs["norm"]]), ctx.attrs["n"], 2.0),))


def _cut(x: Tensor, axis: int, n: int) -> Tensor:
    """x cut, or filled up with zeros, to n along `axis`."""
    if n < x.shape[axis]:
        x = slice_(x, [0] * x.ndim, [n if i == axis else d for i, d in enumerate(x.shape)])
    more = n - x.shape[axis]
    return pad(x, [(0, more if i == axis else 0) for i in range(x.ndim)]) if more else x


def _along(op: str, x: Any, axis: int, n: int | None, norm: str, pairs: bool) -> tuple[Tensor, int]:
    """x of n points, the axis moved to the last place of points; and where the axis was."""
    x = as_tensor(x)
    if norm not in _ADJOINT:
        raise unknown(f"norm of {op}", norm, _ADJOINT)
    if x.ndim < 1 + pairs:
        raise shape_error(op, "x", "[..., points, 2], pairs" if pairs else "of at least one axis", x.shape)
    points = x.ndim - 1 - pairs
    at = normalize_axis(op, axis, points + 1)
    return swapaxes(x if n is None else _cut(x, at, int(n)), at, points), at


def fft(x: Tensor, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """NumPy's fft of pairs: y[k] = Σ x[t] exp(-2πi kt/N), x floating [..., N, 2] → [..., N, 2].

    `axis` counts the axes without the pairs' own; `n` cuts or fills it up with zeros first. `norm` is "backward" (no
    scale here, 1/N in `ifft`), "ortho" (1/√N in both) or "forward" (1/N here). Raises ShapeError, DtypeError, and
    UsageError for another norm.
    """
    y, at = _along("fft", x, axis, n, norm, True)
    return swapaxes(_fft(y, inverse=False, norm=norm), at, y.ndim - 2)


def ifft(x: Tensor, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """NumPy's ifft, the inverse of `fft`; arguments and errors as there."""
    y, at = _along("ifft", x, axis, n, norm, True)
    return swapaxes(_fft(y, inverse=True, norm=norm), at, y.ndim - 2)


def rfft(x: Tensor, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """NumPy's rfft: the first M = N // 2 + 1 numbers of the `fft` of real x floating [..., N] → [..., M, 2]; the others
    are their conjugates. Arguments and errors as in `fft`."""
    y, at = _along("rfft", x, axis, n, norm, False)
    return swapaxes(_rfft(y, norm=norm), at, y.ndim - 1)


def irfft(x: Tensor, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """NumPy's irfft, the inverse of `rfft`: x floating [..., M, 2] → real [..., n], by default n = 2 (M - 1).

    The imaginary parts of frequency 0, and of the last one if n is even, count for nothing. Arguments and errors as in
    `fft`.
    """
    y, at = _along("irfft", x, axis, None if n is None else int(n) // 2 + 1, norm, True)
    size = 2 * (y.shape[-2] - 1) if n is None else int(n)
    return swapaxes(_irfft(y, n=size, norm=norm), at, y.ndim - 2)
