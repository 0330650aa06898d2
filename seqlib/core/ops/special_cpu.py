"""The numba kernel of erf, for float32."""

from typing import Any

import numpy as np

from seqlib.core.ops.jit_cpu import SPAN, copy, exact, exp32, inlined


@inlined
def erf32(x):
    """The error function in float32, within 2e-7: an odd polynomial up to 1, then 1 - exp(-x²) times a polynomial
    (least squares at Chebyshev points)."""
    a = abs(x)
    a = np.float32(4.0) if a > np.float32(4.0) else a  # NaN stays
    z = a * a
    p = np.float32(7.882497448e-5)
    p = p * z + np.float32(-8.018855006e-4)
    p = p * z + np.float32(5.189312156e-3)
    p = p * z + np.float32(-2.685432881e-2)
    p = p * z + np.float32(1.128359735e-1)
    p = p * z + np.float32(-3.761262596e-1)
    p = p * z + np.float32(1.128379107)
    t = (a - np.float32(2.5)) * np.float32(0.6666666667)
    q = np.float32(9.640451754e-5)
    q = q * t + np.float32(-2.455025970e-4)
    q = q * t + np.float32(3.678686626e-4)
    q = q * t + np.float32(-9.155637817e-4)
    q = q * t + np.float32(2.425885061e-3)
    q = q * t + np.float32(-5.611762870e-3)
    q = q * t + np.float32(1.248403545e-2)
    q = q * t + np.float32(-2.699779160e-2)
    q = q * t + np.float32(5.611095950e-2)
    q = q * t + np.float32(-1.115214005e-1)
    q = q * t + np.float32(2.108063549e-1)
    far = np.float32(1.0) - exp32(-z) * q
    y = a * p if a < np.float32(1.0) else far
    return y if x >= np.float32(0.0) else -y


@exact
def _erf(x, out):
    kept = np.empty(SPAN, np.float32)
    for start in range(0, x.size, SPAN):
        xs, ys = x[start : start + SPAN], out[start : start + SPAN]
        for i in range(xs.size):
            kept[i] = erf32(xs[i])
        copy(kept, ys)


def erf(x: Any, out: Any) -> None:
    """out = erf(x); they may be the same array."""
    flat = np.ascontiguousarray(x, np.float32).reshape(-1)
    if out.flags.c_contiguous:
        _erf(flat, out.reshape(-1))
    else:
        made = np.empty(out.shape, np.float32)
        _erf(flat, made.reshape(-1))
        np.copyto(out, made)
