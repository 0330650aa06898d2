"""List the problems, models, presets (hparams_sets) or recipes that a name can stand for.

List the problems, models, presets (hparams_sets) or recipes that a name can stand for, one a line.
"""

import click

from seqlib.cli.main import file_command
from seqlib.models import list_models
from seqlib.util.errors import unknown
from seqlib.util.lookup import available


def _recipes() -> list[str]:
    from seqlib.recipes import list_recipes

    return list_recipes()


_KINDS = {
    "problems": lambda: available("seqlib.problems"),
    "models": list_models,
    "hparams_sets": lambda: available("seqlib.models"),
    "recipes": _recipes,
}


@file_command(click.Argument(["kind"], metavar="|".join(_KINDS)))
def command(kind: str) -> None:
    wanted = kind.replace("-", "_")
    if wanted not in _KINDS:
        raise unknown("kind of name", kind, _KINDS)
    click.echo("\n".join(_KINDS[wanted]()))
