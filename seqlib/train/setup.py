"""From names to things: preset, configuration, problem, prepared data, model, optimizer."""

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from seqlib.bundle.architecture import Build, builder, config_type, is_location
from seqlib.core.backends import choose_device
from seqlib.core.rng import Generator, use_generator
from seqlib.data.epochs import Epochs
from seqlib.data.mixing import parse_mix
from seqlib.data.sources import absolute_source, parse_data
from seqlib.models import list_models, model_task
from seqlib.models.preset import Preset
from seqlib.nn.lora import add_lora
from seqlib.nn.precision import Precision, resolve_precision
from seqlib.optim.loss_scale import LossScale
from seqlib.problems.language_model_files import is_text
from seqlib.train import callbacks
from seqlib.train import config as run_config
from seqlib.train.config import DataConfig, RunConfig
from seqlib.train.tasks import task_of
from seqlib.util.errors import UsageError, unknown
from seqlib.util.lookup import resolve

_SETTINGS = {
    "adamw": ("betas", "eps"),
    "muon": ("betas", "eps", "momentum", "rounds"),
    "adafactor": ("momentum", "relative"),
    "sgd": ("momentum", "nesterov"),
}
"""What an optimizer has beside what all have."""

_LAYER = re.compile(r"(?:^|\.)(layers|blocks|encoder|decoder)\.(\d+)\.")
_BELOW = re.compile(r"embedding|positions|types|source_norm|target_norm|relative")
T2T_HPARAMS = {
    "hidden_size": "d_model",
    "filter_size": "d_ff",
    "num_heads": "heads",
    "num_hidden_layers": "layers",
    "num_encoder_layers": "encoder_layers",
    "num_decoder_layers": "decoder_layers",
    "layer_prepostprocess_dropout": "dropout",
    "relu_dropout": "ff_dropout",
}
"""Tensor2Tensor's names of model settings, accepted in `--hparams`."""


def make_config(given: Mapping[str, Any], source: bool = True) -> RunConfig:
    """The whole configuration: defaults, then the preset's training settings, then what was given.

    `source` False: it need not say what to train on. Raises `UsageError` for unknown names, before any data is read.
    """
    asked = run_config.build(given)
    if source:
        check_source(asked)
    if asked.hparams_set and not asked.model:
        asked = msgspec.structs.replace(asked, model=_model_of(asked.hparams_set))
    task = task_of(task_name(asked))
    asked = msgspec.structs.replace(asked, model=asked.model or task.default_model)
    check_model(asked, task.name)
    own = is_location(asked.model) or asked.pretrained
    name = asked.hparams_set or ("" if own else task.propose_preset(asked))
    overrides = find_preset(name).overrides() if name else {}
    callbacks.make(asked.callbacks)
    given = {**given, "hparams_set": name, "model": asked.model}
    found = absolute_locations(given) | {"data": absolute(asked.data)}
    config = run_config.build(run_config.nested(overrides), given, found)
    check_optimizer(given.get("optim", {}), config, run_config.build(run_config.nested(overrides)))
    chosen = model_config(config)
    if config.batch.kind == "packing" and (reason := why_not_packed(config)):
        raise UsageError(f"batch.kind packing with {config.model}: {reason}; use batch.kind buckets")
    # The whole model, so that a run does not change when a preset does.
    return msgspec.structs.replace(config, hparams=msgspec.to_builtins(chosen))


def _model_of(hparams_set: str) -> str:
    """The model of the library that a preset is for."""
    kind = type(find_preset(hparams_set).model)
    own = kind.__module__.rpartition(".")[2]
    return next((name for name in list_models() if config_type(builder(name)) is kind), own)


def task_name(config: RunConfig) -> str:
    """The task of the configured problem or files; without any that of the model. No data is read.

    Raises UsageError for a problem that is not there.
    """
    if config.problem and not config.data.paths:
        return open_problem(config).task
    if config.data.label:
        return "text_classification"
    if is_text(config.data.paths, config.data.text):
        return "language_model"
    if config.data.paths or not config.model or is_location(config.model):
        return "translation"
    return model_task(config.model)


def check_model(config: RunConfig, task: str) -> None:
    """`UsageError` unless there is the configured model, and it is for this task (somebody's own may be for any)."""
    model_builder(config)
    if is_location(config.model) or (found := model_task(config.model)) == task:
        return
    one, other = (name.replace("_", " ") for name in (found, task))
    one_text = is_text(config.data.paths, config.data.text)
    what = f"{config.data.paths[0]}, one file of text, makes a" if one_text else "this is"
    parallel = "; parallel texts are given as a.en,a.de" if one_text else ""
    raise UsageError(
        f"model {config.model!r} is for {one}, and {what} {other}: choose one of "
        f"{', '.join(list_models(task))}{parallel}"
    )


