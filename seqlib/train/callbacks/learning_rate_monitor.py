"""Keeps the learning rate of every step."""

from seqlib.train.callback import Callback, Trainer
from seqlib.util.errors import UsageError

__all__ = ["LearningRateMonitor"]


class LearningRateMonitor(Callback):
    """Writes the rate of every `every`-th step to `log.jsonl`, as records of the kind "rate"."""

    def __init__(self, every: int = 1) -> None:
        if every < 1:
            raise UsageError(f"learning_rate_monitor: every {every} must be at least 1")
        self.every = every

    def on_train_batch_end(self, trainer: Trainer, step: int) -> None:
        if step % self.every == 0:
            trainer.log.write("rate", step, rate=float(trainer.optimizer.lr.numpy()))
