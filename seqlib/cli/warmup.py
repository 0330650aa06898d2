"""Compile the CPU kernels now rather than in the first run.

Compile the CPU kernels and keep them in the user's cache folder (or --into DIR), so that the first run does
not wait for them. A cache made with --into is used by setting SEQLIB_CACHE=DIR. With names of presets (`seqlib list
hparams_sets`) only what their models take is compiled.
"""

import os
import time

import click

from seqlib.cli.main import file_command, option


@file_command(
    click.Argument(["presets"], nargs=-1, metavar="[PRESET]..."),
    option("--into", "Folder for the compiled kernels.", type=click.Path(file_okay=False)),
)
def command(presets: tuple[str, ...], into: str | None) -> None:
    if into is not None:
        os.environ["SEQLIB_CACHE"] = into
    from importlib.util import find_spec

    if find_spec("numba") is None:
        click.echo("nothing to compile: numba is not installed, and NumPy's kernels need no compiling")
        return
    from seqlib.train.warmup import run_all_kernels

    began = time.perf_counter()
    run_all_kernels(presets)
    click.echo(f"kernels are ready ({time.perf_counter() - began:.0f} s)")
