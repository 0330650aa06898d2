"""The curve as a table."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqlib.train.callback import Callback, Trainer
from seqlib.util.atomic import write_bytes
from seqlib.util.errors import SeqlibError, UsageError

__all__ = ["CSVLogger"]

_TRAIN = ("loss", "rate", "target_tokens_per_second", "padding", "gradient_norm", "seconds_per_step")


class CSVLogger(Callback):
    """Writes a row at every log line and one at every evaluation to `filename`, relative to the run folder.

    Its columns are step, epoch, seconds, the figures of the log line, and the dev scores as `dev_NAME`; what has no
    value at a row is empty. A resumed run goes on below the row of its checkpoint.
    """

    def __init__(self, filename: str = "log.csv", separator: str = ",") -> None:
        if len(separator) != 1:
            raise UsageError(f"csv: separator {separator!r} must be one character")
        self.filename, self.separator = filename, separator
        self._path: Path | None = None
        self._columns: list[str] = []

    def on_train_begin(self, trainer: Trainer) -> None:
        if trainer.folder is None:
            return
        self._path = trainer.folder / self.filename
        self._columns = ["step", "epoch", "seconds", *_TRAIN, *(f"dev_{name}" for name in trainer.scorer.names)]
        rows: list[list[str]] = [self._columns]
        if self._path.exists():
            text = self._path.read_text(encoding="utf-8")
            text = text[: text.rfind("\n") + 1]  # without a last line that a kill or a full disk cut short
            old = list(csv.reader(io.StringIO(text), delimiter=self.separator))
            if old[:1] == rows:
                rows += [row for row in old[1:] if int(row[0]) <= trainer.position.step]
        write_bytes(self._path, "".join(map(self._line, rows)).encode())

    def on_log(self, trainer: Trainer, step: int, values: Mapping[str, float]) -> None:
        self._write(trainer, values)

    def on_test_end(self, trainer: Trainer, scores: dict[str, float]) -> None:
        self._write(trainer, {f"dev_{name}": value for name, value in scores.items()})

    def _write(self, trainer: Trainer, values: Mapping[str, float]) -> None:
        if self._path is None:
            return
        at = trainer.position
        known = {"step": at.step, "epoch": at.epoch, "seconds": round(at.seconds, 3), **values}
        try:
            with open(self._path, "a", newline="", encoding="utf-8") as file:
                file.write(self._line([known.get(name, "") for name in self._columns]))
        except OSError as error:
            raise SeqlibError(f"{self._path}: cannot be written ({error.strerror})") from error

    def _line(self, row: list[Any]) -> str:
        text = io.StringIO()
        csv.writer(text, delimiter=self.separator, lineterminator="\n").writerow(row)
        return text.getvalue()
