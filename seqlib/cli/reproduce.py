"""Run a recipe (a whole training run with its evaluation) and check its score; without a name, list the recipes.

Train as the recipe NAME says, evaluate, and compare with the range that its score must lie in; prints JSON.
Exits with 1 outside of the range. Without NAME the recipes are listed.

\b
  seqlib reproduce
  seqlib reproduce translate_multi30k_ende --data_dir multi30k --seeds 3
  seqlib reproduce translate_multi30k_ende --data_dir multi30k --quick --device cpu

A recipe of your own: file.py:NAME (docs/adding-a-recipe.md).
"""

import json
import signal
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import click
import msgspec

from seqlib.cli.main import DEVICES, file_command, flag, option


@file_command(
    click.Argument(["name"], metavar="[NAME]", required=False),
    flag("--quick", "The recipe's smaller run, for a CPU, with a range of its own."),
    option("--seeds", "Runs, with seeds 1 to N.", least=1, default=1),
    option("--data_dir", "Where the problem's raw files are.", metavar="DIR"),
    option("--device", "Where.", one_of=DEVICES, default="auto"),
    option("--output_dir", "Folder of the runs.  [runs/NAME, with a number if taken]", metavar="DIR"),
)
def command(
    name: str | None, quick: bool, seeds: int, data_dir: str | None, device: str, output_dir: str | None
) -> int:
    from seqlib.recipes import Trial, list_recipes, load_recipe, reproduce
    from seqlib.util.atomic import free_folder

    if name is None:
        for one in list_recipes():
            click.echo(_described(one))
        return 0
    recipe = load_recipe(name, quick)
    lower, upper = recipe.expected

    def tell(trial: Trial) -> None:
        if trial.score is not None:
            said = "inside" if lower <= trial.score <= upper else "OUTSIDE of"
            click.echo(f"seed {trial.seed}: {recipe.score} {trial.score:g}, {said} {lower:g} … {upper:g}", err=True)

    stem = name.replace("-", "_") if ":" not in name else name.rpartition(":")[2]
    folder = Path(output_dir) if output_dir else free_folder(Path("runs") / (stem + "_quick" * quick))
    trials = reproduce(recipe, folder, seeds=range(1, seeds + 1), data_dir=data_dir or "", device=device, tell=tell)
    if stopped := trials[-1].stopped:
        click.echo(f"stopped by {stopped}; go on with: seqlib train --resume {trials[-1].folder}", err=True)
        return 128 + signal.Signals[stopped].value if stopped.startswith("SIG") else 1
    scores = [trial.score for trial in trials if trial.score is not None]
    passed = all(lower <= score <= upper for score in scores)
    report: dict[str, Any] = {
        "recipe": name,
        "quick": quick,
        "score": recipe.score,
        "split": recipe.split,
        "expected": [lower, upper],
        "mean": round(mean(scores), 4),
        "spread": round(stdev(scores), 4) if len(scores) > 1 else None,
        "passed": passed,
        "runs": [msgspec.to_builtins(trial) for trial in trials],
    }
    click.echo(json.dumps(report, indent=2, ensure_ascii=False))
    return 0 if passed else 1


def _described(name: str) -> str:
    """A recipe in a few lines: what it is, what its score must be, what it costs."""
    from seqlib.recipes import has_quick, load_recipe

    lines = [name]
    for quick in (False, True) if has_quick(name) else (False,):
        found = load_recipe(name, quick)
        lower, upper = found.expected
        lines += [f"  {'--quick: ' if quick else ''}{found.about}"]
        lines += [f"    {found.score} on {found.split}: {lower:g} … {upper:g} ({found.measured}); {found.cost}"]
    return "\n".join(lines)
