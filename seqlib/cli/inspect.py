"""Show what is in a run folder, a checkpoint, a saved model or prepared data."""

import json

import click

from seqlib.cli.main import CONTEXT
from seqlib.util.errors import DataError

__all__ = ["command"]

HELP = """Show what is in DIR, a run folder, a checkpoint, a saved model or prepared data: problem, model, settings that
differ from the defaults, steps, scores, curves, vocabulary, sizes, weights, digests, environment, and what can be done
next; of prepared data what was kept and dropped and why, lengths, some pairs. No code that DIR names is run.

A damaged file is named on standard error, with exit code 2.
"""


def _inspect(folder: str, quick: bool, all_: bool, json_: bool) -> None:
    from seqlib.train.inspection import inspect

    page = inspect(folder, quick)
    click.echo(json.dumps(page.record | {"damaged": page.damaged}, indent=2) if json_ else page.text(all_))
    if page.damaged:
        raise DataError("\n".join(page.damaged))


command = click.Command(
    "inspect",
    callback=_inspect,
    params=[
        click.Argument(["folder"], metavar="DIR"),
        click.Option(["--quick"], is_flag=True, help="Read neither weights nor digests, only sizes."),
        click.Option(["--all", "all_"], is_flag=True, help="The whole table of weights."),
        click.Option(["--json", "json_"], is_flag=True, help="Everything as JSON."),
    ],
    help=HELP,
    context_settings=CONTEXT,
)
