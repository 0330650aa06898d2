"""`--dry_run`: what a run would need, measured on a few real steps; nothing is written to the run folder."""

import time
from typing import Any

import numpy as np

from seqlib.train.advice import advice
from seqlib.train.memory import explained, forecast_memory, largest_batch
from seqlib.train.trainer import Trainer
from seqlib.util.memory import peak_bytes

_STEPS = 3


def forecast(trainer: Trainer) -> dict[str, Any]:
    """Size, memory and time of a run, after steps on its largest batch (the trainer is of no use afterwards).

    `advice`, the lines that a run begins with; `parameters`; bytes of `weights`, `optimizer`, `activations` (the
    largest program's planned arena, gradients included) and `decoding` (caches), the `memory_bytes` that were forecast
    for the whole process (see `MemoryForecast`), and the most that it had during these steps, `measured_bytes`; seconds
    `first_step` (program building included) and `step` (the largest batch, median of three); `steps` planned (None for
    a time limit) and `hours` for them, other batches taken to cost as much per padded token as the largest.
    """
    plan = trainer.plan
    area = [planned.cells for planned in plan.batches]
    memory = forecast_memory(trainer)
    batches = largest_batch(trainer)
    trainer.optimizer.lr.assign(np.float32(trainer.rate(1, 0.0)))
    seconds = []
    for _ in range(1 + _STEPS):
        began = time.perf_counter()
        try:
            total, _, _ = trainer.step(batches)
        except MemoryError as error:
            raise explained(error, batches, trainer.config) from error
        total.item()  # waits for the step
        seconds.append(time.perf_counter() - began)
    step = float(np.median(seconds[1:]))
    mean_step = step * float(np.mean(area)) / max(area)
    steps = trainer.end.steps or None
    return {
        "advice": advice(trainer, memory),
        "parameters": trainer.model.num_parameters(),
        "weights_bytes": memory.weights,
        "optimizer_bytes": memory.optimizer,
        "activations_bytes": memory.activations,
        "decoding_bytes": memory.decoding,
        "memory_bytes": memory.total,
        "measured_bytes": peak_bytes(),
        "batch": batches[0].sizes() | {"micro_batches": len(batches)},
        "first_step_seconds": round(seconds[0], 3),
        "step_seconds": round(step, 4),
        "batches_per_epoch": len(plan.batches),
        "programs": len(plan.shapes),
        "padding_share": round(plan.padding_share, 4),
        "steps": steps,
        "hours": round((steps * mean_step if steps else trainer.end.limit) / 3600, 3),
    }
