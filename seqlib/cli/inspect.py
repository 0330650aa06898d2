"""Show what is in a run folder, a checkpoint, a saved model or prepared data.

Show what is in DIR, a run folder, a checkpoint, a saved model or prepared data: problem, model, settings that
differ from the defaults, steps, scores, curves, vocabulary, sizes, weights, digests, environment, and what can be done
next; of prepared data what was kept and dropped and why, lengths, some pairs. No code that DIR names is run.

A damaged file is named on standard error, with exit code 2.
"""

import json

import click

from seqlib.cli.main import FOLDER, file_command, flag
from seqlib.util.errors import DataError


@file_command(
    FOLDER,
    flag("--quick", "Read neither weights nor digests, only sizes."),
    flag("--all all_", "The whole table of weights."),
    flag("--json json_", "Everything as JSON."),
)
def command(folder: str, quick: bool, all_: bool, json_: bool) -> None:
    from seqlib.train.inspection import inspect

    page = inspect(folder, quick)
    click.echo(json.dumps(page.record | {"damaged": page.damaged}, indent=2) if json_ else page.text(all_))
    if page.damaged:
        raise DataError("\n".join(page.damaged))
