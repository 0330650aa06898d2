"""A whole run: prepare the data, train, write the model; or go on with one that was stopped."""

import gc
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from seqlib.bundle.architecture import is_location
from seqlib.core.backends import choose_device
from seqlib.core.program import ARENAS
from seqlib.train import callbacks as named_callbacks
from seqlib.train import checkpoint
from seqlib.train import config as run_config
from seqlib.train.advice import advice
from seqlib.train.auto_batch import settle_batch
from seqlib.train.callback import Callback
from seqlib.train.config import CONFIG_FILE, RunConfig
from seqlib.train.finish import export
from seqlib.train.memory import check_memory, forecast_memory, room_for_state
from seqlib.train.progress import Position
from seqlib.train.report import write_report
from seqlib.train.setup import absolute_locations, open_problem, own_code, prepare_data
from seqlib.train.snapshot import restore
from seqlib.train.trainer import Trainer
from seqlib.util.atomic import write_bytes
from seqlib.util.errors import UsageError
from seqlib.util.log import get_logger


@dataclass(frozen=True)
class Result:
    """What a run in `folder` came to. `model` is the bundle, None when the run was `stopped` (by a signal's name,
    "callback"); `position` is where in the data it stands, with its steps, epochs and seconds."""

    folder: Path
    model: Path | None
    stopped: str
    position: Position


def train(
    config: RunConfig, callbacks: Sequence[Callback] = (), start: Callable[..., dict[str, Any]] | None = None
) -> Result:
    """Start a run in `config.output_dir`, with `callbacks` beside those that the configuration names, from weights that
    `start(model, config, data)` loads into the drawn model; what it returns is recorded with the trained one.

    It ends as the configuration says, or by SIGINT and SIGTERM with a checkpoint to resume from. Raises UsageError
    without an output_dir or when there already is a run, DataError for a damaged corpus, OutOfMemoryError before the
    first step where the memory forecast does not fit.
    """
    folder = Path(config.output_dir) if config.output_dir else None
    if folder is None:
        raise UsageError("output_dir is missing: the folder for checkpoints and the trained model (--output_dir DIR)")
    open_problem(config)  # a wrong name or file should leave no folder behind
    named_callbacks.make(config.callbacks)
    with _locked(folder):
        if (folder / CONFIG_FILE).exists():
            raise UsageError(
                f"{folder} already holds a run: go on with it by `seqlib train --resume {folder}`, "
                "or choose another --output_dir"
            )
        return _go(lambda: make_trainer(config, folder, callbacks, start), folder)


def resumed_config(folder: Path, changes: Mapping[str, Any], trust: bool = False) -> RunConfig:
    """The configuration of the run in `folder` with `changes` (a nested dictionary).

    They may change how long it runs and what is logged, evaluated and kept; `UsageError` names other changes. Code of
    somebody's own that the run names (problem, model, preset, callbacks) is run only where `changes` name it too, or
    with `trust`; else UsageError.
    """
    saved = run_config.read(folder / CONFIG_FILE)
    config = run_config.build(
        msgspec.to_builtins(saved), changes, absolute_locations(changes), {"output_dir": str(folder)}
    )
    unnamed = {name: place for name, place in own_code(config).items() if name not in changes}
    if unnamed and not trust:
        raise UsageError(
            f"{folder / CONFIG_FILE} names code of somebody's own: "
            f"{'; '.join(f'{name} {place}' for name, place in unnamed.items())}. Code that a folder names is not run "
            "unasked: if this is yours, or you have read it, give --trust (in Python: trust=True)"
        )
    refused = run_config.same_run(saved, config)
    if refused:
        raise UsageError(f"a resumed run keeps its settings: {'; '.join(refused)}")
    return config


def resume(folder: Path, config: RunConfig | None = None, callbacks: Sequence[Callback] = ()) -> Result:
    """Go on with the run in `folder` from its newest whole checkpoint; without any, from its start.

    The rest of the run is equal to the bit to one that was never stopped. `config` may be what `resumed_config` gave,
    `callbacks` are as in `train`.
    """
    config = config or resumed_config(folder, {})
    with _locked(folder):
        checkpoint.clean(folder / "checkpoints")
        # Read first: a damaged one should not wait for the data.
        known = checkpoint.steps(folder / "checkpoints")
        newest = checkpoint.newest(folder / "checkpoints").path if known else None
        return _go(lambda: _resumed(config, folder, newest, callbacks), folder)


