"""The compiled training step, with or without accumulation over micro-batches, and the compiled loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from seqlib.core import ops
from seqlib.core.compile import compile
from seqlib.core.grad import value_and_grad
from seqlib.core.rng import Generator, use_generator
from seqlib.core.tape import no_grad
from seqlib.core.tensor import Tensor, Variable
from seqlib.data.batch import Batch, PackedBatch
from seqlib.train.config import RunConfig
from seqlib.util.errors import UsageError

_LEAST = 1e-6  # a batch whose pairs all weigh 0 has a loss of 0

Step = Callable[[Batch | PackedBatch], tuple[Tensor, Tensor, Tensor]]


def objective(model: Any, batch: Batch | PackedBatch, smoothing: float, consistency: float) -> tuple[Tensor, Tensor]:
    """What is trained: (sum, weight), `model.loss(batch, smoothing)` where `consistency` is 0.

    Above 0, R-Drop (Wu et al. 2021): the batch goes through the model twice, with other dropout; the sum is the mean of
    both cross entropies plus `consistency` / 4 times the two Kullback-Leibler divergences of what was predicted.
    Raises UsageError for a model without `scores`, and for one that carries states from step to step.
    """
    if not consistency:
        return model.loss(batch, smoothing)
    if not hasattr(model, "scores") or getattr(model, "carried", ()):
        reason = "carries its states from batch to batch" if hasattr(model, "scores") else "has no scores(batch)"
        raise UsageError(
            f"optim.consistency: {type(model).__name__} {reason}, and each batch is to be seen twice; set it to 0"
        )
    (a, targets, weights), (b, _, _) = model.scores(batch), model.scores(batch)
    (one, weight), (two, _) = (ops.cross_entropy(x, targets, smoothing, weights=weights) for x in (a, b))
    # KL(p|q) + KL(q|p) = Σ (p - q) (log p - log q); what the logarithms of p and q lack to logits cancels
    apart = ops.sum((ops.softmax(a) - ops.softmax(b)) * (a - b), axis=-1)
    apart = ops.where(ops.greater_equal(targets, 0), apart if weights is None else apart * weights, 0.0)
    return (one + two) / 2 + consistency / 4 * ops.sum(apart), weight


def training_step(model: Any, optimizer: Any, generator: Generator, smoothing: float, consistency: float = 0.0) -> Step:
    """The uncompiled step: batch → (loss sum, target tokens, gradient norm), float32 scalars.

    What is trained is the `objective` of `model`, with `smoothing` and `consistency`. Parameters, optimizer slots and
    the generator's offset are updated in place. The gradient is that of the mean loss per target token; with the
    optimizer's `loss_scale` it is taken of as many times the loss.
    """
    params = model.trainable_parameters()
    loss_scale = optimizer.loss_scale

    def step(batch: Batch | PackedBatch) -> tuple[Tensor, Tensor, Tensor]:
        def mean_loss(batch: Batch | PackedBatch) -> tuple[Tensor, Tensor, Tensor]:
            total, weight = objective(model, batch, smoothing, consistency)
            mean = total / ops.maximum(weight, _LEAST)
            return mean if loss_scale is None else mean * loss_scale.scale, total, weight

        with use_generator(generator):
            (_, total, weight), grads = value_and_grad(mean_loss, params=params)(batch)
            norm = optimizer.update(grads, loss_scale)
        return total, weight, norm

    return step


class Accumulation:
    """Gradients, loss sum and weight, added up over micro-batches in float32 locations.

    `clear` begins a step; `accumulate` adds the gradients of one micro-batch's loss sum (not its mean); `update`
    divides by the summed weight and takes the optimizer's step. Between steps there is nothing to save.
    """

    def __init__(
        self, model: Any, optimizer: Any, generator: Generator, smoothing: float, consistency: float = 0.0
    ) -> None:
        self._optimizer, self._generator = optimizer, generator
        self._objective = lambda batch: objective(model, batch, smoothing, consistency)
        self._params = model.trainable_parameters()
        self._grads = {name: Variable.zeros_for(p, f"accumulated.{name}") for name, p in self._params.items()}
        self._total = Variable(np.float32(0), "accumulated loss")
        self._weight = Variable(np.float32(0), "accumulated weight")

    def state_variables(self) -> dict[str, Variable]:
        """The sums, for compiled functions."""
        return {v.name: v for v in (self._total, self._weight, *self._grads.values())}

    def accumulate(self, batch: Batch | PackedBatch) -> None:
        """Add one micro-batch."""
        with use_generator(self._generator):
            (total, weight), grads = value_and_grad(self._objective, params=self._params)(batch)
        with no_grad():
            for name, sum_ in self._grads.items():
                sum_.assign(sum_ + grads[name])
            self._total.assign(self._total + total)
            self._weight.assign(self._weight + weight)

    def update(self) -> tuple[Tensor, Tensor, Tensor]:
        """The optimizer's step: (loss sum, target tokens, gradient norm) of all micro-batches since `clear`."""
        with no_grad(), use_generator(self._generator):
            scale = 1.0 / ops.maximum(self._weight, _LEAST)
            for sum_ in self._grads.values():  # in place: no second set of gradients
                sum_.assign(sum_ * scale)
            norm = self._optimizer.update(self._grads)
        return self._total, self._weight, norm

    def clear(self) -> None:
        """Set all sums to 0."""
        for sum_ in self.state_variables().values():
            sum_.assign(ops.zeros(sum_.shape, sum_.dtype))


