"""Length penalties: what a sum of log-probabilities is divided by before hypotheses are compared."""

from collections.abc import Callable

import numpy as np

from seqlib.util.errors import UsageError, unknown

Penalty = Callable[[np.ndarray], np.ndarray]


def gnmt(alpha: float) -> Penalty:
    """`((5 + n) / 6) ** alpha` for lengths n (Wu et al. 2016, equation 14). alpha 0 leaves plain sums."""
    return lambda n: ((5.0 + np.asarray(n, np.float64)) / 6.0) ** alpha


def power(p: float) -> Penalty:
    """`n ** p` for lengths n >= 1; p = 1 ranks by the mean log-probability of a token."""
    return lambda n: np.asarray(n, np.float64) ** p


_PENALTIES: dict[str, Callable[[float], Penalty]] = {"gnmt": gnmt, "power": power}


def table(kind: str, exponent: float, longest: int) -> np.ndarray:
    """Divisors for n = 0 .. longest tokens (the end token counted), float32 [longest + 1].

    Entry 0 is 1 and never used. Raises UsageError for an unknown kind or an exponent that is not finite.
    """
    if kind not in _PENALTIES:
        raise unknown("length penalty", kind, list(_PENALTIES))
    if not np.isfinite(exponent):
        raise UsageError(f"length penalty exponent: expected a finite number, got {exponent}")
    out = np.ones(longest + 1, np.float32)
    out[1:] = _PENALTIES[kind](exponent)(np.arange(1, longest + 1)).astype(np.float32)
    return out
