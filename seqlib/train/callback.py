"""Callbacks: a user's code at fixed moments of a run, in Keras' vocabulary."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seqlib.train.trainer import Trainer


class Callback:
    """Base of callbacks; override what is needed. Setting `trainer.stop_training = True` ends the run after the step,
    with a checkpoint, as a signal would."""

    def on_train_begin(self, trainer: Trainer) -> None:
        """Once, before the first step (also of a resumed run)."""

    def on_epoch_begin(self, trainer: Trainer, epoch: int) -> None:
        """Before the first batch of an epoch; epochs count from 0."""

    def on_train_batch_end(self, trainer: Trainer, step: int) -> None:
        """After every step; steps count from 1."""

    def on_test_end(self, trainer: Trainer, scores: dict[str, float]) -> None:
        """After every evaluation on dev."""

    def on_save_end(self, trainer: Trainer, step: int) -> None:
        """After a checkpoint is on disk."""

    def on_train_end(self, trainer: Trainer) -> None:
        """Once, after the last step."""
