"""Where a run stands, what its end is, and when the next evaluation and checkpoint are due."""

from __future__ import annotations

import time

import msgspec

from seqlib.train.config import RunConfig, parse_duration, parse_interval


class Position(msgspec.Struct, forbid_unknown_fields=True):
    """The run's position; saved in every checkpoint, so a resumed run goes on with the very next batch."""

    step: int = 0
    """Steps done."""
    epoch: int = 0
    batch: int = 0
    """Index, in the epoch's plan, of the next batch."""
    seconds: float = 0.0
    """Wall time of training up to here, evaluations and checkpoints included, over all sessions of the run."""
    target_tokens: int = 0
    """Target tokens seen, padding not counted."""
    best_step: int = -1
    """Step of the best evaluation; -1: none yet."""
    best_score: float = 0.0
    """Its score: dev BLEU, or minus the dev loss."""


class Clock:
    """Wall seconds since the start of the run, with those of earlier sessions."""

    def __init__(self, before: float) -> None:
        self._zero = time.perf_counter() - before

    def seconds(self) -> float:
        """Wall seconds up to now."""
        return time.perf_counter() - self._zero


class End:
    """The end of a run, in steps or in time, whichever comes first, and how far a position is on the way to it."""

    def __init__(self, config: RunConfig, default_steps: int) -> None:
        self.limit = parse_duration(config.time_limit) if config.time_limit else 0.0
        self.steps = config.train_steps or (0 if self.limit else default_steps)

    def fraction(self, step: int, seconds: float) -> float:
        """0 at the start, 1 at the end."""
        by_steps = step / self.steps if self.steps else 0.0
        by_time = seconds / self.limit if self.limit else 0.0
        return min(1.0, max(by_steps, by_time))

    def reached(self, step: int, seconds: float) -> bool:
        """Whether the run ends after this step, at this time."""
        return bool((self.steps and step >= self.steps) or (self.limit and seconds >= self.limit))

    def remaining(self, step: int, seconds: float, step_seconds: float) -> float:
        """Expected seconds to the end when a step takes `step_seconds`."""
        options = []
        if self.steps:
            options.append((self.steps - step) * step_seconds)
        if self.limit:
            options.append(self.limit - seconds)
        return max(0.0, min(options))

    def text(self) -> str:
        """The end as the log line prints it."""
        return f"{self.steps:,}" if self.steps else f"{self.limit:.0f} s"


class Due:
    """Says when an action that recurs by steps or by time is due."""

    def __init__(self, every: int | str, name: str, seconds: float) -> None:
        self.steps, self.seconds = parse_interval(every, name)
        self._last = seconds

    def now(self, step: int, seconds: float) -> bool:
        """True at each multiple of the steps, or once the time since the last True has passed."""
        if self.steps:
            return step % self.steps == 0
        if self.seconds and seconds - self._last >= self.seconds:
            self._last = seconds
            return True
        return False
