"""AdamW: Adam with decoupled weight decay (Kingma and Ba 2015; Loshchilov and Hutter 2019)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from seqlib.core import ops
from seqlib.core.tape import no_grad
from seqlib.core.tensor import Parameter, Tensor, Variable
from seqlib.util.errors import SeqlibError, UsageError

__all__ = ["AdamW", "is_matrix"]

_TINY = 1e-12  # a gradient of norm 0 is not scaled


def is_matrix(name: str, parameter: Parameter) -> bool:
    """The default of what decays: weights and embeddings, but no biases and no gains of norms."""
    return parameter.ndim >= 2


class AdamW:
    """With g the gradient, clipped to a global norm of `clip_norm` (None or 0: not clipped), at update t = 1, 2, …:

        m = β1·m + (1-β1)·g            v = β2·v + (1-β2)·g²
        p = p - lr · (m/(1-β1^t) / (sqrt(v/(1-β2^t)) + eps) + weight_decay·p)

    `params` are parameters by name; those for which `decays` is false (by default vectors: biases and gains of norms)
    take no weight decay. `lr` is a 0-d float32 Variable that the host sets before each step. An update whose gradient
    norm is not finite is skipped as a whole, on the device: parameters, slots and t stay as they were.
    """

    def __init__(
        self,
        params: Mapping[str, Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-9,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        decays: Callable[[str, Parameter], bool] = is_matrix,
    ):
        if not params:
            raise UsageError("adamw: there are no parameters to train")
        for name, value in (("beta1", betas[0]), ("beta2", betas[1])):
            if not 0.0 <= value < 1.0:
                raise UsageError(f"adamw: {name}: expected 0 <= beta < 1, got {value}")
        for name, value in (("eps", eps), ("weight_decay", weight_decay), ("clip_norm", clip_norm or 0.0)):
            if value < 0.0:
                raise UsageError(f"adamw: {name}: expected 0 or more, got {value}")
        self.params = dict(params)
        self.betas, self.eps, self.clip_norm = betas, eps, clip_norm or 0.0
        self.decay = {name: weight_decay if decays(name, p) else 0.0 for name, p in params.items()}
        self.lr = Variable(np.float32(lr), name="lr")
        self.steps = Variable(np.float32(0), name="steps")
        self.m = {name: Variable.zeros_for(p, f"m.{name}") for name, p in params.items()}
        self.v = {name: Variable.zeros_for(p, f"v.{name}") for name, p in params.items()}

    def update(self, grads: Mapping[str, Tensor]) -> Tensor:
        """One update from the gradients by parameter name; returns their global norm before clipping (0-d float32).

        Works eagerly and inside a compiled function. Raises SeqlibError when names differ from those of `params`.
        """
        if grads.keys() != self.params.keys():
            missing = sorted(self.params.keys() - grads.keys())
            unexpected = sorted(grads.keys() - self.params.keys())
            raise SeqlibError(f"adamw: gradients missing for {missing}, unexpected for {unexpected}")
        beta1, beta2 = self.betas
        with no_grad():
            norm = ops.global_norm(list(grads.values()))
            finite = ops.isfinite(norm)
            clipped = ops.minimum(self.clip_norm / ops.maximum(norm, _TINY), 1.0) if self.clip_norm else 1.0
            scale = ops.where(finite, clipped, float("nan"))  # the op leaves everything as it is for a NaN
            step = self.steps + 1.0
            for name, p in self.params.items():
                m, v = self.m[name], self.v[name]
                settings = {"beta1": beta1, "beta2": beta2, "eps": self.eps, "weight_decay": self.decay[name]}
                new = ops.adamw(p, grads[name], m, v, self.lr, step, scale, **settings)
                for location, value in zip((p, m, v), new, strict=True):
                    location.assign(value)
            self.steps.assign(ops.where(finite, step, self.steps))
        return norm

    def state_variables(self) -> dict[str, Variable]:
        """Slots, rate and step counter, for compiled functions. The parameters belong to the model."""
        return {v.name: v for v in (self.lr, self.steps, *self.m.values(), *self.v.values())}

    def state_dict(self, copy: bool = True) -> dict[str, np.ndarray]:
        """All that a resumed run needs: ``m.NAME``, ``v.NAME``, ``steps``, ``lr``; ``copy=False``: the storage."""
        found = self.state_variables()
        return {name: variable.numpy() if copy else variable.data for name, variable in found.items()}

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Take over what `state_dict` gave, in place. Raises SeqlibError that lists all missing, unexpected and
        mis-shaped names; nothing is changed then."""
        own = self.state_variables()
        problems = [f"missing {name}" for name in own if name not in state]
        problems += [f"unexpected {name}" for name in state if name not in own]
        problems += [
            f"{name}: expected {tuple(v.shape)}, got {np.shape(state[name])}"
            for name, v in own.items()
            if name in state and np.shape(state[name]) != tuple(v.shape)
        ]
        if problems:
            raise SeqlibError("can't load this optimizer state: " + "; ".join(problems[:20]))
        for name, variable in own.items():
            variable.assign(np.asarray(state[name]).astype(variable.dtype, copy=False))
