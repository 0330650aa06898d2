"""Score a trained model on a split or on your own files; prints JSON."""

import json
from pathlib import Path
from typing import Any

import click

from seqlib.cli.main import CONTEXT, DEVICE, OWN_MODEL, OWN_PROBLEM
from seqlib.util.errors import UsageError

__all__ = ["command"]

HELP = """Score the model in DIR on a split or on your own files and print JSON: sacreBLEU and chrF with their
signatures, the share of exact matches, the loss per target token.

\b
  seqlib evaluate runs/mine --split test
  seqlib evaluate runs/mine --data newstest.en,newstest.de --translations out.de
"""


def _data(bundle: Any, paths: str | None, data_dir: str | None, text: str = "", label: str = "") -> Any:
    """The data settings that replace the bundle's own, or None."""
    import msgspec

    from seqlib.train.config import DataConfig

    saved = msgspec.convert(bundle.problem["data"]["data"], DataConfig)
    if paths is not None:
        label = label or saved.label
        if (bundle.spec.labels is not None) != bool(label):
            raise UsageError(
                "--text COLUMN and --label COLUMN say what is where in --data for a classifier, and no other"
            )
        files = tuple(part.strip() for part in paths.split(",") if part.strip())
        return DataConfig(
            paths=files,
            test_paths=files,
            text=tuple(text.split(",")) if text else saved.text if label else (),
            label=label,
            columns=saved.columns[::-1] if saved.reverse else saved.columns,
            encoding=saved.encoding,
            languages=(bundle.spec.source_language, bundle.spec.target_language),
        )
    return DataConfig(data_dir=data_dir, reverse=saved.reverse) if data_dir is not None else None


def _evaluate(
    folder: str,
    model: str | None,
    problem: str | None,
    split: str,
    data: str | None,
    data_dir: str | None,
    text: str,
    label: str,
    limit: int,
    device: str,
    precision: str,
    **own: Any,
) -> None:
    from seqlib import bundle as bundles
    from seqlib.train.evaluation import bundle_problem
    from seqlib.train.tasks import task_of

    bundle = bundles.read(folder, model=model)
    task = task_of(bundle.spec.task)
    options = {name: value for name, value in own.items() if value is not None}
    if others := options.keys() - set(task.evaluate_options):
        flags = ", ".join(f"--{name}" for name in sorted(others))
        raise UsageError(f"{flags}: not for a model of {task.name.replace('_', ' ')}")
    opened = bundle_problem(bundle, _data(bundle, data, data_dir, text, label), problem)
    part = "test" if data is not None else split
    scores = task.evaluate(bundle, opened, part, limit=limit, device=device, precision=precision, **options)
    report = {"model": str(Path(folder)), "problem": opened.name, "split": data or split, **scores}
    click.echo(json.dumps(report, indent=2, ensure_ascii=False))


command = click.Command(
    "evaluate",
    callback=_evaluate,
    params=[
        click.Argument(["folder"], metavar="DIR"),
        OWN_MODEL,
        OWN_PROBLEM,
        click.Option(["--split"], default="test", show_default=True, help="Split of the model's problem."),
        click.Option(["--data"], metavar="FILES", help="Own files instead: a.en,a.de or one TSV, CSV or JSONL file."),
        click.Option(
            ["--text"], default="", metavar="COLUMNS", help="Columns or field of text in own files.  [as in training]"
        ),
        click.Option(
            ["--label"], default="", metavar="COLUMN", help="Column of the label in own files.  [as in training]"
        ),
        click.Option(["--data_dir"], metavar="DIR", help="Where the problem's raw files are now."),
        click.Option(["--beam"], type=click.IntRange(min=1), help="Beam width; 1 is greedy.  [the model's own]"),
        click.Option(["--alpha"], type=float, help="Length penalty ((5 + n) / 6) ** alpha.  [the model's own]"),
        click.Option(["--stride"], type=click.IntRange(min=1), help="Of a language model's windows.  [their length]"),
        click.Option(["--limit"], type=click.IntRange(min=0), default=0, help="Score the first N pairs only; 0: all."),
        click.Option(
            ["--baselines"], is_flag=True, default=None, help="Classification: cheap models on the split, too."
        ),
        click.Option(["--translations"], metavar="FILE", help="Write the translations to FILE, one a line."),
        *DEVICE,
    ],
    help=HELP,
    context_settings=CONTEXT,
)
