"""Whole runs by name, each with the score that it must reach.

Those of the library are the sections of ``recipes.toml``. One of a user's own is a function that returns a `Recipe`, at
``package.module:name`` or ``path/file.py:name``; it may take `quick` (a smaller run, for a CPU).
"""

import inspect
import time
import tomllib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from seqlib.bundle.architecture import is_location
from seqlib.train.config import RunConfig, merge
from seqlib.train.setup import make_config
from seqlib.util.errors import UsageError, unknown
from seqlib.util.lookup import resolve

__all__ = ["Recipe", "Trial", "has_quick", "list_recipes", "load_recipe", "reproduce"]


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """A run, and what it must reach: `score` of the saved model on `split` lies in `expected` for every seed.

    `score` is a path in what `seqlib evaluate` prints (``bleu.score``, ``accuracy``). `about` is one line for listings,
    `measured` says how the range was found, `cost` how long the run takes and on what.
    """

    about: str
    config: RunConfig
    score: str
    expected: tuple[float, float]
    split: str = "test"
    measured: str
    cost: str


class Trial(msgspec.Struct, frozen=True):
    """One run of a recipe: its seed, `score` (None: the run was `stopped`, by a signal's name), the seconds of training
    and of all, the model's folder, and all scores of the evaluation."""

    seed: int
    score: float | None
    train_seconds: float
    seconds: float
    folder: str
    scores: dict[str, Any]
    stopped: str = ""


def list_recipes() -> list[str]:
    """Names of all recipes of the library, sorted."""
    return sorted(_library().keys() - {"common"})


def has_quick(name: str) -> bool:
    """Whether a recipe has a quick form. Raises UsageError for an unknown name."""
    if ":" in name:
        return "quick" in inspect.signature(resolve(name, __name__, "recipe")).parameters
    return "quick" in _section(name)


def load_recipe(name: str, quick: bool = False) -> Recipe:
    """The recipe of a name, of ``package.module:name`` or of ``path/file.py:name``; its `quick` form if asked for.

    Raises UsageError with the nearest names for an unknown name, and where there is no quick form.
    """
    if quick and not has_quick(name):
        raise UsageError(f"recipe {name}: has no quick form")
    if ":" not in name:
        found = _section(name)["quick"] if quick else _section(name)
        fields = {field: value for field, value in found.items() if field not in ("settings", "quick", "expected")}
        config = make_config(merge(_library()["common"], found["settings"]))
        return Recipe(config=config, expected=tuple(found["expected"]), **fields)
    factory = resolve(name, __name__, "recipe")
    found = factory(quick=True) if quick else factory()
    if not isinstance(found, Recipe):
        raise UsageError(f"recipe {name!r} gives a {type(found).__name__}, not a seqlib.recipes.Recipe")
    return found


@cache
def _library() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("recipes.toml").read_text(encoding="utf-8"))


def _section(name: str) -> dict[str, Any]:
    if name.replace("-", "_") not in list_recipes():
        raise unknown("recipe", name, list_recipes())
    return _library()[name.replace("-", "_")]


def reproduce(
    recipe: Recipe,
    folder: Path,
    *,
    seeds: Sequence[int] = (1,),
    data_dir: str = "",
    device: str = "auto",
    tell: Callable[[Trial], object] = lambda trial: None,
) -> list[Trial]:
    """Train and evaluate once a seed, in `folder`/seed-N; `tell` hears of each as it ends. Stops after a stopped run.

    Raises UsageError where a run of that seed is there already, and what training and evaluation raise.
    """
    trials: list[Trial] = []
    for seed in seeds:
        trials.append(_trial(_placed(recipe.config, folder / f"seed-{seed}", seed, data_dir, device), recipe, device))
        tell(trials[-1])
        if trials[-1].stopped:
            break
    return trials


def _placed(config: RunConfig, folder: Path, seed: int, data_dir: str, device: str) -> RunConfig:
    data = config.data
    if data_dir:
        data = msgspec.structs.replace(data, data_dir=str(Path(data_dir).absolute()))
    return msgspec.structs.replace(config, data=data, output_dir=str(folder), seed=seed, device=device)


def _trial(config: RunConfig, recipe: Recipe, device: str) -> Trial:
    from seqlib.train import run

    began = time.perf_counter()
    result = run.train(config)
    trained = round(result.position.seconds, 1)
    if result.model is None:
        return Trial(config.seed, None, trained, trained, config.output_dir, {}, result.stopped)
    report = _evaluated(result.model, config, recipe.split, device)
    score: Any = report
    for part in recipe.score.split("."):
        if not isinstance(score, dict) or part not in score:
            raise UsageError(f"recipe: an evaluation gives no score {recipe.score!r}; it has {', '.join(report)}")
        score = score[part]
    seconds = round(time.perf_counter() - began, 1)
    return Trial(config.seed, float(score), trained, seconds, str(result.model), report)


def _evaluated(model: Path, config: RunConfig, split: str, device: str) -> dict[str, Any]:
    """What `seqlib evaluate` gives, with baselines if it may; code of somebody's own may run: the recipe names it."""
    from seqlib import bundle
    from seqlib.train.evaluation import bundle_problem
    from seqlib.train.tasks import task_of

    saved = bundle.read(model, model=config.model if is_location(config.model) else None)
    problem = bundle_problem(saved, problem=config.problem if is_location(config.problem) else None)
    task = task_of(saved.spec.task)
    beside = {"baselines": True} if "baselines" in task.evaluate_options else {}
    return task.evaluate(saved, problem, split, limit=0, device=device, precision="auto", **beside)
