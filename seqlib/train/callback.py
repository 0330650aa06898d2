"""Callbacks: a user's code at fixed moments of a run, in Keras' vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seqlib.train.trainer import Trainer
else:
    Trainer = Any


class Callback:
    """Base of callbacks; override what is needed.

    `trainer.finish(reason)` ends the run after the step as at its planned end: the model is evaluated and written.
    Setting `trainer.stop_training = True` ends it with a checkpoint only, as a signal would. What a callback must
    remember over a resume it gives in `state_dict` and takes back in `load`.
    """

    def on_train_begin(self, trainer: Trainer) -> None:
        """Once, before the first step; also of a resumed run, with the state loaded."""

    def on_epoch_begin(self, trainer: Trainer, epoch: int) -> None:
        """Before the first batch of an epoch; epochs count from 0."""

    def learning_rate(self, trainer: Trainer, step: int, rate: float) -> float:
        """The rate for `step`, given that of the schedule and of the callbacks before this one."""
        return rate

    def on_train_batch_end(self, trainer: Trainer, step: int) -> None:
        """After every step; steps count from 1. `trainer.last` has its figures."""

    def on_log(self, trainer: Trainer, step: int, values: Mapping[str, float]) -> None:
        """At every log line, with the figures since the one before: loss, rate, target_tokens_per_second, padding,
        gradient_norm, seconds_per_step."""

    def on_test_end(self, trainer: Trainer, scores: dict[str, float]) -> None:
        """After every evaluation on dev."""

    def on_save_end(self, trainer: Trainer, step: int) -> None:
        """After a checkpoint is on disk."""

    def on_train_end(self, trainer: Trainer) -> None:
        """Once, after the last step."""

    def kept_steps(self) -> set[int]:
        """Steps whose checkpoints must not be deleted; one that is named in `on_test_end` is written."""
        return set()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of it: a tree of numbers, texts, lists and dictionaries."""
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave in an earlier session."""
