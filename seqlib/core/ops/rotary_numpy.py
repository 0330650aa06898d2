"""The NumPy kernel of rotary, and the tables of angles that its other kernels use too."""

from __future__ import annotations

from typing import Any

import numpy as np

from seqlib.core.backends.threads import spread
from seqlib.core.ops.rotary import cosine_sine


def tables(x: Any, positions: Any, base: float, inverse: bool) -> tuple[Any, Any]:
    """cos and sin [rows of positions, half] in x's dtype."""
    half = x.shape[-1] // 2
    return tuple(
        np.ascontiguousarray(a.reshape(-1, half), dtype=x.dtype)
        for a in cosine_sine(np, positions, half, base, inverse)
    )  # type: ignore[return-value]


def forward(outs: Any, ins: Any, scratch: Any, *, base: float, inverse: bool) -> None:
    x, positions = ins
    *_, heads, width = x.shape
    cosine, sine = tables(x, positions, base, inverse)
    # One row of angles serves all heads of a token, and the same rows serve every sentence.
    rows = (x.size // max(1, len(cosine) * heads * width), len(cosine), heads, width)
    spread(_turn, rows[0], x.size, x.reshape(rows), cosine[:, None], sine[:, None], outs[0].reshape(rows))


def _turn(first: int, last: int, x: Any, cosine: Any, sine: Any, out: Any) -> None:
    half = x.shape[-1] // 2
    a, b = x[first:last, ..., :half], x[first:last, ..., half:]
    y, z = out[first:last, ..., :half], out[first:last, ..., half:]
    np.multiply(b, sine, out=y)
    np.subtract(a * cosine, y, out=y)
    np.multiply(a, sine, out=z)
    np.add(b * cosine, z, out=z)
