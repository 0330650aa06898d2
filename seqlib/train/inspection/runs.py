"""The page of a run folder."""

import math
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec

from seqlib import bundle
from seqlib.bundle.architecture import is_location
from seqlib.models import model_task
from seqlib.train import checkpoint
from seqlib.train import config as run_config
from seqlib.train.config import CONFIG_FILE, RunConfig
from seqlib.train.inspection.page import Page, columns, plain, sized, usage
from seqlib.train.inspection.saved import checked, read_state, tokenizer_facts
from seqlib.train.report.curves import read_log
from seqlib.train.runlog import duration
from seqlib.train.setup import find_preset, own_code
from seqlib.util.errors import SeqlibError
from seqlib.util.table import sparkline

_NOT_SETTINGS = {"output_dir", "hparams", "hparams_set", "model", "problem"}


def look(folder: Path, quick: bool) -> Page:
    """The page of a run. Its damaged parts are named in `damaged`; UsageError when its configuration is."""
    page = Page("a run", folder)
    config = run_config.read(folder / CONFIG_FILE)
    log = read_log(folder / "log.jsonl")
    model = _model(page, folder, quick)
    states, lines = _checkpoints(page, folder, quick)
    state = states[max(states)] if states else None
    done = "finished" if model is not None else "finished, its model is damaged" if (folder / "model").exists() else ""
    page.facts("state", _state(config, done, state, log))
    page.add("settings", *_settings(config))
    page.add("curves", *_curves(log))
    source = folder / "model" if model is not None else Path(state["data_folder"], "tokenizer") if state else None
    if source is not None and source.is_dir():
        page.facts("vocabulary", tokenizer_facts(source))
    page.facts("checkpoints", lines)
    if model is not None:
        weights = model["training"]["weights"]
        page.facts("model", {"weights": weights, "size": sized(folder / "model"), "digests": checked(quick)})
    if state is not None:
        page.environment(state["environment"])
    if model is not None:
        page.weights(folder / "model" / "model.safetensors", quick)
    elif states:
        page.weights(folder / "checkpoints" / f"step-{max(states)}" / "model.safetensors", quick)
    _next(page, folder, config, model is not None)
    return page


def _state(config: RunConfig, done: str, state: dict[str, Any] | None, log: list[dict[str, Any]]) -> dict[str, Any]:
    position = state["position"] if state is not None else {}
    begun = bool(position or log)
    return {
        "run": done or ("has not ended" if begun else "has not begun"),
        "problem": config.problem or ", ".join(config.data.paths),
        "model": config.model,
        "preset": config.hparams_set,
        "step": _step(config, position.get("step", max((record["step"] for record in log), default=0))),
        "time": duration(position["seconds"]) if position else "",
        "target tokens": position.get("target_tokens"),
        "best": _best(position.get("best_step", -1), log),
    }


def _model(page: Page, folder: Path, quick: bool) -> dict[str, Any] | None:
    """The record of the run's finished model, if there is one that can be used."""
    if not (folder / "model").exists():
        return None
    try:
        return bundle.read_record(folder / "model", check_digests=not quick)[1]
    except SeqlibError as error:
        page.damaged.append(str(error))
        return None


def _checkpoints(page: Page, folder: Path, quick: bool) -> tuple[dict[int, dict[str, Any]], dict[str, str]]:
    """The states of the checkpoints that can be used, by step, and a line for each of all."""
    found: dict[int, dict[str, Any]] = {}
    lines: dict[str, str] = {}
    for step in checkpoint.steps(folder / "checkpoints"):
        path = folder / "checkpoints" / f"step-{step}"
        try:
            found[step] = read_state(path, quick)
            lines[f"step {step:,}"] = f"{sized(path)}, digests {checked(quick)}"
        except SeqlibError as error:
            page.damaged.append(str(error))
            lines[f"step {step:,}"] = f"damaged: {error}"
    return found, lines


def _step(config: RunConfig, step: int) -> str:
    if config.train_steps:
        return f"{step:,} of {config.train_steps:,} ({100 * step / config.train_steps:.1f} %)"
    return f"{step:,}" + (f", in a time of {config.time_limit}" if config.time_limit else "")


def _best(step: int, log: list[dict[str, Any]]) -> str:
    """The evaluation of the best step, with all its scores."""
    record = next((r for r in reversed(log) if r["kind"] == "dev" and r["step"] == step), None)
    if record is None:
        return "no evaluation yet"
    scores = {f"dev {name}": v for name, v in record.items() if name not in ("kind", "step", "seconds")}
    return f"step {step:,}: {plain(scores)}"


def _settings(config: RunConfig) -> tuple[dict[str, Any], str]:
    """Settings that differ from the defaults and from what the preset brings; whose code is not run, if it is own."""
    layers: list[dict[str, Any]] = []
    model: dict[str, Any] = {}
    if config.hparams_set and not is_location(config.hparams_set):
        try:
            preset = find_preset(config.hparams_set)
            layers.append(run_config.nested(preset.overrides()))
            model = msgspec.to_builtins(preset.model)
        except SeqlibError:
            pass  # a preset of another version: its settings count as chosen
    defaults = run_config.build(*layers)
    found: dict[str, Any] = {}
    for path in run_config.paths():
        value = attrgetter(path)(config)
        if path.partition(".")[0] not in _NOT_SETTINGS and value != attrgetter(path)(defaults):
            found[path] = list(value) if isinstance(value, tuple) else value
    found |= {f"hparams.{name}": value for name, value in config.hparams.items() if value != model.get(name)}
    return found, columns(found) or "all as the defaults and the preset say"


def _curves(log: list[dict[str, Any]]) -> tuple[dict[str, Any], str]:
    """First, last and best value of every curve, and its shape."""
    found: dict[str, Any] = {}
    lines: dict[str, str] = {}
    for kind, names in (("train", ("loss", "target_tokens_per_second")), ("dev", ("loss", "bleu", "chrf"))):
        for name in names:
            values = [record[name] for record in log if record["kind"] == kind and record.get(name) is not None]
            values = [value for value in values if math.isfinite(value)]
            if values:
                label = f"{kind} {name.replace('_', ' ')}"
                found[label] = {"first": values[0], "last": values[-1], "values": len(values)}
                lines[label] = f"{sparkline(values)}  {values[0]:.4g} → {values[-1]:.4g}"
    return found, columns(lines)


def _next(page: Page, folder: Path, config: RunConfig, finished: bool) -> None:
    own = " --model FILE.py:NAME" if is_location(config.model) else ""
    place = " --problem FILE.py:NAME" if is_location(config.problem) else ""
    if finished:
        task = "translation" if is_location(config.model) else model_task(config.model)
        page.then(usage(task, f"{folder}{own}"), f"seqlib evaluate {folder}{own}{place} --split test")
    longer = "" if not finished else " --time_limit LONGER" if config.time_limit else " --train_steps MORE"
    page.then(f"seqlib train --resume {folder}{longer}" + (" --trust" if own_code(config) else ""))
    page.then(f"seqlib report {folder}", f"seqlib summary {folder}{own}")
