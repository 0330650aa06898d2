"""Curves for TensorBoard."""

import importlib.util
from collections.abc import Mapping
from typing import Any

from seqlib.train.callback import Callback, Trainer
from seqlib.util.errors import UsageError

__all__ = ["TensorBoard"]


class TensorBoard(Callback):
    """Writes the figures of every log line as `train/NAME` and dev scores as `dev/NAME` to event files in `log_dir`, in
    the run folder unless it is absolute. Needs tensorboardX (the extra `tensorboard`); UsageError without.
    """

    def __init__(self, log_dir: str = "tensorboard") -> None:
        if importlib.util.find_spec("tensorboardX") is None:
            raise UsageError("callback tensorboard: tensorboardX is not installed (extra `tensorboard`)")
        self.log_dir = log_dir
        self._writer: Any = None

    def on_train_begin(self, trainer: Trainer) -> None:
        if trainer.folder is None:
            return
        from tensorboardX import SummaryWriter  # pyright: ignore[reportMissingImports]

        # What a killed session wrote behind its last checkpoint is not shown.
        step = trainer.position.step
        self._writer = SummaryWriter(str(trainer.folder / self.log_dir), purge_step=step + 1 if step else None)

    def on_log(self, trainer: Trainer, step: int, values: Mapping[str, float]) -> None:
        self._scalars("train", step, values)

    def on_test_end(self, trainer: Trainer, scores: dict[str, float]) -> None:
        self._scalars("dev", trainer.position.step, scores)

    def _scalars(self, group: str, step: int, values: Mapping[str, float]) -> None:
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(f"{group}/{name}", value, step)

    def on_save_end(self, trainer: Trainer, step: int) -> None:
        if self._writer is not None:
            self._writer.flush()

    def on_train_end(self, trainer: Trainer) -> None:
        if self._writer is not None:
            self._writer.close()
