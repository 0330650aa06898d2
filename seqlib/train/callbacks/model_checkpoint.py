"""Writes a usable model while the run goes on."""

from seqlib.train.callback import Trainer
from seqlib.train.monitor import Monitor, Monitored
from seqlib.util.errors import UsageError

__all__ = ["ModelCheckpoint"]


class ModelCheckpoint(Monitored):
    """Writes the current weights as a bundle, which translates, to `filepath` (in the run folder unless it is absolute;
    `{step}` in it is the step), after every evaluation, or every `save_freq` steps.

    With `save_best_only` only when the dev score `monitor` is better than before; `monitor` and `mode` as in `Monitor`.
    The bundle has no confidence, which is set at the end of a run. The checkpoints that a resume needs are the
    trainer's own (`save_every`, `keep_last`), with or without this.
    """

    def __init__(
        self,
        filepath: str = "models/step-{step}",
        monitor: str = "",
        mode: str = "auto",
        save_best_only: bool = False,
        save_freq: int = 0,
    ) -> None:
        if save_freq < 0:
            raise UsageError(f"model_checkpoint: save_freq {save_freq} must be at least 0")
        if save_best_only and save_freq:
            raise UsageError("model_checkpoint: save_best_only saves after evaluations; leave save_freq out")
        try:
            filepath.format(step=1)
        except (KeyError, IndexError, ValueError) as error:
            raise UsageError(f"model_checkpoint: filepath {filepath!r} may name {{step}} only") from error
        self.monitor = Monitor(monitor, mode)
        self.filepath, self.save_best_only, self.save_freq = filepath, save_best_only, save_freq

    def on_train_begin(self, trainer: Trainer) -> None:
        if not self.save_freq:
            super().on_train_begin(trainer)

    def on_train_batch_end(self, trainer: Trainer, step: int) -> None:
        if self.save_freq and step % self.save_freq == 0:
            self._write(trainer, {})

    def on_test_end(self, trainer: Trainer, scores: dict[str, float]) -> None:
        if not self.save_freq:
            better = self.monitor.improved(scores, trainer.position.step)
            if better or not self.save_best_only:
                self._write(trainer, scores)

    def _write(self, trainer: Trainer, scores: dict[str, float]) -> None:
        from seqlib.train.finish import write_model

        if trainer.folder is not None:
            step = trainer.position.step
            write_model(trainer, trainer.folder / self.filepath.format(step=step), f"step {step}", scores, False)
