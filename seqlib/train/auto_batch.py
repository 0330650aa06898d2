"""`--batch auto`: the batch size by a few measured steps."""

import gc
import time
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from seqlib.core.backends import BACKENDS
from seqlib.core.program import ARENAS
from seqlib.core.rng import Generator
from seqlib.data.plan import Plan
from seqlib.train.config import RunConfig
from seqlib.train.setup import build_model, make_epochs, place
from seqlib.train.step import CompiledStep, step_of
from seqlib.util.errors import UsageError
from seqlib.util.log import get_logger
from seqlib.util.memory import parse_size, resident_bytes

_SIZES = tuple(256 << n for n in range(10))  # tokens a side
_ENOUGH = 0.95  # of the best speed
_SHARE = 0.8  # of the memory there is
_UPDATES = 20  # an epoch has at least so many
_STEPS = 2


def settle_batch(config: RunConfig, data: Any) -> RunConfig:
    """The configuration with a number for `batch.tokens`, if that is "auto": the smallest of 256, 512, … tokens whose
    steps train at least 95 % of the tokens a second of the fastest.

    Sizes are tried upwards, each with the largest batch of its plan, until two in a row are no faster, until the
    planned memory exceeds 80 % of what there is, or until an epoch would have fewer than 20 updates. Larger batches
    train no faster, and each of their tokens teaches less. The number is kept in the run's configuration: a resume
    does not measure again.
    """
    if config.batch.tokens != "auto":
        return config
    speeds = _measure(config, data)
    best = max(speeds.values())
    tokens = next(size for size, speed in speeds.items() if speed >= _ENOUGH * best)
    told = ", ".join(f"{speed:,.0f} at {size:,}" for size, speed in speeds.items())
    get_logger().info("batch.tokens auto: %s (target tok/s: %s)", f"{tokens:,}", told)
    return _with_tokens(config, tokens)


def _with_tokens(config: RunConfig, tokens: int) -> RunConfig:
    return msgspec.structs.replace(config, batch=msgspec.structs.replace(config.batch, tokens=tokens))


def _measure(config: RunConfig, data: Any) -> dict[int, float]:
    """Target tokens a second by batch size, for the sizes that were tried; at least one."""
    generator = Generator(config.seed)
    model, _ = build_model(config, data.spec, generator)
    optimizer, _ = place(config, model.train(), generator)
    optimizer.lr.assign(np.float32(0))
    step = step_of(config, model, optimizer, generator)
    device = optimizer.lr.device
    held, free = resident_bytes() if device == "cpu" else 0, BACKENDS[device].free_bytes()
    all_there_is = float("inf") if free is None else held + free
    room = _SHARE * (parse_size(config.memory_limit) if config.memory_limit else all_there_is)
    speeds: dict[int, float] = {}
    smallest = make_epochs(_with_tokens(config, _SIZES[0]), data)
    for size in _SIZES:
        epochs = replace(smallest, tokens=size)
        try:
            plan = epochs.plan(0)
        except UsageError:
            continue  # packed rows must hold the longest sentence
        if speeds and len(plan.batches) < _UPDATES:
            break
        planned = max(plan.batches, key=lambda batch: (batch.cells, len(batch.indices)))
        batches = epochs.collated(planned, data.spec, 0)
        need = max(program.arena_bytes for program in step.lower(batches))
        if speeds and held + need > room:
            break
        speeds[size] = _speed(step, batches, plan)
        last = list(speeds.values())
        if len(last) > 2 and max(last[-2:]) < max(last[:-2]) / _ENOUGH:
            break
    del model, optimizer, step
    gc.collect()
    for arena in ARENAS.values():
        arena.release()
    return speeds


def _speed(step: CompiledStep, batches: list[Any], plan: Plan) -> float:
    """Target tokens a second in an epoch of such steps, by the quickest of a few."""
    step(batches)
    seconds = []
    for _ in range(_STEPS):
        began = time.perf_counter()
        step(batches)[0].item()
        seconds.append(time.perf_counter() - began)
    places = sum(batch.places() for batch in batches)
    return places * (1 - plan.padding_share) / min(seconds)
