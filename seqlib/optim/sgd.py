"""Stochastic gradient descent, with momentum (Polyak 1964) and Nesterov's look ahead (Sutskever et al. 2013)."""

from collections.abc import Callable, Mapping

from seqlib.core import ops
from seqlib.core.tensor import Parameter, Tensor
from seqlib.optim.optimizer import Optimizer, is_matrix
from seqlib.util.errors import UsageError


class SGD(Optimizer):
    """With g the gradient after clipping and μ the `momentum`:

        m = μ·m + g
        p = p - lr · (m + weight_decay·p), or with `nesterov` p - lr · (g + μ·m + weight_decay·p)

    Without momentum there is no slot. What is not said here is said at `Optimizer`. Raises UsageError for `nesterov`
    without momentum.
    """

    name = "sgd"

    def __init__(
        self,
        params: Mapping[str, Parameter],
        lr: float = 0.1,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        decays: Callable[[str, Parameter], bool] = is_matrix,
        ema: float = 0.0,
    ):
        super().__init__(params, lr, weight_decay, clip_norm, decays, ema)
        self.need("momentum", momentum, below=1.0)
        if nesterov and not momentum:
            raise UsageError("sgd: nesterov needs a momentum above 0")
        self.momentum, self.nesterov = momentum, nesterov
        self.m = self.slots("m") if momentum else {}

    def move(self, name: str, g: Tensor, step: Tensor, scale: Tensor) -> None:
        """The formula above."""
        p, good = self.params[name], ops.isfinite(scale)
        way = g * scale
        if self.m:
            m = self.m[name]
            new = m * self.momentum + way
            way = way + new * self.momentum if self.nesterov else new
            m.assign(ops.where(good, new, m))
        if self.decay[name]:
            way = way + p * self.decay[name]
        p.assign(ops.where(good, p - way * self.rate(name), p))
