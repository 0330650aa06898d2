"""Vectors of texts, a line each, as a .npy file.

Write the vectors of texts, one a line of FILE (default: stdin), to OUTPUT: float32, a row for each, as NumPy
reads it.

\b
  seqlib embed hf://sentence-transformers/all-MiniLM-L6-v2 --output vectors.npy < texts.txt
"""

import sys
from typing import Any

import click

from seqlib.cli.main import DEVICE, file_command, loaded, option


@file_command(
    click.Argument(["handle"]),
    option("--file", "Read the texts from here.", metavar="FILE"),
    option("--output", "The .npy file to write.", metavar="FILE", required=True),
    *DEVICE,
)
def command(handle: str, file: str | None, output: str, **how: Any) -> None:
    import numpy as np

    from seqlib.data.lines import read_lines
    from seqlib.util.atomic import atomic_file

    model = loaded("embed", [handle], how)
    lines = sys.stdin.read().splitlines() if file is None else [line.text for line in read_lines(file)]
    with atomic_file(output) as aside, open(aside, "wb") as out:
        np.save(out, model.embed(lines))
    click.echo(f"{output}: {len(lines):,} vectors", err=True)
