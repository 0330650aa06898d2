"""A run as a checkpoint holds it: all that the next step depends on, taken and put back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from seqlib.core.ops.product_cuda import prefer_choices, used_choices
from seqlib.train.checkpoint import Checkpoint
from seqlib.train.config import digest
from seqlib.train.environment import differences, environment
from seqlib.train.progress import Position
from seqlib.util.errors import DataError
from seqlib.util.log import get_logger

if TYPE_CHECKING:
    from seqlib.train.trainer import Trainer


def take(trainer: Trainer) -> dict[str, Any]:
    """The state of a run beside weights and optimizer slots, for `state.json`."""
    return {
        "step": trainer.position.step,
        "position": msgspec.to_builtins(trainer.position),
        "window": trainer.window.state_dict(),
        "evaluation": _evaluation(trainer),
        "generator": [int(value) for value in trainer.generator.state.numpy()],
        "callbacks": [
            {"kind": type(callback).__name__, "state": callback.state_dict()} for callback in trainer.callbacks
        ],
        "config_digest": digest(trainer.config),
        "data_digest": trainer.data.digest,
        "tokenizer_digest": trainer.data.tokenizer.digest,
        "data_folder": str(trainer.data.folder),
        "environment": environment(trainer.device),
        "products": used_choices(),
    }


def carried(model: Any) -> dict[str, np.ndarray]:
    """The states that a recurrent model takes from step to step, by the names that checkpoints have them under."""
    return {f"carried.{n}": variable.numpy() for n, variable in enumerate(getattr(model, "carried", ()))}


def _evaluation(trainer: Trainer) -> dict[str, Any]:
    """The last evaluation, so that a run that was killed after it does not make it again, and how it was made."""
    decode = msgspec.to_builtins(trainer.config.decode)
    return {"step": trainer.evaluated, "scores": trainer.scores, "decode": decode}


def restore(trainer: Trainer, saved: Checkpoint) -> None:
    """Go on from a checkpoint: parameters, slots, random state, data order and callbacks as they were.

    Raises DataError when the checkpoint belongs to other data or another configuration; warns when versions,
    processor or threads differ, since the promise of equal bits holds for equal ones only.
    """
    state = saved.state
    if state["config_digest"] != digest(trainer.config):
        raise DataError(f"{saved.path}: was written with another configuration than that of run.json now")
    if state["data_digest"] != trainer.data.digest:
        raise DataError(
            f"{saved.path}: was trained on other data than there are now: bring back the files as they were, "
            "or start a new run"
        )
    if state["tokenizer_digest"] != trainer.data.tokenizer.digest:
        raise DataError(
            f"{saved.path}: was trained with another tokenizer than that in {trainer.data.folder}, made of the same "
            f"text by another SentencePiece than {state['environment'].get('sentencepiece')}: bring the folder back"
        )
    prefer_choices(state.get("products", {}))
    trainer.model.load(saved.model)
    states = carried(trainer.model)
    trainer.optimizer.load({name: each for name, each in saved.optimizer.items() if name not in states})
    for name, variable in zip(states, getattr(trainer.model, "carried", ()), strict=True):
        variable.assign(saved.optimizer[name])
    trainer.generator.state.assign(np.array(state["generator"], dtype=np.int64))
    trainer.position = msgspec.convert(state["position"], Position)
    trainer.plan = trainer.epochs.plan(trainer.position.epoch)
    trainer.window.load(state["window"])
    evaluation = state["evaluation"]
    if evaluation["decode"] == _evaluation(trainer)["decode"]:
        scores = evaluation["scores"].items()  # JSON has no NaN
        trainer.scores = {name: math.nan if value is None else value for name, value in scores}
        trainer.evaluated = evaluation["step"]
    _restore_callbacks(trainer, state.get("callbacks", []))
    trainer.saved = saved.step
    trainer.log.rewind(saved.step)
    for line in differences(state["environment"], environment(trainer.device)):
        get_logger().warning("resumed in another environment, results may differ in the last bits: %s", line)


def _restore_callbacks(trainer: Trainer, saved: list[dict[str, Any]]) -> None:
    """Give every callback the state of the first one of its class that is not taken yet; others begin anew."""
    left = list(saved)
    for callback in trainer.callbacks:
        found = next((one for one in left if one["kind"] == type(callback).__name__), None)
        if found is not None:
            left.remove(found)
            callback.load(found["state"])
        elif callback.state_dict():
            get_logger().warning("%s was not in the run so far: it begins now", type(callback).__name__)
    for one in left:
        if one["state"]:
            get_logger().warning("%s is no longer in the run", one["kind"])
