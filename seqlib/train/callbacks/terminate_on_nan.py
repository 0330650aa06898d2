"""Ends a run at the first loss that is not finite."""

import math

from seqlib.train.callback import Callback, Trainer
from seqlib.train.window import not_finite

__all__ = ["TerminateOnNaN"]


class TerminateOnNaN(Callback):
    """Raises SeqlibError after the first step whose loss or gradient is not finite. Without it such updates are
    skipped, and the fifth in a row ends the run. It reads two numbers from the device after each step."""

    def on_train_batch_end(self, trainer: Trainer, step: int) -> None:
        total, _, norm = trainer.last
        if not (math.isfinite(total.item()) and math.isfinite(norm.item())):
            raise not_finite(step, 1, trainer.where_not_finite())
