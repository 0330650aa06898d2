"""Lowers the learning rate when a dev score stops improving."""

from seqlib.train.callback import Trainer
from seqlib.train.monitor import Monitor, Monitored
from seqlib.util.errors import UsageError
from seqlib.util.log import get_logger

__all__ = ["ReduceLROnPlateau"]


class ReduceLROnPlateau(Monitored):
    """Multiplies the schedule's rate by `factor` once more whenever the dev score `monitor` has not improved by more
    than `min_delta` in `patience` evaluations in a row; the next `cooldown` evaluations are not counted.

    The rate does not fall below `min_lr` by this, nor rise where the schedule's own is lower. `monitor` and `mode` as
    in `Monitor`.
    """

    kept = ("scale", "wait", "cooling")

    def __init__(
        self,
        monitor: str = "",
        factor: float = 0.5,
        patience: int = 3,
        min_delta: float = 0.0,
        cooldown: int = 0,
        min_lr: float = 0.0,
        mode: str = "auto",
    ) -> None:
        if not 0 < factor < 1:
            raise UsageError(f"reduce_lr_on_plateau: factor {factor} must be above 0 and below 1")
        for name, value, bound in (("patience", patience, 1), ("cooldown", cooldown, 0), ("min_lr", min_lr, 0)):
            if value < bound:
                raise UsageError(f"reduce_lr_on_plateau: {name} {value} must be at least {bound}")
        self.monitor = Monitor(monitor, mode, min_delta)
        self.factor, self.patience, self.cooldown, self.min_lr = factor, patience, cooldown, min_lr
        self.scale = 1.0
        self.wait = self.cooling = 0

    def learning_rate(self, trainer: Trainer, step: int, rate: float) -> float:
        return min(rate, max(rate * self.scale, self.min_lr))

    def on_test_end(self, trainer: Trainer, scores: dict[str, float]) -> None:
        improved = self.monitor.improved(scores, trainer.position.step)
        if self.cooling:
            self.cooling -= 1
            self.wait = 0
        else:
            self.wait = 0 if improved else self.wait + 1
        if self.wait >= self.patience:
            self.scale *= self.factor
            self.wait, self.cooling = 0, self.cooldown
            get_logger().info(
                "dev %s has not improved in %d evaluations: the rate is the schedule's times %.4g from here on",
                self.monitor.name,
                self.patience,
                self.scale,
            )
