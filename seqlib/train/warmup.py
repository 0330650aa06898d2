"""Running every CPU kernel that the bundled models use once, so that all of them are compiled and kept."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec
import numpy as np

from seqlib.core.ops import expression
from seqlib.core.rng import Generator
from seqlib.models import model_task
from seqlib.train.config import BatchConfig, OptimConfig, RunConfig
from seqlib.train.setup import build_model, build_optimizer, find_preset, make_config
from seqlib.train.step import compiled_loss, step_of
from seqlib.train.tasks import task_of
from seqlib.util.errors import UsageError
from seqlib.util.lookup import available

_OPTIM = ("name", "weight_decay", "clip_norm", "smoothing", "ema")  # what decides which kernels an update takes


def run_all_kernels(presets: Sequence[str] = ()) -> None:
    """Training steps, losses and uses by every preset of the library (or by these), with dropout and without.

    Kernels are compiled by dtype and rank, not by size, so a few short sentences serve; loops that are generated from
    a configuration's constants and its number of layers are compiled however small their work is here.

    Raises UsageError where they can't be kept.
    """
    from seqlib.core.ops import jit_cpu

    if not os.access(jit_cpu.cache_folder(), os.W_OK):
        root = os.environ.get("SEQLIB_CACHE") or "the user's cache folder"
        raise UsageError(f"warmup: {root} cannot be written; choose another folder: --into DIR")
    _products()
    with _loops_for_all():
        for config in _configs(presets or available("seqlib.models")):
            generator = Generator(config.seed)
            task = task_of(model_task(config.model))
            spec = task.sample_spec()
            model, _ = build_model(config, spec, generator)
            optimizer = build_optimizer(config, model.train())
            for accumulate in (1, 2):
                step = step_of(config, model, optimizer, generator, accumulate)
                for batch in task.sample_batches(config):
                    step([batch] * accumulate)
            with model.evaluating():
                compiled_loss(model)(next(task.sample_batches(config)))
                task.sample_use(model, spec, config)


def _products() -> None:
    """What products take that are too large for a warm-up, with oneDNN and without, and those with int8 weights."""
    from seqlib.core.backends import onednn_cpu
    from seqlib.core.ops import int8_cpu, rows_cpu

    a = np.ones((64, 64), np.float32)
    rows_cpu.product(a, a.T, np.empty_like(a))
    words, room = np.zeros((4, 16, 16), np.int32), np.empty((64, 18), np.int32)
    int8_cpu.product([np.empty_like(a)], [a, words, a[0]], [room])
    if onednn_cpu.worthwhile():
        onednn_cpu.product(a, a, np.empty_like(a), half=False)


@contextmanager
def _loops_for_all() -> Iterator[None]:
    """Within it, generated loops are taken for the smallest arrays, too."""
    before, expression.LARGE = expression.LARGE, 0
    try:
        yield
    finally:
        expression.LARGE = before


def _configs(presets: Sequence[str]) -> list[RunConfig]:
    """Runs with each preset, either with one layer of its width or with narrow layers of its number, each once."""
    found: list[RunConfig] = []
    for preset in presets:
        model = find_preset(preset).model
        fields = [field.name for field in msgspec.structs.fields(model)]
        one = {name: 1 for name in ("encoder_layers", "decoder_layers", "layers") if name in fields}
        heads = getattr(model, "heads", 1)
        narrow = {name: 8 * heads if 32 % heads else 32 for name in ("d_model", "hidden") if name in fields}
        least = {"d_ff": 32} if "d_ff" in fields else {}
        steady = {name: 0.0 for name in fields if name.endswith("dropout")}
        for changes in (one, narrow, one | steady, narrow | steady):
            config = make_config({"hparams_set": preset, "hparams": least | changes}, source=False)
            optim = OptimConfig(**{name: getattr(config.optim, name) for name in _OPTIM})
            config = msgspec.structs.replace(config, hparams_set="", batch=BatchConfig(), optim=optim)
            if config not in found:
                found.append(config)
    return found
