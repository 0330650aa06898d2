"""Learning-rate schedules as products of named factors, as in Tensor2Tensor: ``constant*linear_warmup*rsqrt_decay``.

Steps count from 1: the first update has step 1. n is the step, w the warm-up steps, N the last step of the run.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from seqlib.util.errors import UsageError, unknown


@dataclass(frozen=True)
class Schedule:
    """The rate of each step: the product of `factors`, names of `FACTORS` joined by ``*``.

    `lr` is what ``constant`` gives, `warmup` is w, `hidden_size` the model's width, `train_steps` N; `decay_rate` is
    what ``exponential_decay`` falls to over the run. Raises UsageError for an unknown factor (with the
    nearest names) or when a factor needs a value that is not given.
    """

    factors: str
    lr: float = 1.0
    warmup: int = 0
    hidden_size: int | None = None
    train_steps: int | None = None
    decay_rate: float = 0.01

    def __post_init__(self) -> None:
        for name in self.names():
            if name not in FACTORS:
                raise unknown("schedule factor", name, FACTORS)
        if self.warmup < 0:
            raise UsageError(f"schedule: warmup: expected 0 or more steps, got {self.warmup}")
        if "rsqrt_hidden_size" in self.names() and not self.hidden_size:
            raise UsageError("schedule: rsqrt_hidden_size needs hidden_size, the model's width")
        if self.decay_rate <= 0:
            raise UsageError(f"schedule: decay_rate: expected a number above 0, got {self.decay_rate}")

    def names(self) -> list[str]:
        """The factors, in order."""
        return [name.strip() for name in self.factors.split("*")]

    def __call__(self, step: int, train_steps: int | None = None) -> float:
        """The rate of `step` ≥ 1; `train_steps` replaces N, for a run whose end is known by time only."""
        if step < 1:
            raise UsageError(f"schedule: step: expected 1 or more, got {step}")
        total = self.train_steps if train_steps is None else train_steps
        rate = 1.0
        for name in self.names():
            rate *= FACTORS[name](self, step, total)
        return rate


_Factor = Callable[[Schedule, int, int | None], float]


def _constant(s: Schedule, step: int, total: int | None) -> float:
    """lr"""
    return s.lr


def _linear_warmup(s: Schedule, step: int, total: int | None) -> float:
    """min(1, n / w)"""
    return min(1.0, step / s.warmup) if s.warmup else 1.0


def _rsqrt_decay(s: Schedule, step: int, total: int | None) -> float:
    """1 / sqrt(max(n, w))"""
    return 1.0 / math.sqrt(max(step, s.warmup))


def _rsqrt_normalized_decay(s: Schedule, step: int, total: int | None) -> float:
    """sqrt(w / max(n, w)): 1 until the end of the warm-up"""
    return math.sqrt(max(s.warmup, 1) / max(step, s.warmup, 1))


def _rsqrt_hidden_size(s: Schedule, step: int, total: int | None) -> float:
    """1 / sqrt(hidden_size)"""
    assert s.hidden_size is not None  # checked when the schedule is made
    return 1.0 / math.sqrt(s.hidden_size)


def _progress(s: Schedule, step: int, total: int | None, name: str) -> float:
    """0 at the end of the warm-up, 1 at the last step."""
    if total is None:
        raise UsageError(f"schedule: {name} needs train_steps, the last step of the run")
    return min(1.0, max(0.0, (step - s.warmup) / max(total - s.warmup, 1)))


def _cosine_decay(s: Schedule, step: int, total: int | None) -> float:
    """(1 + cos(π·q)) / 2 with q = (n - w) / (N - w) cut to 0…1"""
    return 0.5 * (1.0 + math.cos(math.pi * _progress(s, step, total, "cosine_decay")))


def _linear_decay(s: Schedule, step: int, total: int | None) -> float:
    """1 - q with q = (n - w) / (N - w) cut to 0…1"""
    return 1.0 - _progress(s, step, total, "linear_decay")


def _exponential_decay(s: Schedule, step: int, total: int | None) -> float:
    """decay_rate^q with q = (n - w) / (N - w) cut to 0…1"""
    return s.decay_rate ** _progress(s, step, total, "exponential_decay")


FACTORS: dict[str, _Factor] = {
    "constant": _constant,
    "linear_warmup": _linear_warmup,
    "rsqrt_decay": _rsqrt_decay,
    "rsqrt_normalized_decay": _rsqrt_normalized_decay,
    "rsqrt_hidden_size": _rsqrt_hidden_size,
    "cosine_decay": _cosine_decay,
    "linear_decay": _linear_decay,
    "exponential_decay": _exponential_decay,
}
"""Name → factor(schedule, n, N); each one's docstring is its formula."""
