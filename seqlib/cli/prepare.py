"""Clean and tokenise a corpus, hold out dev and test, and print the report.

Clean and tokenise a corpus, hold out dev and test, and print the report as JSON.

\b
  seqlib prepare --data corpus.en,corpus.de
  seqlib prepare --problem translate_multi30k_ende --data_dir multi30k --data.cache_dir prepared

`seqlib train` with the same settings finds the prepared data.
"""

import click
import msgspec

from seqlib.cli.flags import config_file_command
from seqlib.train.config import ALIASES, DataConfig, RunConfig


class PrepareConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What to prepare."""

    problem: str = ""
    """Name of a problem (`seqlib list problems`); not needed with own files."""
    data: DataConfig = DataConfig()
    seed: int = 1
    """Seed of the tokenizer's training."""


_ALIASES = {name: path for name, path in ALIASES.items() if path.startswith("data.") or path == "seed"}


@config_file_command(PrepareConfig, aliases=_ALIASES)
def command(config: PrepareConfig) -> None:
    from seqlib.train.setup import check_source, open_problem, prepare_data

    run = RunConfig(problem=config.problem, data=config.data, seed=config.seed)
    check_source(run)
    data = prepare_data(run, open_problem(run))
    click.echo((data.folder / "report.json").read_text(encoding="utf-8").rstrip())
    click.echo(f"prepared in {data.folder}", err=True)
