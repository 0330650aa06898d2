"""Where a run stands, what its end is, and when the next evaluation and checkpoint are due."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

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

    def remaining(self, step: int, seconds: float, step_seconds: float, actions: Sequence[Due] = ()) -> float:
        """Expected seconds to the end, the last evaluation and checkpoint included, when a step takes `step_seconds`
        and `actions` what they took the last time."""
        last = sum(action.took for action in actions)
        options = [self.limit - seconds] if self.limit else []
        if self.steps:
            between = sum(action.took * action.times(step, self.steps) for action in actions)
            options.append(((self.steps - step) * step_seconds + between) / self._share_of_steps(actions))
        return max(0.0, min(options)) + last

    def expected(self, step: int, seconds: float, step_seconds: float, actions: Sequence[Due] = ()) -> int:
        """The last step: the planned one, or the one that the time limit is expected to end with."""
        if not self.limit:
            return self.steps
        each = step_seconds + sum(action.took / action.steps for action in actions if action.steps)
        left = max(0.0, self.limit - seconds) * self._share_of_steps(actions)
        found = step + int(left / each)
        return min(found, self.steps) if self.steps else found

    def _share_of_steps(self, actions: Sequence[Due]) -> float:
        """The part of the time that actions which recur by time leave."""
        return max(0.1, 1.0 - sum(action.took / action.seconds for action in actions if action.seconds))


class Due:
    """Says when an action that recurs by steps or by time is due. `took` is what it took the last time, in seconds."""

    def __init__(self, every: int | str, name: str, seconds: float) -> None:
        self.steps, self.seconds = parse_interval(every, name)
        self.took = 0.0
        self._last = seconds

    def now(self, step: int, seconds: float) -> bool:
        """True at each multiple of the steps, or once the time since the last True has passed."""
        if self.steps:
            return step % self.steps == 0
        if self.seconds and seconds - self._last >= self.seconds:
            self._last = seconds
            return True
        return False

    def times(self, step: int, end: int) -> int:
        """How often it is due by its steps after `step` and before `end`."""
        return (end - 1) // self.steps - step // self.steps if self.steps else 0

    def run(self, action: Callable[[], Any]) -> None:
        """Do it and note what it took."""
        began = time.perf_counter()
        action()
        self.took = time.perf_counter() - began
