"""Vectors of texts, a line each, as a .npy file."""

import sys

import click

from seqlib.cli.main import CONTEXT, DEVICE
from seqlib.util.errors import UsageError

HELP = """Write the vectors of texts, one a line of FILE (default: stdin), to OUTPUT: float32, a row for each, as NumPy
reads it.

\b
  seqlib embed hf://sentence-transformers/all-MiniLM-L6-v2 --output vectors.npy < texts.txt
"""


def _embed(handle: str, file: str | None, output: str, device: str, precision: str) -> None:
    import numpy as np

    from seqlib.data.lines import read_lines
    from seqlib.hub.load import load
    from seqlib.util.atomic import atomic_file

    model = load(handle, device=device, precision=precision)
    if not hasattr(model, "embed"):
        raise UsageError(f"{handle}: is not a model that embeds texts")
    lines = sys.stdin.read().splitlines() if file is None else [line.text for line in read_lines(file)]
    with atomic_file(output) as aside, open(aside, "wb") as out:
        np.save(out, model.embed(lines))
    click.echo(f"{output}: {len(lines):,} vectors", err=True)


command = click.Command(
    "embed",
    callback=_embed,
    help=HELP,
    context_settings=CONTEXT,
    params=[
        click.Argument(["handle"]),
        click.Option(["--file"], metavar="FILE", help="Read the texts from here."),
        click.Option(["--output"], metavar="FILE", required=True, help="The .npy file to write."),
        *DEVICE,
    ],
)
