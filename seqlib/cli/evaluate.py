"""Score a trained model on a split or on your own files; prints JSON.

Score the model in DIR on a split or on your own files and print JSON: sacreBLEU and chrF with their
signatures, the share of exact matches, the loss per target token.

\b
  seqlib evaluate runs/mine --split test
  seqlib evaluate runs/mine --data newstest.en,newstest.de --translations out.de
"""

import json
from pathlib import Path
from typing import Any

import click

from seqlib.cli.main import DEVICE, FOLDER, OWN_MODEL, OWN_PROBLEM, file_command, option
from seqlib.util.errors import UsageError


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


@file_command(
    FOLDER,
    OWN_MODEL,
    OWN_PROBLEM,
    option("--split", "Split of the model's problem.", default="test"),
    option("--data", "Own files instead: a.en,a.de or one TSV, CSV or JSONL file.", metavar="FILES"),
    option("--text", "Columns or field of text in own files.  [as in training]", default="", metavar="COLUMNS"),
    option("--label", "Column of the label in own files.  [as in training]", default="", metavar="COLUMN"),
    option("--data_dir", "Where the problem's raw files are now.", metavar="DIR"),
    option("--beam", "Beam width; 1 is greedy.  [the model's own]", least=1),
    option("--alpha", "Length penalty ((5 + n) / 6) ** alpha.  [the model's own]", type=float),
    option("--stride", "Of a language model's windows.  [their length]", least=1),
    option("--limit", "Score the first N pairs only; 0: all.", least=0, default=0),
    option("--baselines", "Classification: cheap models on the split, too.", is_flag=True, default=None),
    option("--translations", "Write the translations to FILE, one a line.", metavar="FILE"),
    *DEVICE,
)
def command(
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
