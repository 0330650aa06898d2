"""Fine-tuning: a run of training that starts from a pretrained model."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from seqlib import bundle
from seqlib.bundle.architecture import builder, is_location
from seqlib.core.meta import meta
from seqlib.core.rng import Generator
from seqlib.data.pretrained import read_tokenizer
from seqlib.data.tokenizer import KINDS
from seqlib.decode.load import search_defaults
from seqlib.hub.formats import open_checkpoint
from seqlib.hub.handles import resolve
from seqlib.hub.load import family_of, is_bundle, read_config, read_model, spec_from
from seqlib.hub.surgery import rows_of, transplanted
from seqlib.models import model_task
from seqlib.problems.language_model_files import is_document, is_text
from seqlib.train.config import RunConfig, build, merge
from seqlib.train.setup import make_config, model_config
from seqlib.util.errors import SeqlibError, UsageError
from seqlib.util.log import get_logger

_RATE, _ADAPTERS_RATE = 1e-4, 1e-3
_OPTIM: dict[str, Any] = {
    "schedule": "constant*linear_warmup*linear_decay",
    "warmup": 100,
    "betas": (0.9, 0.999),
    "eps": 1e-8,
    "weight_decay": 0.01,
    "smoothing": 0.0,  # a distilled model is sharp: smoothing would undo that first
}
_BATCH = {
    "text_classification": {"tokens": 1024, "max_length": 128, "shapes": 6},
    "translation": {"tokens": 1024, "max_length": 128, "shapes": 6},
    "language_model": {"tokens": 2048, "max_length": 256, "shapes": 6},
}


def fine_tune(handle: str | Path, given: Mapping[str, Any]) -> Any:
    """Train as `seqlib train --from HANDLE` does, with the settings `given` (a nested dictionary, as in a configuration
    file); a `train.run.Result`.

    Raises UsageError for a model that can't be fine-tuned for the task, and the errors of `train` and `seqlib.load`.
    """
    from seqlib.train import run

    return run.train(make_config(settings({**given, "pretrained": str(handle)})), start=start)


def settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run with those that its `pretrained` model says: model, sizes, tokenizer, longest text, search;
    and the defaults of fine-tuning below what was `given`.

    Raises UsageError for a model of another kind than seqlib fine-tunes, or settings that contradict it.
    """
    folder = _folder(given["pretrained"])
    if given.get("data", {}).get("tokenizer") == "new":
        text = is_text(given["data"].get("paths", ()), given["data"].get("text", ()))
        given = merge(given, {"data": {"tokenizer": "bpe" if text else "unigram"}})
    asked = build(given)
    name, sizes, task, decode = _saved(folder, asked.model) if is_bundle(folder) else _published(folder)
    if asked.model not in ("", name) and not is_location(name):
        raise UsageError(f"{folder} is a {name}: leave out --model")
    anew = asked.data.tokenizer in KINDS
    if anew and task == "text_classification":
        raise UsageError(f"{folder} reads texts by a tokenizer of its own: leave out --tokenizer")
    if asked.data.vocab_size and not anew:
        raise UsageError(f"{folder} has a vocabulary of its own: give --tokenizer new with --vocab_size")
    own = {"model": asked.model or name, "data": {} if anew else {"tokenizer": str(folder)}}
    batch: dict[str, Any] = dict(_BATCH[task])
    batch["max_length"] = min(batch["max_length"], sizes["max_length"])
    if task == "language_model" and not is_document(asked.data.paths):
        batch["kind"] = "windows"
    rate = {"lr": _ADAPTERS_RATE if asked.optim.lora_rank else _RATE}
    return merge({"hparams": sizes, "optim": _OPTIM | rate, "batch": batch, "decode": decode}, given, own)


