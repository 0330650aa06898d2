"""Write a run's REPORT.html: curves, lengths, worst sentences, attention, time, signatures, digests."""

import click

from seqlib.cli.main import CONTEXT, OWN_MODEL, OWN_PROBLEM

HELP = """Write REPORT.html into the run folder DIR and print its path: one file that needs nothing else, with curves,
lengths and padding, the worst dev sentences, the attention of one, where time went, metric signatures, digests,
configuration and environment. A run writes it when it ends; this makes it again, or for a run that goes on.
"""


def _report(folder: str, model: str | None, problem: str | None) -> None:
    from seqlib.train.report import write_report

    click.echo(write_report(folder, model, problem))


command = click.Command(
    "report",
    callback=_report,
    params=[click.Argument(["folder"], metavar="DIR"), OWN_MODEL, OWN_PROBLEM],
    help=HELP,
    context_settings=CONTEXT,
)
