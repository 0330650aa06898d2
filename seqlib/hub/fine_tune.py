"""Fine-tuning: a run of training that starts from a pretrained model."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from seqlib.core.rng import Generator
from seqlib.hub.formats import open_checkpoint
from seqlib.hub.handles import resolve
from seqlib.hub.load import family_of, read_config
from seqlib.problems.spec import Labels, ProblemSpec
from seqlib.train.config import RunConfig, merge
from seqlib.train.setup import make_config, model_config
from seqlib.util.errors import UsageError
from seqlib.util.log import get_logger

__all__ = ["fine_tune", "settings", "weights"]


def fine_tune(handle: str | Path, given: Mapping[str, Any]) -> Any:
    """Train as `seqlib train --from HANDLE` does, with the settings `given` (a nested dictionary, as in a configuration
    file); a `train.run.Result`.

    Raises UsageError for a model that can't be fine-tuned for the task, and the errors of `train` and `seqlib.load`.
    """
    from seqlib.train import run

    config = make_config(settings({**given, "pretrained": str(handle)}))
    return run.train(config, start=weights(config))


def settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run with those that its `pretrained` model says: model, sizes, tokenizer, longest text.

    Raises UsageError for a model of another kind than seqlib fine-tunes, or settings that contradict it.
    """
    folder = resolve(given["pretrained"]).absolute()
    family = family_of(found := read_config(folder), folder)
    if not hasattr(family, "config_from"):
        raise UsageError(f"{folder}: fine-tuning of {found['model_type']} is not there yet; of BERT and its kin it is")
    name = family.__name__.rpartition(".")[2]
    if given.get("model", name) != name or given.get("data", {}).get("tokenizer"):
        raise UsageError(f"{folder} is a {name} with a tokenizer of its own: leave out --model and --tokenizer")
    sizes = msgspec.to_builtins(family.config_from(found))
    return merge({"hparams": sizes}, given, {"model": name, "data": {"tokenizer": str(folder)}})


def weights(config: RunConfig) -> dict[str, np.ndarray]:
    """The pretrained weights of a run by the names of its model, without those that the checkpoint lacks (a new head),
    which a log line names."""
    folder = resolve(config.pretrained)
    family = family_of(read_config(folder), folder)
    size = read_config(folder)["vocab_size"]
    spec = ProblemSpec(task=family.TASK, source_vocab=size, target_vocab=2, labels=Labels(names=("0", "1")))
    model = family.build(model_config(config), spec, Generator(0))
    checkpoint = open_checkpoint(folder)
    output = [name for name in model.state_dict(copy=False) if fnmatchcase(name, "output.*")]
    table = family.names(model)
    known = {table.place(name, {}).name for name in output}
    kept = {name: checkpoint[name] for name in checkpoint if name not in known}
    report = table.read(model, kept, fresh=model.head)
    new = {*report.missing, *output}
    get_logger().info("weights of %s; new: %s", config.pretrained, ", ".join(sorted(new)))
    if report.unexpected:
        get_logger().info("not used: %s", ", ".join(report.unexpected))
    return {name: value for name, value in model.state_dict().items() if name not in new}