def why_not_packed(config: RunConfig) -> str:
    """The reason for which the configured model can't take packed batches; "" where it can."""
    told = getattr(inspect.getmodule(model_builder(config)), "why_not_packed", None)
    return told(model_config(config)) if told else "the model needs a row for each sentence"


def absolute(data: DataConfig) -> dict[str, Any]:
    """The settings that name files, as absolute paths: a run may be resumed from another folder."""
    lists = {name: getattr(data, name) for name in ("paths", "dev_paths", "test_paths")}
    folders = {name: getattr(data, name) for name in ("data_dir", "cache_dir")}
    found: dict[str, Any] = {name: [absolute_source(path) for path in paths] for name, paths in lists.items()}
    mix = [
        (",".join(absolute_source(file) for file in parse_data(files)), weight) for files, weight in parse_mix(data.mix)
    ]
    found["mix"] = "; ".join(f"{files}*{weight!r}" for files, weight in mix)
    return found | {name: str(Path(path).absolute()) for name, path in folders.items() if path}


_LOCATIONS = ("problem", "model", "hparams_set")


def own_code(config: RunConfig) -> dict[str, str]:
    """The settings that name code of somebody's own, by `file.py:name` or `module:name`, with that."""
    found = {name: getattr(config, name) for name in _LOCATIONS if is_location(getattr(config, name))}
    own = [entry for entry in config.callbacks if callbacks.is_location(entry)]
    return found | ({"callbacks": ", ".join(own)} if own else {})


