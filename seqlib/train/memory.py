"""What memory a run will take, told before its first step, and the answer when that is more than there is."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from seqlib.core.backends import BACKENDS, choose_device
from seqlib.core.meta import meta
from seqlib.core.program import ARENAS
from seqlib.core.rng import Generator
from seqlib.core.trace import collect_variables
from seqlib.train.setup import build_model, build_optimizer
from seqlib.util.errors import OutOfMemoryError
from seqlib.util.memory import parse_size, peak_bytes, resident_bytes, size_text

if TYPE_CHECKING:
    from seqlib.train.config import RunConfig
    from seqlib.train.trainer import Trainer

_NUMBA = 55_000_000  # measured: compiled kernels and the threads' buffers of BLAS, which the first step brings
_PLAIN = 5_000_000  # the same where numba is not installed
_PRODUCTS = 32 << 20  # on a GPU: the workspace of matrix products
_PROGRAM = 2_000_000  # measured: the launches of one program as Python objects


class MemoryForecast(NamedTuple):
    """Bytes of a run. `activations` is the planned arena of the largest batch, gradients included; `decoding` the
    caches that evaluation on dev comes to; `rest` is Python, libraries, data, and the programs of the other
    shapes. `total` is what the process will hold at most. On a GPU all of it is memory of the device.
    """

    weights: int
    optimizer: int
    activations: int
    decoding: int
    rest: int

    @property
    def total(self) -> int:
        return sum(self)

    def __str__(self) -> str:
        return (
            f"{size_text(self.total)} (weights {size_text(self.weights)}, optimizer {size_text(self.optimizer)}, "
            f"activations {size_text(self.activations)}, "
            + (f"decoding {size_text(self.decoding)}, " if self.decoding else "")
            + f"the rest {size_text(self.rest)})"
        )


def largest_batch(trainer: Trainer) -> list[Any]:
    """The micro-batches of the epoch's batch with the most places, the fullest among those."""
    planned = max(trainer.plan.batches, key=lambda batch: (batch.cells, len(batch.indices)))
    return trainer.epochs.collated(planned, trainer.data.spec, trainer.position.epoch)


def forecast_memory(trainer: Trainer) -> MemoryForecast:
    """The forecast before the first step; it builds the programs of the largest batch and runs none."""
    trainer.model.train()
    programs = trainer.step.lower(largest_batch(trainer))
    weights, optimizer = (held_bytes(owner) for owner in (trainer.model, trainer.optimizer))
    optimizer += held_bytes(trainer.step)
    if trainer.device == "cuda":
        activations = max(ARENAS["cuda"].nbytes, *(program.arena_bytes for program in programs))
        return MemoryForecast(weights, optimizer, activations, trainer.task.decoding_bytes(trainer), _PRODUCTS)
    others = _PROGRAM * (len(trainer.plan.shapes) - 1)
    loaded = _NUMBA if sys.modules.get("numba") else _PLAIN
    resident = max(resident_bytes(), weights + optimizer)
    activations = max(ARENAS["cpu"].nbytes, *(program.arena_bytes for program in programs))
    rest = resident - weights - optimizer - ARENAS["cpu"].nbytes + others + loaded
    spent = peak_bytes() - weights - optimizer - activations  # preparing the data may have taken more
    rest += weights * trainer.scorer.available  # at the end the weights of checkpoints are read and compared
    return MemoryForecast(weights, optimizer, activations, trainer.task.decoding_bytes(trainer), max(rest, spent))


@contextmanager
def room_for_state(config: RunConfig, spec: Any) -> Iterator[None]:
    """A block that makes a model and its optimizer: `OutOfMemoryError` that says what they take, before it where that
    is known to be too much, else when an allocation in it fails.
    """
    room, text = _room(config, choose_device(config.device))
    with meta():
        model, _ = build_model(config, spec, Generator(0))
        optimizer = build_optimizer(config, model)
    weights, slots = held_bytes(model), held_bytes(optimizer)
    name, largest = max(model.named_parameters().items(), key=lambda item: item[1].size)
    less = "" if config.optim.name == "adafactor" else ", or set optim.name adafactor, which keeps less"
    explanation = OutOfMemoryError(
        f"out of memory: {config.hparams_set or config.model} with {model.num_parameters():,} parameters takes "
        f"{size_text(weights)} for weights and {size_text(slots)} for {config.optim.name}, without any batch; {text}. "
        f"The largest tensor is {name} {list(largest.shape)}. Choose a smaller model (hparams_set, hparams) or "
        f"vocabulary (data.vocab_size){less}"
    )
    if room is not None and weights + slots > room:
        raise explanation
    try:
        yield
    except OutOfMemoryError:
        raise  # it knows better
    except MemoryError as error:
        raise explanation from error


def _room(config: RunConfig, device: str, held: int = 0) -> tuple[int | None, str]:
    """The bytes that the run may have in all (None: not known), and how that is said; `held` are on a GPU already."""
    if config.memory_limit:
        return parse_size(config.memory_limit), f"memory_limit is {config.memory_limit}"
    free = BACKENDS[device].free_bytes()
    room = None if free is None else free + (held if device == "cuda" else resident_bytes())
    return room, f"{size_text(room or 0)} is what it can have"


def check_memory(trainer: Trainer, forecast: MemoryForecast) -> None:
    """`OutOfMemoryError` when the forecast is more than `memory_limit`, or than what is free where none is given."""
    room, text = _room(trainer.config, trainer.device, forecast.weights + forecast.optimizer)
    if room is not None and forecast.total > room:
        why = f"The run would take {size_text(forecast.total)}; {text}"
        batches = largest_batch(trainer)
        program = max(trainer.step.lower(batches), key=lambda program: program.arena_bytes)
        raise explained(program.out_of_memory(), batches, trainer.config, why)


def explained(error: MemoryError, batches: list[Any], config: RunConfig, why: str = "") -> OutOfMemoryError:
    """The error of a step with its batch, and what can be done."""
    sizes = ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in batches[0].sizes().items())
    advice = (
        f"Lower batch.tokens ({config.batch.tokens}), raise batch.accumulate ({config.batch.accumulate}), "
        "or choose a smaller model"
    )
    text = str(error) or "out of memory"
    return OutOfMemoryError(f"a batch of {sizes}: {text}\n{why + '. ' if why else ''}{advice}")


def held_bytes(owner: Any) -> int:
    """Bytes of the locations of a module, an optimizer or a step."""
    return sum(int(np.prod(v.shape)) * v.dtype.itemsize for v in collect_variables(owner).values())
