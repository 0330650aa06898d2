"""The end of a run: choose the weights by their dev score, and write the bundle."""

import math
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from seqlib import bundle
from seqlib.nn.lora import merged_state, save_adapter
from seqlib.train import checkpoint
from seqlib.train.environment import environment
from seqlib.train.trainer import Trainer
from seqlib.util.log import get_logger


def choose_weights(trainer: Trainer) -> tuple[str, dict[str, float]]:
    """Load into the trainer's model the best of: the last step, the best evaluation, the average of the last
    checkpoints; or what a callback chose. Returns (its description, its dev scores); without a dev split the last step.
    """
    last, folder = trainer.position.step, trainer.checkpoints
    if trainer.chosen_step > 0 and folder is not None:
        trainer.model.load(checkpoint.load_weights(folder / f"step-{trainer.chosen_step}"))
        same = trainer.chosen_step == trainer.evaluated
        return f"step {trainer.chosen_step}", trainer.scores if same else trainer.scorer.dev()
    if folder is None or not trainer.scorer.available:
        with trainer.optimizer.averaged():
            current = trainer.model.state_dict()
        trainer.model.load(current)
        return f"step {last}", {}
    candidates = _candidates(trainer, folder)
    chosen, best, scores, held = "", -math.inf, {}, ""
    for name, weights in candidates.items():
        if name == f"step {trainer.evaluated}":
            found = trainer.scores
        else:
            trainer.model.load(weights())
            held, found = name, trainer.scorer.dev()
        if len(candidates) > 1:
            text = "  ".join(f"dev {key} {value:.4g}" for key, value in found.items())
            get_logger().info("%s: %s", name, text)
        if not chosen or trainer.scorer.rank(found) > best:
            chosen, best, scores = name, trainer.scorer.rank(found), found
    if held != chosen:
        trainer.model.load(candidates[chosen]())
    return chosen, scores


def _candidates(trainer: Trainer, folder: Path) -> dict[str, Callable[[], Mapping[str, np.ndarray]]]:
    """What may be saved, by its description; weights are read from their checkpoints when they are asked for."""
    last, best, known = trainer.position.step, trainer.position.best_step, checkpoint.steps(folder)
    found: dict[str, Callable[[], Mapping[str, np.ndarray]]] = {}
    if last in known:
        found[f"step {last}"] = lambda: checkpoint.load_weights(folder / f"step-{last}")
    else:  # it has no checkpoint, as its gradient was not finite
        with trainer.optimizer.averaged():
            current = trainer.model.state_dict()
        found[f"step {last}"] = lambda: current
    if best != last and best in known:
        found[f"step {best}"] = lambda: checkpoint.load_weights(folder / f"step-{best}")
    recent = known[-trainer.config.average :] if trainer.config.average > 1 else []
    if len(recent) > 1:
        paths = [folder / f"step-{step}" for step in recent]
        found[f"average of steps {', '.join(map(str, recent))}"] = lambda: checkpoint.average(paths)
    return found


def export(trainer: Trainer, target: Path) -> Path:
    """Choose the weights, see what the task adds, and write the bundle to `target`."""
    chosen, scores = choose_weights(trainer)
    trainer.model.eval()
    trainer.scorer.release()
    if trainer.baselines and scores:
        ranked = trainer.scorer.ranked
        beside = ", ".join(f"{name} {one[ranked]:.4g}" for name, one in trainer.baselines.items() if ranked in one)
        get_logger().info("dev %s %.4g (%s)", ranked.replace("_", " "), scores[ranked], beside)
    return write_model(trainer, target, chosen, scores)


def write_model(trainer: Trainer, target: Path, chosen: str, scores: dict[str, float], final: bool = True) -> Path:
    """Write the model as it is now as a bundle. `chosen` says what its weights are, `scores` are theirs on dev; during
    a run (not `final`) it goes without what takes long."""
    finished = trainer.task.finish(trainer, final)
    config, data, problem = trainer.config, trainer.data, trainer.problem
    metrics = {"dev": trainer.scorer.record(scores)} if scores else {}
    metrics |= {f"dev, {name}": scores for name, scores in trainer.baselines.items()}
    training = {
        "weights": chosen,
        "steps": trainer.position.step,
        "seconds": round(trainer.position.seconds, 1),
        "target_tokens": trainer.position.target_tokens,
        "parameters": trainer.model.num_parameters(),
        **trainer.started,
        "finished": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "hparams_set": config.hparams_set,
        "pretrained": config.pretrained if "://" in config.pretrained else Path(config.pretrained).name,
        "seed": config.seed,
        "data_digest": data.digest,
        "environment": environment(trainer.device),
    }
    return bundle.write(
        target,
        architecture=config.model,
        model_config=trainer.model_config,
        weights=merged_state(trainer.model),
        tokenizer=data.tokenizer,
        spec=data.spec,
        problem=problem.describe() | {"data": problem_source(config)},
        generation=finished.generation,
        training=training,
        metrics=metrics,
        confidence=finished.confidence,
        files={**(finished.files or {}), **_adapter(config, trainer.model)},
    )


def _adapter(config: Any, model: Any) -> dict[str, bytes]:
    """The adapter alone, which the bundle's weights have inside them."""
    if not config.optim.lora_rank:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        save_adapter(model, path := Path(folder) / "adapter.safetensors")
        return {path.name: path.read_bytes()}


def problem_source(config: Any) -> dict[str, Any]:
    """What `evaluate` needs to open the same problem again: its name, or the user's files."""
    import msgspec

    return {"problem": config.problem, "data": msgspec.to_builtins(config.data)}