def absolute_locations(given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the settings that may name files of code, with whole paths."""
    found: dict[str, Any] = {name: _absolute_location(given[name]) for name in _LOCATIONS if name in given}
    return found | ({"callbacks": callbacks.absolute(given["callbacks"])} if "callbacks" in given else {})


def check_optimizer(given: Mapping[str, Any], config: RunConfig, otherwise: RunConfig) -> None:
    """`UsageError` for a setting of another optimizer, if it is not what it would be without being `given`."""
    name = config.optim.name
    for setting in given:
        users = [kind for kind, own in _SETTINGS.items() if setting in own]
        if users and name not in users and getattr(config.optim, setting) != getattr(otherwise.optim, setting):
            own = " and ".join(f"optim.{each}" for each in _SETTINGS[name])
            raise UsageError(
                f"optim.{setting} is a setting of {' and '.join(users)}; {name} has {own}, beside those that all have"
            )


def _absolute_location(name: str) -> str:
    """`mine.py:Mine` with the whole path; names and modules as they are."""
    place, colon, attribute = name.rpartition(":")
    return f"{Path(place).absolute()}:{attribute}" if colon and place.endswith(".py") else name


def check_source(config: RunConfig) -> None:
    """`UsageError` unless the configuration names a problem or files, and for settings of files without any."""
    for name in ("mix", "weight"):
        if getattr(config.data, name) and not config.data.paths:
            raise UsageError(f"data.{name} is for own files (--data FILES); a named problem has its own")
    if not config.problem and not config.data.paths:
        raise UsageError("what to train on is missing: give --problem NAME (`seqlib list problems`) or --data FILES")


def find_preset(name: str) -> Preset:
    """The preset of that name, or of a user's `package.module:function`; `UsageError` with the nearest names."""
    found = resolve(name, "seqlib.models", "hparams_set")()
    if not isinstance(found, Preset):
        raise UsageError(f"hparams_set {name!r} gives a {type(found).__name__}, not a seqlib.models.preset.Preset")
    return found


def model_builder(config: RunConfig) -> Build:
    """The function that builds the model: of a file of seqlib.models, or at a user's location.

    Raises `UsageError` with the nearest names.
    """
    if not is_location(config.model) and config.model not in (known := list_models()):
        raise unknown("model", config.model, known)
    return builder(config.model)


def model_config(config: RunConfig) -> Any:
    """The model's configuration: the preset's (without one the defaults), with the fields in `hparams` replaced."""
    kind = config_type(model_builder(config))
    below = msgspec.to_builtins(find_preset(config.hparams_set).model) if config.hparams_set else {}
    if config.hparams_set and not isinstance(find_preset(config.hparams_set).model, kind):
        raise UsageError(
            f"hparams_set {config.hparams_set!r} is for another model than {config.model!r}; give its model, too"
        )
    known = {field.name for field in msgspec.structs.fields(kind)}
    changes = {T2T_HPARAMS.get(name, name): value for name, value in config.hparams.items()}
    for name in changes.keys() - known:
        raise unknown(f"setting of {config.model} in --hparams:", name, known)
    try:
        return msgspec.convert(below | changes, kind)
    except msgspec.ValidationError as error:
        raise UsageError(f"--hparams: {error}") from error


def open_problem(config: RunConfig) -> Any:
    """The problem: a named one, or one made of the user's files; reversed when asked."""
    data = config.data
    if not data.paths:
        from seqlib.problems import load_problem

        problem = load_problem(config.problem, data_dir=data.data_dir or None)
        return problem.reversed() if data.reverse else problem
    common: dict[str, Any] = {
        "dev": ",".join(data.dev_paths) or None,
        "test": ",".join(data.test_paths) or None,
        "dev_size": data.dev_size or None,
        "test_size": data.test_size or None,
        "encoding": data.encoding,
    }
    if data.label:
        from seqlib.problems.classify_files import from_data as labelled

        columns = {"text": data.text, "label": data.label, "weight": data.weight, "kind": data.label_kind}
        return labelled(",".join(data.paths), **columns, **common)
    if is_text(data.paths, data.text):
        from seqlib.problems.language_model_files import from_data as texts_from

        return texts_from(data.paths[0], text=data.text or None, **common)
    from seqlib.problems.translate_files import from_data

    source, target = _two(data.columns, "data.columns")
    source_language, target_language = _two(data.languages, "data.languages")
    problem = from_data(
        [",".join(data.paths), *(files for files, _ in parse_mix(data.mix))],
        source=source,
        target=target,
        source_language=source_language,
        target_language=target_language,
        weight=data.weight or None,
        **common,
    )
    return problem.reversed() if data.reverse else problem


def _two(names: tuple[str, ...], setting: str) -> tuple[str | None, str | None]:
    if not names:
        return None, None
    if len(names) != 2:
        raise UsageError(f"{setting}: expected two names, source and target, got {len(names)}: {', '.join(names)}")
    return names[0], names[1]


def prepare_data(config: RunConfig, problem: Any) -> Any:
    """The problem's data ready for training, made when they are not in the cache yet."""
    return task_of(problem.task).prepare(config, problem)


def make_epochs(config: RunConfig, data: Any, tell: bool = False) -> Epochs:
    """The plans of the run's epochs over prepared data; `tell` logs what is unusual about them."""
    return task_of(data.spec.task).epochs(config, data, tell)


def build_model(config: RunConfig, spec: Any, generator: Generator) -> tuple[Any, Any]:
    """(model, its configuration), with initial weights drawn from the generator."""
    chosen, optim = model_config(config), config.optim
    model = model_builder(config)(chosen, spec, generator)
    if optim.lora_rank:
        with use_generator(generator):
            add_lora(model, optim.lora_rank, optim.lora_alpha, optim.lora_targets)
    return model, chosen


def place(config: RunConfig, model: Any, generator: Generator) -> tuple[Any, Precision]:
    """Let a model compute in the run's precision, and move it and the generator to the run's device; returns the
    optimizer, there too, and the precision.

    Raises UsageError and CudaMissing for a precision or device that can't be had.
    """
    device = choose_device(config.device)
    precision = resolve_precision(config.precision, device, model)
    precision.apply(model)
    model.to(device)
    generator.to(device)
    optimizer = build_optimizer(config, model)
    if precision.scales_loss:
        optimizer.loss_scale = LossScale()
    return optimizer.to(device), precision


def build_optimizer(config: RunConfig, model: Any) -> Any:
    """The optimizer over the model's trainable parameters."""
    from seqlib.optim import SGD, Adafactor, AdamW, Muon

    optim = config.optim
    for pattern in optim.freeze:
        model.freeze(pattern)
    kinds: dict[str, Any] = {"adamw": AdamW, "muon": Muon, "adafactor": Adafactor, "sgd": SGD}
    settings = {name: getattr(optim, name) for name in _SETTINGS[optim.name]}
    return kinds[optim.name](
        model.trainable_parameters(),
        lr=optim.lr,
        weight_decay=optim.weight_decay,
        clip_norm=optim.clip_norm or None,
        ema=optim.ema,
        **settings,
    ).slow_down(layer_rates(list(model.trainable_parameters()), optim.layer_decay))


def layer_rates(names: list[str], decay: float) -> dict[str, float]:
    """By what each parameter's rate is multiplied: `decay` to the power of the layers above it, the head one of them.

    The number after ``layers.`` or ``blocks.`` in a name is its layer; embeddings and their norms lie below the first,
    a ``decoder`` above its ``encoder``.
    """
    if decay == 1.0:
        return {}
    found = {name: match for name in names if (match := _LAYER.search(name))}
    encoders = max((int(match[2]) + 1 for match in found.values() if match[1] == "encoder"), default=0)
    depth = {name: int(match[2]) + encoders * (match[1] == "decoder") for name, match in found.items()}
    top = max(depth.values(), default=-1) + 1
    rest = {name: -1 if _BELOW.search(name) else top for name in names if name not in found}
    rest |= {name: encoders - 1 for name in rest if name.startswith("encoder_norm")}
    return {name: decay ** (top - {**depth, **rest}[name]) for name in names}