def _resumed(config: RunConfig, folder: Path, newest: Path | None, callbacks: Sequence[Callback]) -> Trainer:
    trainer = make_trainer(config, folder, callbacks)
    if newest is not None:
        restore(trainer, checkpoint.load(newest))
        get_logger().info("resumed after step %d", trainer.position.step)
    elif config.pretrained:
        raise UsageError(f"{folder} has no checkpoint yet: remove it, and start again with --from {config.pretrained}")
    else:
        trainer.log.rewind(0)
        get_logger().info("no checkpoint yet: starting from the first step")
    return trainer


def make_trainer(
    config: RunConfig, folder: Path | None, callbacks: Sequence[Callback] = (), start: Any = None
) -> Trainer:
    """Prepare the data and build the trainer, with `start` as in `train`, and say what is being trained."""
    choose_device(config.device)  # before the data: what is missing is told at once
    named = named_callbacks.make(config.callbacks)
    problem = open_problem(config)
    data = prepare_data(config, problem)
    with room_for_state(config, data.spec):
        config = settle_batch(config, data)
        trainer = Trainer(config, problem, data, folder, [*named, *callbacks], start)
    forecast = forecast_memory(trainer)
    for line in advice(trainer, forecast):
        get_logger().info("%s", line)
    check_memory(trainer, forecast)
    return trainer


def _go(start: Callable[[], Trainer], folder: Path) -> Result:
    """Train what `start` makes; the trainer has gone when the report, which needs memory of its own, is written."""
    trainer = start()
    write_bytes(folder / CONFIG_FILE, run_config.to_json(trainer.config))
    trainer.started = _kept(trainer.started, folder / "started.json")
    trainer.baselines = _baselines(trainer, folder / "baselines.json")
    stopped, config, position = trainer.fit(), trainer.config, trainer.position
    if stopped:
        get_logger().info(
            "stopped by %s after step %s; go on with: seqlib train --resume %s%s",
            stopped,
            f"{position.step:,}",
            folder,
            " --trust" if own_code(config) else "",
        )
        return Result(folder, None, stopped, position)
    model, arena = export(trainer, folder / "model"), ARENAS[trainer.device]
    use = trainer.task.use
    del trainer
    gc.collect()
    arena.release()
    own_model = config.model if is_location(config.model) else None
    if config.report:
        get_logger().info("the report is in %s", write_report(folder, own_model, config.problem))
    own = f" --model {own_model}" if own_model else ""
    get_logger().info("the model is in %s; use it with: seqlib %s %s%s", model, use, folder, own)
    return Result(folder, model, "", position)


def _kept(found: dict[str, Any], path: Path) -> dict[str, Any]:
    """`found`, kept in a file; of a resumed run, which finds nothing, what is there."""
    if found:
        write_bytes(path, msgspec.json.encode(found))
    return msgspec.json.decode(path.read_bytes(), type=dict[str, Any]) if path.is_file() else found


def _baselines(trainer: Trainer, path: Path) -> dict[str, dict[str, Any]]:
    """Those of the run's task on dev, told and kept; a resumed run reads them."""
    if path.is_file():
        return _kept({}, path)
    if not trainer.scorer.available or not trainer.config.baselines:
        return {}
    found = trainer.task.baselines(trainer.problem, trainer.data, trainer.config)
    for name, scores in found.items():
        figures = "  ".join(f"{key} {value:.4g}" for key, value in scores.items() if key != "seconds")
        get_logger().info("baseline: %s  dev %s  (%.1f s)", name, figures, scores["seconds"])
    return _kept(found, path)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the run folder's lock, which the system drops when the process ends, however it ends."""
    from filelock import FileLock, Timeout

    known = folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"output_dir {folder}: cannot be made ({error.strerror}); name another") from error
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise UsageError(f"{folder}: another process is training here") from None
    finally:
        if not known and [entry.name for entry in folder.iterdir()] == [".lock"]:
            shutil.rmtree(folder)  # a run that could not begin leaves no folder