class Built(NamedTuple):
    """A program, and the batch sizes it was built for (none for the update of accumulated gradients)."""

    program: Any
    sizes: dict[str, int]


class CompiledStep:
    """`training_step` of `model`, `optimizer`, `generator`, `smoothing` and `consistency`, compiled: one program for
    each batch shape (`built`, in the order in which they came).

    With `accumulate` above 1 it is called with the micro-batches of a step; there is one program for each shape of
    these then, and two for the update. Equal to the undivided batch up to rounding, without dropout.
    """

    def __init__(
        self,
        model: Any,
        optimizer: Any,
        generator: Generator,
        smoothing: float,
        accumulate: int = 1,
        consistency: float = 0.0,
    ) -> None:
        state, of = [model, optimizer, generator], (model, optimizer, generator, smoothing, consistency)
        self.built: list[Built] = []
        self._sums: Accumulation | None = None
        if accumulate == 1:
            self._step = compile(training_step(*of), state=state)
        else:
            self._sums = sums = Accumulation(*of)
            self._clear, self._accumulate, self._update = (
                compile(fn, state=[*state, sums]) for fn in (sums.clear, sums.accumulate, sums.update)
            )

    def state_variables(self) -> dict[str, Variable]:
        """What it keeps beside the model's and the optimizer's: the sums of an accumulation."""
        return self._sums.state_variables() if self._sums is not None else {}

    def __call__(self, batches: Sequence[Batch | PackedBatch]) -> tuple[Tensor, Tensor, Tensor]:
        """One step over the micro-batches: (loss sum, target tokens, gradient norm), float32 scalars."""
        return self._each(batches, lambda compiled, *args: compiled(*args))

    def find_non_finite(self, batches: Sequence[Batch | PackedBatch]) -> Any:
        """What `Compiled.find_non_finite` says of a step over these micro-batches; nothing is changed."""
        compiled = self._step if self._sums is None else self._accumulate
        found = (compiled.find_non_finite(batch) for batch in batches)
        return next((one for one in found if one is not None), None)

    def lower(self, batches: Sequence[Batch | PackedBatch]) -> list[Any]:
        """The programs of a step over these micro-batches, built if need be but not run."""
        found: list[Any] = []
        self._each(batches, lambda compiled, *args: found.append(compiled.lower(*args)))
        return found

    def _each(self, batches: Sequence[Batch | PackedBatch], do: Callable[..., Any]) -> Any:
        """`do` every compiled function of a step with its arguments; the last one's result."""
        if self._sums is None:
            (batch,) = batches
            return self._noted(self._step, do, batch)
        self._noted(self._clear, do)
        for batch in batches:
            self._noted(self._accumulate, do, batch)
        return self._noted(self._update, do)

    def _noted(self, compiled: Any, do: Callable[..., Any], *batch: Batch | PackedBatch) -> Any:
        known = len(compiled.programs)
        result = do(compiled, *batch)
        for program in compiled.programs[known:]:
            self.built.append(Built(program, batch[0].sizes() if batch else {}))
        return result


def step_of(config: RunConfig, model: Any, optimizer: Any, generator: Generator, accumulate: int = 0) -> CompiledStep:
    """The step of a configuration's objective; `accumulate` as configured where it is 0."""
    optim = config.optim
    parts = accumulate or config.batch.accumulate
    return CompiledStep(model, optimizer, generator, optim.smoothing, parts, optim.consistency)


def compiled_loss(model: Any) -> Any:
    """Compiled batch → (loss sum in nats, target tokens) of `model.loss`, without label smoothing."""

    def loss(batch: Batch | PackedBatch) -> tuple[Tensor, Tensor]:
        with no_grad():
            return model.loss(batch, 0.0)

    return compile(loss, state=[model])
