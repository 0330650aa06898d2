"""AdamW: Adam with decoupled weight decay (Kingma and Ba 2015; Loshchilov and Hutter 2019)."""

from collections.abc import Callable, Mapping

from seqlib.core import ops
from seqlib.core.tensor import Parameter, Tensor
from seqlib.optim.optimizer import Optimizer, is_matrix


class AdamW(Optimizer):
    """With g the gradient after clipping, at update t = 1, 2, …:

        m = β1·m + (1-β1)·g            v = β2·v + (1-β2)·g²
        p = p - lr · (m/(1-β1^t) / (sqrt(v/(1-β2^t)) + eps) + weight_decay·p)

    What is not said here is said at `Optimizer`.
    """

    name = "adamw"

    def __init__(
        self,
        params: Mapping[str, Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-9,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        decays: Callable[[str, Parameter], bool] = is_matrix,
        ema: float = 0.0,
    ):
        super().__init__(params, lr, weight_decay, clip_norm, decays, ema)
        self.need("beta1", betas[0], below=1.0)
        self.need("beta2", betas[1], below=1.0)
        self.need("eps", eps)
        self.betas, self.eps = betas, eps
        self.m, self.v = self.slots("m"), self.slots("v")

    def move(self, name: str, g: Tensor, step: Tensor, scale: Tensor) -> None:
        """The formula above."""
        p, m, v = self.params[name], self.m[name], self.v[name]
        beta1, beta2 = self.betas
        settings = {"beta1": beta1, "beta2": beta2, "eps": self.eps, "weight_decay": self.decay[name]}
        copy = next(iter(p.copies), None)
        new, new_m, new_v, *made = ops.adamw(p, g, m, v, self.rate(name), step, scale, copy=copy, **settings)
        p.assign(new, dict(zip(p.copies, made, strict=False)))
        m.assign(new_m)
        v.assign(new_v)
