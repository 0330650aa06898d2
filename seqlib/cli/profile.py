"""Show where a training step's time goes: launches by op, GFLOP/s, GB/s.

Show where a training step's time goes on this machine: launches by op with their time, GFLOP/s and GB/s, beside what
the machine reaches in products and copies just now. The model is that which `seqlib train` with the same flags would
build, or that of the run or saved model in DIR, newly drawn; the batch has random tokens.

\b
  seqlib profile --problem translate_multi30k_ende --threads 2
  seqlib profile --hparams_set transformer_small --vocab_size 8000 --precision bf16 --shapes
  seqlib profile runs/mine --json
"""

import json
from pathlib import Path

import click

from seqlib.cli.flags import config_command
from seqlib.cli.main import flag, help_text, option
from seqlib.cli.summary import BATCH, build
from seqlib.train.config import ALIASES, RunConfig


def _profile(
    config: RunConfig,
    folder: str | None,
    rows: int | None,
    source_tokens: int,
    target_tokens: int | None,
    repeats: int,
    shapes: bool,
    json_: bool,
) -> None:
    from seqlib.train import sizing
    from seqlib.train.profile import profile

    found = sizing.of_folder(Path(folder), config, False) if folder else sizing.of_config(config, False)
    batch = sizing.sample_batch(found, config, rows, source_tokens, target_tokens or source_tokens)
    page = profile(found, config, batch, repeats, shapes)
    click.echo(json.dumps(page.to_dict(), indent=2) if json_ else f"{found.title()}\n\n{page.text()}")


command = config_command(
    "profile",
    RunConfig,
    _profile,
    help=help_text(__doc__),
    aliases=ALIASES,
    build=build,
    params=[
        *BATCH,
        option("--repeats", "Steps that are timed; the least time of each launch counts.", least=1, default=5),
        flag("--shapes", "Apart by the shapes of inputs."),
        flag("--json json_", "All figures as JSON."),
    ],
)
