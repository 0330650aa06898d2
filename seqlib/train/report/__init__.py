"""`REPORT.html`: a run on one page that needs nothing else, written when a run ends and by `seqlib report DIR`."""

from pathlib import Path
from typing import Any

import msgspec

from seqlib import bundle
from seqlib.bundle import Bundle
from seqlib.bundle.architecture import is_location
from seqlib.models import model_task
from seqlib.train import checkpoint
from seqlib.train import config as run_config
from seqlib.train.config import RunConfig
from seqlib.train.environment import environment
from seqlib.train.report import curves, samples
from seqlib.train.report.page import Section, page, paragraph
from seqlib.train.runlog import duration
from seqlib.train.setup import open_problem, prepare_data
from seqlib.train.tasks import Task, task_of
from seqlib.util.atomic import write_text
from seqlib.util.errors import BundleError, SeqlibError
from seqlib.util.memory import size_text

__all__ = ["FILE", "write_report"]

FILE = "REPORT.html"


def write_report(folder: str | Path, model: str | None = None, problem: str | None = None) -> Path:
    """Write `REPORT.html` into the run folder and return its path. A run that has not ended has a report without
    translations; one whose data are no longer there has one without what they tell. `model` and
    `problem` say where the code of a model and a problem of one's own is now; what the run names is not run for it.

    Raises UsageError when `folder` holds no run, BundleError when its finished model is damaged.
    """
    folder = Path(folder)
    config = run_config.read(folder / "run.json")
    log = curves.read_log(folder / "log.jsonl")
    saved = _finished(folder, model)
    steps, seconds = _progress(folder, saved)
    data, missing = _data(config, problem)
    task = _task(config, saved, data)
    own = [curves.curves(log), curves.score_section(saved, task.loss_unit)]
    own += _from_data(task, config, data, missing, saved)
    profile: list[tuple[str, int, float]] = []
    if data is not None and saved is not None:
        profile = samples.step_profile(config, data, saved.build_model())
    why = missing or "the run has not ended"
    own.append(curves.time_section(log, seconds, profile, why))
    own.append(curves.record_section(config, saved, environment()))
    name = config.problem or Path(config.data.paths[0]).name
    title = f"{saved.problem['name'] if saved is not None else name}, {config.hparams_set or config.model}"
    subtitle = f"seqlib run in {folder.resolve()}"
    write_text(folder / FILE, page(title, subtitle, _figures(task, saved, log, steps, seconds), own))
    return folder / FILE


def _task(config: RunConfig, saved: Bundle | None, data: Any) -> Task:
    """That of the saved model or the data; before there is either, that of a model of the library."""
    known = next((one.spec.task for one in (saved, data) if one is not None), "")
    return task_of(known or ("translation" if is_location(config.model) else model_task(config.model)))


def _from_data(task: Task, config: RunConfig, data: Any, missing: str, saved: Bundle | None) -> list[Section]:
    if data is None:
        return [Section("Data", paragraph(f"Lengths and examples are not shown: {missing}."))]
    return task.sections(saved, data, config)


def _finished(folder: Path, model: str | None) -> Bundle | None:
    """The run's bundle; None while there is none. A damaged one raises."""
    if not (folder / "model").exists():
        return None
    return bundle.read(folder / "model", model=model)


def _progress(folder: Path, saved: Bundle | None) -> tuple[int, float]:
    """Steps and seconds so far."""
    if saved is not None:
        return int(saved.record["training"]["steps"]), float(saved.record["training"]["seconds"])
    if checkpoint.steps(folder / "checkpoints"):
        position = checkpoint.newest(folder / "checkpoints").state["position"]
        return int(position["step"]), float(position["seconds"])
    return 0, 0.0


def _data(config: RunConfig, problem: str | None) -> tuple[Any, str]:
    """The prepared data, or None and why."""
    if is_location(config.problem):
        if problem is None:
            return None, "the problem is code of somebody's own, which is run only by --problem FILE.py:NAME"
        config = msgspec.structs.replace(config, problem=problem)
    try:
        return prepare_data(config, open_problem(config)), ""
    except BundleError:
        raise
    except SeqlibError as error:
        return None, f"the data cannot be opened ({error})"


def _figures(
    task: Task, saved: Bundle | None, log: curves.Records, steps: int, seconds: float
) -> list[tuple[str, str]]:
    """What stands large at the top."""
    dev = [record for record in log if record["kind"] == "dev"]
    metrics = saved.metrics.get("dev", {}) if saved is not None else (dev[-1] if dev else {})
    found: list[tuple[str, str]] = []
    for name, label, form in task.figures:
        value = metrics.get(name)
        value = value["score"] if isinstance(value, dict) else value
        if value is not None:
            found.append((label, format(value, form)))
    found += [("steps", f"{steps:,}"), ("time", duration(seconds))]
    if saved is not None:
        training = saved.record["training"]
        found.append(("parameters", f"{training['parameters']:,}"))
        found += [(f"pieces {what}", f"{count:,}") for what, count in training.get("vocabulary", {}).items()]
        found.append(("target tokens", f"{training['target_tokens']:,}"))
        found.append(("weights", size_text(saved.record["files"]["model.safetensors"]["bytes"])))
    return found
