"""List the problems, models, presets (hparams_sets) or recipes that a name can stand for."""

import click

from seqlib.util.errors import unknown
from seqlib.util.lookup import available

__all__ = ["command"]


def _problems() -> list[str]:
    return available("seqlib.problems")


def _presets() -> list[str]:
    return available("seqlib.models")


def _models() -> list[str]:
    from seqlib.models import list_models

    return list_models()


def _recipes() -> list[str]:
    return available("seqlib.recipes")


_KINDS = {"problems": _problems, "models": _models, "hparams_sets": _presets, "recipes": _recipes}


def _list(kind: str) -> None:
    wanted = kind.replace("-", "_")
    if wanted not in _KINDS:
        raise unknown("kind of name", kind, _KINDS)
    for name in _KINDS[wanted]():
        click.echo(name)


command = click.Command(
    "list",
    callback=_list,
    params=[click.Argument(["kind"], metavar="problems|models|hparams_sets|recipes")],
    help="List the problems, models, presets (hparams_sets) or recipes that a name can stand for, one a line.",
)
