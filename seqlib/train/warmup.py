"""Running every CPU kernel that the bundled models use once, so that all of them are compiled and kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec
import numpy as np

from seqlib.core.ops import expression
from seqlib.core.rng import Generator
from seqlib.data.batch import Batch, PackedBatch
from seqlib.decode.engine import Engine
from seqlib.problems.spec import ProblemSpec
from seqlib.train.config import BatchConfig, OptimConfig, RunConfig
from seqlib.train.setup import build_model, build_optimizer, find_preset, make_config, why_not_packed
from seqlib.train.step import CompiledStep, compiled_loss
from seqlib.util.lookup import available

_OPTIM = ("name", "weight_decay", "clip_norm", "smoothing", "ema")  # what decides which kernels an update takes
_SPEC = ProblemSpec(source_vocab=32, target_vocab=32)


def run_all_kernels(presets: Sequence[str] = ()) -> None:
    """Training steps, losses and translations by every preset of the library (or by these), with dropout and without.

    Kernels are compiled by dtype and rank, not by size, so a few short sentences serve; loops that are generated from
    a configuration's constants and its number of layers are compiled however small their work is here.
    """
    with _loops_for_all():
        for config in _configs(presets or available("seqlib.models")):
            generator = Generator(config.seed)
            model, _ = build_model(config, _SPEC, generator)
            optimizer = build_optimizer(config, model.train())
            for accumulate in (1, 2):
                step = CompiledStep(model, optimizer, generator, config.optim.smoothing, accumulate)
                for batch in _batches(config):
                    step([batch] * accumulate)
            with model.evaluating():
                compiled_loss(model)(_padded())
                for beam in (1, config.decode.beam):
                    Engine(model, _SPEC).decode([[5, 6, 7], [8, 9]], beam=beam, max_length=4)


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
        narrow = {name: 32 for name in ("d_model", "hidden") if name in fields}
        least = {"d_ff": 32} if "d_ff" in fields else {}
        steady = {name: 0.0 for name in fields if name.endswith("dropout")}
        for changes in (one, narrow, one | steady, narrow | steady):
            settings = {"model": type(model).__module__.rpartition(".")[2], "hparams_set": preset}
            asked = settings | {"problem": "translate_bulletin_ende", "hparams": least | changes}
            config = make_config(asked)
            optim = OptimConfig(**{name: getattr(config.optim, name) for name in _OPTIM})
            config = msgspec.structs.replace(config, hparams_set="", batch=BatchConfig(), optim=optim)
            if config not in found:
                found.append(config)
    return found


def _batches(config: RunConfig) -> Iterator[Batch | PackedBatch]:
    """A padded batch, and a packed one where the model takes it."""
    yield _padded()
    if not why_not_packed(config):
        yield _packed()


def _padded() -> Batch:
    ids, lengths = np.full((3, 20), 5, np.int32), np.array([20, 9, 17], np.int32)
    targets, target_lengths = np.full((3, 24), 5, np.int32), np.array([24, 12, 7], np.int32)
    return Batch(ids, lengths, targets, targets, target_lengths)


def _packed() -> PackedBatch:
    (src, offsets), (tgt, target_offsets) = (
        (np.full(room, 5, np.int32), np.array([0, *np.cumsum(lengths)], np.int32))
        for room, lengths in ((48, (20, 9, 17)), (64, (24, 12, 24)))
    )
    places, target_places = (
        np.concatenate([*map(np.arange, np.diff(o)), np.zeros(len(x) - o[-1])]).astype(np.int32)
        for x, o in ((src, offsets), (tgt, target_offsets))
    )
    return PackedBatch(src, places, offsets, tgt, tgt, target_places, target_offsets)
