"""What a corpus asks for: size of the model, vocabulary, epochs, by written rules; and the lines that say so.

| text, both sides | preset | | pairs | pieces | epochs |
|---|---|---|---|---|---|
| below 10 MB | multi30k | | below 20,000 | 4,000 | 40 |
| below 100 MB | small | | below 200,000 | 8,000 | 20 |
| more | base | | below 2,000,000 | 16,000 | 10 |
| | | | more | 32,000 | 5 |

A problem with a preset of its name takes that. A size whose weights, gradients and optimizer slots (16 bytes a
parameter) would take over half of the free memory gives way to the one below. Files with .gz, .zst and .parquet count
threefold.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from seqlib.bundle.architecture import builder, is_location
from seqlib.core.backends import BACKENDS
from seqlib.core.meta import meta
from seqlib.core.rng import Generator
from seqlib.data.columnar import data_bytes, is_hub
from seqlib.problems.spec import ProblemSpec
from seqlib.train.tasks.base import families
from seqlib.util.lookup import available
from seqlib.util.memory import available_bytes, size_text

if TYPE_CHECKING:
    from seqlib.train.config import RunConfig
    from seqlib.train.memory import MemoryForecast
    from seqlib.train.trainer import Trainer

_MB = 1_000_000
SIZES = ((10 * _MB, "multi30k"), (100 * _MB, "small"), (None, "base"))
"""Preset by bytes of text below a limit, small to large."""
EPOCHS = ((20_000, 40), (200_000, 20), (2_000_000, 10), (None, 5))
"""Epochs by pairs below a limit, for a run with neither steps nor a time limit."""
_STATE_BYTES = 16  # a parameter, its gradient, two slots of the optimizer
_VOCABULARY = 32_000  # the largest that is proposed


def propose_preset(config: RunConfig) -> str:
    """The preset named after the problem, else one that suits the corpus and the memory; "" for a user's own model,
    whose defaults serve.
    """
    if is_location(config.model):
        return ""
    names = set(available("seqlib.models"))
    for family in families(config.problem):
        if f"{config.model}_{family}" in names:
            return f"{config.model}_{family}"
    size = text_bytes(config.data.paths)
    fitting = [f"{config.model}_{stem}" for stem in _up_to(size) if f"{config.model}_{stem}" in names]
    while len(fitting) > 1 and not _fits(config, fitting[-1]):
        fitting.pop()
    return fitting[-1] if fitting else f"{config.model}_base"


def default_epochs(pairs: int, pretrained: str = "") -> int:
    """Epochs of a run over so many pairs when nothing else ends it; an eighth of them from a `pretrained` model."""
    epochs = next(epochs for limit, epochs in EPOCHS if limit is None or pairs < limit)
    return max(1, epochs // 8) if pretrained else epochs


def text_bytes(paths: Sequence[str]) -> int:
    """Bytes of text in files, compressed ones counted threefold; missing ones, which are reported later, as nothing.

    A data set of the hub is fetched for it. Raises DataError when it cannot be, UsageError without the library.
    """
    found = 0
    for path in paths:
        if is_hub(path):
            found += data_bytes(path)
        elif Path(path).is_file():
            found += Path(path).stat().st_size * (3 if Path(path).suffix in (".gz", ".zst", ".parquet") else 1)
    return found


def advice(trainer: Trainer, forecast: MemoryForecast) -> list[str]:
    """Three lines: what was chosen for this corpus, or given, and why; what the run then comes to; where and in what it
    computes."""
    config, units = trainer.config, len(trainer.epochs.store)
    amount, unit = trainer.task.amount(trainer)
    why = ""
    if config.hparams_set and config.hparams_set == trainer.task.propose_preset(config):
        own = any(config.hparams_set.endswith(f"_{family}") for family in families(config.problem))
        size = text_bytes(config.data.paths)
        known = (
            f", the size for {size_text(size)} of text" if size else ", the smallest: the size of its text is not known"
        )
        why = ", made for this problem" if own else known if trainer.task.name == "translation" else ""
    steps, per_epoch = trainer.end.steps, len(trainer.plan.batches)
    length = f"{steps:,} steps ({steps / per_epoch:,.1f} epochs)" if steps else f"{trainer.end.limit:,.0f} seconds"
    if steps and not config.train_steps:
        length += f", as for {units:,} {unit}"
    free = BACKENDS[trainer.device].free_bytes()
    where = f"{trainer.device}, {trainer.precision}"
    room = f" of {size_text(free)} free" if free is not None else ""
    count, trained = trainer.model.num_parameters(), trainer.model.num_parameters(trainable_only=True)
    if trained < count:
        why += f", {trained:,} of them ({trained / count:.2%}) trained"
    return [
        f"{amount}: {config.hparams_set or config.model} with "
        f"{count:,} parameters{why}, {trainer.data.spec.source_vocab:,} pieces",
        f"batches of {config.batch.size:,} tokens, {per_epoch:,} an epoch; {length}; memory {forecast}{room}",
        f"device {where}",
    ]


def _up_to(size: int) -> list[str]:
    """The stems of presets that so much text feeds, small to large."""
    found: list[str] = []
    for limit, stem in SIZES:
        found.append(stem)
        if limit is None or size < limit:
            break
    return found


def _fits(config: RunConfig, name: str) -> bool:
    """Whether the state of a training run of this preset takes at most half of the free memory."""
    from seqlib.train.setup import find_preset

    free = available_bytes()
    if free is None:
        return True
    spec = ProblemSpec(source_vocab=_VOCABULARY, target_vocab=_VOCABULARY)
    with meta():
        model = builder(config.model)(find_preset(name).model, spec, Generator(0))
    return model.num_parameters() * _STATE_BYTES <= free / 2
