"""The scale of a loss in float16, so that small gradients don't vanish (Micikevicius et al. 2018, section 3.2)."""

import numpy as np

from seqlib.core import ops
from seqlib.core.tensor import Tensor, Variable
from seqlib.util.errors import UsageError

_MOST, _LEAST = 2.0**24, 1.0


class LossScale:
    """`scale`, a 0-d float32 Variable that is `start` at first: the loss is multiplied by it, the optimizer divides
    gradients by it.

    It is halved after an update whose gradient overflowed (the optimizer skips that), and doubled after `every` updates
    in a row that did not. All of it happens on the device. Raises UsageError for values out of range.
    """

    def __init__(self, start: float = 2.0**12, every: int = 1000) -> None:
        if not (_LEAST <= start <= _MOST and every >= 1):
            raise UsageError(f"loss scale: expected {_LEAST} <= start <= {_MOST} and every >= 1, got {start}, {every}")
        self.every = every
        self.scale = Variable(np.float32(start), name="loss_scale")
        self.good = Variable(np.float32(0), name="loss_scale.good_updates")

    def update(self, finite: Tensor) -> None:
        """After an update: bool 0-d, was the gradient finite?"""
        good = ops.where(finite, self.good + 1.0, 0.0)
        grown = ops.greater_equal(good, float(self.every))
        up = ops.where(grown, ops.minimum(self.scale * 2.0, _MOST), self.scale)
        self.scale.assign(ops.where(finite, up, ops.maximum(self.scale * 0.5, _LEAST)))
        self.good.assign(ops.where(grown, 0.0, good))

    def state_variables(self) -> dict[str, Variable]:
        """Scale and counter, by name."""
        return {v.name: v for v in (self.scale, self.good)}