def start(model: Any, config: RunConfig, data: Any) -> dict[str, Any]:
    """Load the pretrained weights of a run into its drawn `model`, for `train`; a log line names what stays drawn.
    Gives what became of a vocabulary that is not the pretrained one.

    Raises SeqlibError where that is more than a head."""
    folder, saved = _folder(config.pretrained), None
    if is_bundle(folder):
        saved = bundle.read(folder, model=config.model if is_location(config.model) else None)
        weights = saved.weights()
        if saved.spec.labels != data.spec.labels:
            weights = {name: value for name, value in weights.items() if not name.startswith("output.")}
    elif data.spec.labels is not None:
        weights = _without_head(folder, config, data.spec)
    else:
        weights = read_model(folder).state_dict(copy=False)
    report: dict[str, Any] = {}
    if config.data.tokenizer in KINDS:
        old, spec = (saved.tokenizer, saved.spec) if saved else (read_tokenizer(folder), spec_from(read_config(folder)))
        rows, counts = rows_of(old, spec, data.tokenizer, data.spec)
        weights, report = transplanted(weights, spec.target_vocab, rows), {"vocabulary": counts}
        get_logger().info("vocabulary: %s", ", ".join(f"{count:,} pieces {what}" for what, count in counts.items()))
    own = {name for name in model.state_dict(copy=False) if not name.endswith((".a.default", ".b.default"))}
    new = own - weights.keys()
    if lost := [
        name for name in new if not any(fnmatchcase(name, f) for f in (*getattr(model, "head", ()), "output.*"))
    ]:
        raise SeqlibError(f"{folder}: has no weights for {', '.join(sorted(lost))}")
    model.load({name: value for name, value in weights.items() if name in own}, strict=False)
    told = f"; new: {', '.join(sorted(new))}" if new else ""
    get_logger().info("weights of %s%s", config.pretrained, told)
    return report


def _folder(handle: str) -> Path:
    """Where a handle's files lie; of a run its model."""
    folder = resolve(handle).absolute()
    return bundle.locate(folder) or folder


def _saved(folder: Path, model: str) -> tuple[str, dict[str, Any], str, dict[str, Any]]:
    """Model, sizes, task and search of a model that was trained here."""
    saved = bundle.read(folder, model=model if is_location(model) else None)
    search = search_defaults(saved.generation) if saved.spec.task == "translation" else {}
    return saved.architecture, msgspec.to_builtins(saved.model_config), saved.spec.task, search


def _published(folder: Path) -> tuple[str, dict[str, Any], str, dict[str, Any]]:
    """The same of a model in Hugging Face's format."""
    family = family_of(found := read_config(folder), folder)
    spec = spec_from(found)
    with meta():
        model = family.from_hf(found, open_checkpoint(folder), spec)
    if spec.labels is None and spec.source_vocab != spec.target_vocab:
        raise UsageError(f"{folder}: source and target have vocabularies of their own; fine-tuning needs one")
    name = type(model).__module__.rpartition(".")[2]
    task = model_task(name)
    found = {**found, **read_config(folder, "generation_config.json")}
    beam, alpha = int(found.get("num_beams") or 1), float(found.get("length_penalty") or 1.0)
    search = {"beam": beam, "alpha": alpha, "penalty": "power"} if task == "translation" else {}
    return name, msgspec.to_builtins(model.config), task, search


def _without_head(folder: Path, config: RunConfig, spec: Any) -> dict[str, np.ndarray]:
    """The weights of a pretrained encoder by the names of a classifier for a ProblemSpec, without the output layer and
    what else the checkpoint lacks of its head."""
    family = family_of(read_config(folder), folder)
    model = builder(config.model)(model_config(config), spec, Generator(0))
    checkpoint, table = open_checkpoint(folder), family.names(model)
    output = [name for name in model.state_dict(copy=False) if name.startswith("output.")]
    known = {table.place(name, {}).name for name in output}
    report = table.read(model, {name: checkpoint[name] for name in checkpoint if name not in known}, fresh=model.head)
    if report.unexpected:
        get_logger().info("not used: %s", ", ".join(report.unexpected))
    new = {*report.missing, *output}
    return {name: value for name, value in model.state_dict(copy=False).items() if name not in new}
