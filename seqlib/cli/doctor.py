"""Tell what this machine offers, what is missing, and the command that mends it.

Tell what this machine offers to seqlib (versions, BLAS, threads, GPU, driver, kernel caches), measure
products and copies for a few seconds, and name the command that brings what is missing. Exits with 1 when something is.
"""

import json

import click

from seqlib.cli.main import file_command, flag


@file_command(flag("--json json_", "One JSON list of findings."))
def command(json_: bool) -> int:
    from seqlib.train.doctor import examine

    found = examine()
    if json_:
        click.echo(json.dumps([finding._asdict() for finding in found], indent=2))
    else:
        width = max(len(finding.name) for finding in found)
        for finding in found:
            click.echo(f"{finding.name:{width}s}  {finding.value}")
            if finding.mend:
                click.echo(f"{'':{width}s}  -> {finding.mend}")
    return int(any(finding.mend for finding in found))
