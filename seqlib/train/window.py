"""What happened since the last log line."""

import math
from collections.abc import Callable
from typing import Any

from seqlib.util.errors import SeqlibError

_MOST_BAD = 5  # steps in a row without a finite loss and gradient after which a run is given up


def not_finite(step: int, steps: int, where: str) -> SeqlibError:
    """The error that ends a run whose last `steps` steps, up to `step`, had no finite loss or gradient, which came up
    at `where`.
    """
    when = f"in the last {steps} steps" if steps > 1 else "in the last step"
    return SeqlibError(
        f"step {step}: the loss or its gradient was not finite {when}; {where}. "
        "Checkpoints from before are good, but going on with the same settings is of no use: "
        "lower optim.lr, lengthen optim.warmup or set optim.clip_norm"
    )


class Window:
    """Sums over the steps since the last log line; device scalars are read as late as possible.

    A step whose loss or gradient norm is not finite was skipped by the optimizer: it is counted and left out. `where`
    is asked for the first tensor of the last step that was not, when a run is given up.
    """

    def __init__(self, where: Callable[[], str] = lambda: "its tensors were not searched") -> None:
        self._where = where
        self._bad_in_a_row = 0
        self._clear()

    def _clear(self) -> None:
        self.steps = 0
        self._padded = 0
        self._seconds = self._rate = 0.0
        self._loss = self._counted = self._tokens = self._norm = 0.0
        self._skipped = 0
        self._pending: list[tuple[Any, Any, Any]] = []

    def state_dict(self) -> dict[str, float]:
        """The sums so far, for a checkpoint: the next log line of a resumed run covers the steps before it too."""
        assert not self._pending, "check() comes first"
        return {name: value for name, value in vars(self).items() if name not in ("_pending", "_where")}

    def load(self, state: dict[str, float]) -> None:
        """Take up the sums that `state_dict` gave."""
        vars(self).update(state)

    def add(self, total: Any, weight: Any, norm: Any, tokens: int, padded: int, seconds: float, rate: float) -> None:
        """Count one step: its loss sum, weight and gradient norm (scalars), target tokens and places, time, rate."""
        self._pending.append((total, weight, norm))
        self.steps += 1
        self._tokens += tokens
        self._padded += padded
        self._seconds += seconds
        self._rate = rate

    def check(self, step: int) -> bool:
        """Read what is pending; True when the last step was not finite.

        Raises SeqlibError when it was the fifth in a row (`step` is the last step's number).
        """
        for total, weight, norm in self._pending:
            loss, self._norm = total.item(), norm.item()
            if math.isfinite(loss) and math.isfinite(self._norm):
                self._loss += loss
                self._counted += weight.item()
                self._bad_in_a_row = 0
            else:
                self._skipped += 1
                self._bad_in_a_row += 1
        self._pending.clear()
        if self._bad_in_a_row >= _MOST_BAD:
            raise not_finite(step, self._bad_in_a_row, self._where())
        return self._bad_in_a_row > 0

    def skipped(self, step: int) -> int:
        """Steps of the window that were not finite. Raises as `check`."""
        self.check(step)
        return self._skipped

    def close(self, step: int) -> dict[str, float]:
        """The window's figures for the log, the loss in nats per target token; starts a new one. Raises as `check`."""
        self.check(step)
        values = {
            "loss": self._loss / self._counted if self._counted else math.nan,
            "rate": self._rate,
            "target_tokens_per_second": self._tokens / self._seconds,
            "padding": 1.0 - self._tokens / self._padded,
            "gradient_norm": self._norm,
            "seconds_per_step": self._seconds / self.steps,
        }
        self._clear()
        return values
