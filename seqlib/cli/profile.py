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
from typing import Any

import click

from seqlib.cli.flags import config_file_command
from seqlib.cli.main import flag, option
from seqlib.cli.summary import BATCH, build
from seqlib.train.config import ALIASES, RunConfig


@config_file_command(
    RunConfig,
    *BATCH,
    option("--repeats", "Steps that are timed; the least time of each launch counts.", least=1, default=5),
    flag("--shapes", "Apart by the shapes of inputs."),
    flag("--json json_", "All figures as JSON."),
    aliases=ALIASES,
    build=build,
)
def command(config: RunConfig, folder: str | None, repeats: int, shapes: bool, json_: bool, **sizes: Any) -> None:
    from seqlib.train import sizing
    from seqlib.train.profile import profile

    found = sizing.subject_of(config, folder, planned=False)
    page = profile(found, config, sizing.sample_batch(found, config, **sizes), repeats, shapes)
    click.echo(json.dumps(page.to_dict(), indent=2) if json_ else f"{found.title()}\n\n{page.text()}")
