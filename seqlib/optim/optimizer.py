"""What all optimizers share: clipping, skipped updates, the moving average of the weights, state to save."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Self

import numpy as np

from seqlib.core import ops
from seqlib.core.op import Meta
from seqlib.core.tape import no_grad
from seqlib.core.tensor import Parameter, Tensor, Variable
from seqlib.optim.loss_scale import LossScale
from seqlib.util.errors import SeqlibError, UsageError

_TINY = 1e-12  # a gradient of norm 0 is not scaled


def is_matrix(name: str, parameter: Parameter) -> bool:
    """The default of what decays: weights and embeddings, but no biases and no gains of norms."""
    return parameter.ndim >= 2


def _copy(parameter: Parameter, name: str) -> Variable:
    """A location with a parameter's content; without memory where the parameter has none."""
    return Variable(parameter.data if isinstance(parameter.data, Meta) else parameter.numpy(), name)


class Optimizer:
    """Base of optimizers; subclasses make their slots and define `move`.

    `params` are parameters by name; those for which `decays` is false (by default vectors: biases and gains of norms)
    take no `weight_decay`. `lr` is a 0-d float32 Variable that the host sets before each step, `steps` counts updates.
    Gradients are clipped to a global norm of `clip_norm` (None or 0: not clipped). An update whose gradient norm is
    not finite is skipped as a whole, on the device: parameters, slots and counter stay as they were.

    With `ema` above 0 a moving average of the parameters is kept beside them (Polyak and Juditsky 1992): after
    update t, e = d·e + (1-d)·p with d = min(ema, (t-1)/(t+9)), so that early weights do not weigh on it.
    `averaged` is the block in which the parameters hold it. `loss_scale` is the `LossScale` of training in float16, set
    after construction; it belongs to the state.

    Raises UsageError for settings out of range, or without parameters.
    """

    name = "optimizer"

    def __init__(
        self,
        params: Mapping[str, Parameter],
        lr: float,
        weight_decay: float,
        clip_norm: float | None,
        decays: Callable[[str, Parameter], bool],
        ema: float,
    ):
        if not params:
            raise UsageError(f"{self.name}: there are no parameters to train")
        self.need("weight_decay", weight_decay)
        self.need("clip_norm", clip_norm or 0.0)
        self.need("ema", ema, below=1.0)
        self.params = dict(params)
        self.clip_norm = clip_norm or 0.0
        self.decay = {name: weight_decay if decays(name, p) else 0.0 for name, p in params.items()}
        self.lr = Variable(np.float32(lr), name="lr")
        self.steps = Variable(np.float32(0), name="steps")
        self.ema = ema
        self.averages = {name: _copy(p, f"ema.{name}") for name, p in params.items() if ema}
        self.loss_scale: LossScale | None = None
        self.rates: dict[str, float] = {}
        self._slots: list[Variable] = []

    def need(self, name: str, value: float, below: float = float("inf")) -> None:
        """Raise UsageError unless 0 ≤ value < below."""
        if not 0.0 <= value < below:
            expected = f"0 <= {name} < {below}" if below != float("inf") else "0 or more"
            raise UsageError(f"{self.name}: {name}: expected {expected}, got {value}")

    def slow_down(self, rates: Mapping[str, float]) -> Self:
        """Multiply the rates of parameters, by name, by those given (others: 1). Returns the optimizer."""
        self.rates = {name: rate for name, rate in rates.items() if rate != 1.0}
        return self

    def rate(self, name: str) -> Tensor:
        """The learning rate of a parameter."""
        return self.lr * self.rates[name] if name in self.rates else self.lr

    def slot(self, variable: Variable) -> Variable:
        """`variable` itself, which from now on belongs to the state."""
        self._slots.append(variable)
        return variable

    def slots(self, kind: str) -> dict[str, Variable]:
        """A slot ``kind.NAME`` of zeros for each parameter, in its shape."""
        return {name: self.slot(Variable.zeros_for(p, f"{kind}.{name}")) for name, p in self.params.items()}

    def move(self, name: str, g: Tensor, step: Tensor, scale: Tensor) -> None:
        """Assign parameter `name` and its slots what update number `step` makes of them; the gradient is scale · g, and
        a `scale` that is not finite means: all stays."""
        raise NotImplementedError(f"{type(self).__name__} has no move")

    def move_all(self, grads: Mapping[str, Tensor], step: Tensor, scale: Tensor) -> None:
        """`move` each parameter that has a gradient in `grads`."""
        for name, g in grads.items():
            self.move(name, g, step, scale)

    def update(self, grads: Mapping[str, Tensor], loss_scale: LossScale | None = None) -> Tensor:
        """One update from the gradients by parameter name; returns their global norm before clipping (0-d float32).

        Works eagerly and inside a compiled function. Raises SeqlibError when names differ from those of `params`.
        """
        if grads.keys() != self.params.keys():
            missing = sorted(self.params.keys() - grads.keys())
            unexpected = sorted(grads.keys() - self.params.keys())
            raise SeqlibError(f"{self.name}: gradients missing for {missing}, unexpected for {unexpected}")
        with no_grad():
            norm = ops.global_norm(list(grads.values()))
            norm = norm if loss_scale is None else norm / loss_scale.scale
            finite = ops.isfinite(norm)
            clipped = ops.minimum(self.clip_norm / ops.maximum(norm, _TINY), 1.0) if self.clip_norm else 1.0
            clipped = clipped if loss_scale is None else clipped / loss_scale.scale
            scale = ops.where(finite, clipped, float("nan"))
            step = self.steps + 1.0
            self.move_all(grads, step, scale)
            if self.averages:
                kept = ops.minimum((step - 1.0) / (step + 9.0), self.ema)
                share = ops.where(finite, 1.0 - kept, 0.0)
                for name, average in self.averages.items():
                    average.assign(average + (self.params[name] - average) * share)
            self.steps.assign(ops.where(finite, step, self.steps))
            if loss_scale is not None:
                loss_scale.update(finite)
        return norm

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """A block in which the parameters hold their moving average, if one is kept; their own values come back."""
        own = {name: self.params[name].numpy() for name in self.averages}
        try:
            for name, average in self.averages.items():
                self.params[name].assign(average.numpy())
            yield
        finally:
            for name, value in own.items():
                self.params[name].assign(value)

    def state_variables(self) -> dict[str, Variable]:
        """Slots, rate and step counter, for compiled functions. The parameters belong to the model."""
        scale = {} if self.loss_scale is None else self.loss_scale.state_variables()
        return {v.name: v for v in (self.lr, self.steps, *self._slots, *self.averages.values(), *scale.values())}

    def to(self, device: str) -> Self:
        """Move slots, rate and step counter to a device, in place. Returns the optimizer."""
        for variable in self.state_variables().values():
            variable.to(device)
        return self

    def state_dict(self, copy: bool = True) -> dict[str, np.ndarray]:
        """All that a resumed run needs: slots, ``steps``, ``lr``; ``copy=False``: the storage itself."""
        found = self.state_variables()
        return {name: variable.numpy() if copy else variable.on_host() for name, variable in found.items()}

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
