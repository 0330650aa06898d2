"""Ends a run that no longer gets better."""

from seqlib.train.callback import Trainer
from seqlib.train.monitor import Monitor, Monitored
from seqlib.util.errors import UsageError

__all__ = ["EarlyStopping"]


class EarlyStopping(Monitored):
    """Finishes the run when the dev score `monitor` has not improved by more than `min_delta` in `patience`
    evaluations in a row.

    With `restore_best` the model is written with the weights of the monitor's best evaluation, whose checkpoint is
    kept; without, the best by dev score is chosen as at any end. `monitor` and `mode` as in `Monitor`.
    """

    kept = ("wait",)

    def __init__(
        self,
        monitor: str = "",
        patience: int = 5,
        min_delta: float = 0.0,
        mode: str = "auto",
        restore_best: bool = True,
    ) -> None:
        if patience < 1:
            raise UsageError(f"early_stopping: patience {patience} must be at least 1")
        self.monitor = Monitor(monitor, mode, min_delta)
        self.patience, self.restore_best = patience, restore_best
        self.wait = 0

    def on_train_begin(self, trainer: Trainer) -> None:
        super().on_train_begin(trainer)
        self._stop_if_due(trainer)

    def on_test_end(self, trainer: Trainer, scores: dict[str, float]) -> None:
        self.wait = 0 if self.monitor.improved(scores, trainer.position.step) else self.wait + 1
        self._stop_if_due(trainer)

    def _stop_if_due(self, trainer: Trainer) -> None:
        if self.wait >= self.patience:
            name, best = self.monitor.name, self.monitor.best
            trainer.finish(f"dev {name} has not improved in {self.wait} evaluations (best: {best})")

    def on_train_end(self, trainer: Trainer) -> None:
        if self.restore_best and self.monitor.best_step > 0:
            trainer.chosen_step = self.monitor.best_step

    def kept_steps(self) -> set[int]:
        return {self.monitor.best_step} if self.restore_best else set()
