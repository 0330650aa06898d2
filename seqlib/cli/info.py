"""Print what is known of a named problem as JSON: source, licence, citation, sizes, digests; nothing is fetched.

Print the card of the problem NAME as JSON: where its data come from and under which licence, what to cite,
sizes, digests, and what --data_dir should hold.
"""

import json

import click

from seqlib.cli.main import file_command


@file_command(click.Argument(["name"]))
def command(name: str) -> None:
    from seqlib.problems import load_problem

    click.echo(json.dumps(load_problem(name).card(), indent=2, ensure_ascii=False, default=dict))
