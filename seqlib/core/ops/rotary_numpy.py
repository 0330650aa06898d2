"""The NumPy kernel of rotary, and the tables of angles that its other kernels use too."""

from typing import Any

import numpy as np

from seqlib.core.backends.threads import spread
from seqlib.core.ops.rotary import cosine_sine


def tables(x: Any, positions: Any, base: float, inverse: bool, scaling: Any) -> tuple[Any, Any]:
    """cos and sin [rows of positions, half] in x's dtype."""
    half = x.shape[-1] // 2
    return tuple(
        np.ascontiguousarray(a.reshape(-1, half), dtype=x.dtype)
        for a in cosine_sine(np, positions, half, base, inverse, scaling)
    )  # type: ignore[return-value]


def forward(outs: Any, ins: Any, scratch: Any, *, base: float, inverse: bool, heads: int, scaling: Any) -> None:
    x, positions = ins
    *_, every, width = x.shape
    cosine, sine = tables(x, positions, base, inverse, scaling)
    # One row of angles serves all heads of a token, and the same rows serve every sentence.
    rows = (x.size // max(1, len(cosine) * every * width), len(cosine), every, width)
    x, out = x.reshape(rows), outs[0].reshape(rows)
    spread(_turn, rows[0], x.size, x, cosine[:, None], sine[:, None], heads, out)


def _turn(first: int, last: int, x: Any, cosine: Any, sine: Any, heads: int, out: Any) -> None:
    """`out` may be `x`."""
    half = x.shape[-1] // 2
    a, b = x[first:last, :, :heads, :half], x[first:last, :, :heads, half:]
    y, z = out[first:last, :, :heads, :half], out[first:last, :, :heads, half:]
    from_a, from_b = a * sine, b * sine
    np.multiply(a, cosine, out=y)
    np.subtract(y, from_b, out=y)
    np.multiply(b, cosine, out=z)
    np.add(z, from_a, out=z)
    np.copyto(out[first:last, :, heads:], x[first:last, :, heads:])
