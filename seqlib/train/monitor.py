"""A dev score that a callback watches: which one, what counts as better, and the best so far."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from seqlib.train.callback import Callback, Trainer
from seqlib.util.errors import UsageError, unknown

MODES = ("auto", "min", "max")
_LESS = ("loss", "perplexity", "bits_per_byte", "bits_per_character", "mean_squared_error")


class Monitor:
    """Watches the score `name` ("": the one that ranks checkpoints); Keras' `val_` before it does no harm.

    `mode` says whether less ("min") or more ("max") is better, "auto" by the name. An improvement is one of more than
    `min_delta`. Raises UsageError for another mode and a negative `min_delta`.
    """

    def __init__(self, name: str = "", mode: str = "auto", min_delta: float = 0.0) -> None:
        if mode not in MODES:
            raise unknown("mode", mode, MODES)
        if min_delta < 0:
            raise UsageError(f"min_delta {min_delta} must be at least 0")
        self.name = name.removeprefix("val_").removeprefix("dev_")
        self._mode, self._min_delta = mode, min_delta
        self.best: float | None = None
        self.best_step = -1

    def begin(self, trainer: Trainer, owner: str) -> None:
        """Settle the name; `UsageError` when the run has no such score, or is never evaluated before its end."""
        scores = trainer.scorer.names
        if not scores:
            raise UsageError(f"{owner} watches a dev score, and this run has no dev split")
        if trainer.config.eval_every in (0, "0"):
            raise UsageError(f"{owner} watches a dev score, and eval_every is 0")
        self.name = self.name or trainer.scorer.ranked
        if self.name not in scores:
            raise unknown(f"{owner}: dev score", self.name, scores)

    @property
    def less(self) -> bool:
        """Whether a lower score is better."""
        return self._mode == "min" or (self._mode == "auto" and self.name in _LESS)

    def improved(self, scores: Mapping[str, float], step: int) -> bool:
        """Whether the score is better than the best so far, which it then becomes. NaN never is."""
        value = scores[self.name]
        if math.isnan(value):
            return False
        gain = math.inf if self.best is None else (self.best - value if self.less else value - self.best)
        if gain <= self._min_delta:
            return False
        self.best, self.best_step = value, step
        return True

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_step": self.best_step}

    def load(self, state: Mapping[str, Any]) -> None:
        self.best, self.best_step = state["best"], int(state["best_step"])


class Monitored(Callback):
    """A callback with a `monitor`, which begins with the run and is kept in checkpoints, as the attributes that `kept`
    names are. Errors name it by its file."""

    monitor: Monitor
    kept: ClassVar[tuple[str, ...]] = ()

    def on_train_begin(self, trainer: Trainer) -> None:
        self.monitor.begin(trainer, type(self).__module__.rpartition(".")[2])

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.kept} | self.monitor.state_dict()

    def load(self, state: Mapping[str, Any]) -> None:
        vars(self).update((name, type(getattr(self, name))(state[name])) for name in self.kept)
        self.monitor.load(state)
