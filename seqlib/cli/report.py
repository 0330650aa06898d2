"""Write a run's REPORT.html: curves, lengths, worst sentences, attention, time, signatures, digests.

Write REPORT.html into the run folder DIR and print its path: one file that needs nothing else, with curves,
lengths and padding, the worst dev sentences, the attention of one, where time went, metric signatures, digests,
configuration and environment. A run writes it when it ends; this makes it again, or for a run that goes on.
"""

import click

from seqlib.cli.main import FOLDER, OWN_MODEL, OWN_PROBLEM, file_command


@file_command(FOLDER, OWN_MODEL, OWN_PROBLEM)
def command(folder: str, model: str | None, problem: str | None) -> None:
    from seqlib.train.report import write_report

    click.echo(write_report(folder, model, problem))
