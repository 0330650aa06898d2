"""The compiled training step and the compiled loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from seqlib.core import ops
from seqlib.core.compile import compile
from seqlib.core.grad import value_and_grad
from seqlib.core.rng import Generator, use_generator
from seqlib.core.tape import no_grad
from seqlib.core.tensor import Tensor
from seqlib.data.batch import Batch

Step = Callable[[Batch], tuple[Tensor, Tensor, Tensor]]


def training_step(model: Any, optimizer: Any, generator: Generator, smoothing: float) -> Step:
    """The uncompiled step: batch → (loss sum, target tokens, gradient norm), float32 scalars.

    Parameters, optimizer slots and the generator's offset are updated in place. The gradient is that of the mean loss
    per target token.
    """
    params = model.trainable_parameters()

    def step(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        def mean_loss(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
            total, weight = model.loss(batch, smoothing)
            return total / ops.maximum(weight, 1.0), total, weight

        with use_generator(generator):
            (_, total, weight), grads = value_and_grad(mean_loss, params=params)(batch)
            norm = optimizer.update(grads)
        return total, weight, norm

    return step


def compiled_step(model: Any, optimizer: Any, generator: Generator, smoothing: float) -> Any:
    """`training_step` compiled: one program per batch shape (`.programs` lists them)."""
    return compile(training_step(model, optimizer, generator, smoothing), state=[model, optimizer, generator])


def compiled_loss(model: Any) -> Any:
    """Compiled batch → (loss sum in nats, target tokens), without label smoothing."""

    def loss(batch: Batch) -> tuple[Tensor, Tensor]:
        with no_grad():
            return model.loss(batch, 0.0)

    return compile(loss, state=[model])
