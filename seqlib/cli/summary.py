"""Show a model's layers, shapes, parameters, FLOPs and memory without running it.

Show layers with shapes, parameters and FLOPs, the memory of a training step and its kernel launches, planned
for one batch without running it: of a model as `seqlib train` with the same flags would build it, or of the run or
saved model in DIR.

\b
  seqlib summary --problem translate_multi30k_ende
  seqlib summary --hparams_set transformer_big --vocab_size 32000 --depth 2
  seqlib summary runs/mine --rows 1 --json

The vocabulary is that of --vocab_size, of the problem, or of the files, which are prepared for it.
"""

import json
from pathlib import Path
from typing import Any

import click

from seqlib.cli.flags import config_command
from seqlib.cli.main import help_text
from seqlib.train.config import ALIASES, RunConfig
from seqlib.util.errors import UsageError


def _build(tree: dict[str, Any], folder: str | None, **values: Any) -> RunConfig:
    from seqlib.train.setup import make_config
    from seqlib.train.sizing import folder_config

    if folder is None:
        return make_config(tree, source=False)
    model = tree.pop("model", None)
    if tree:
        raise UsageError(f"{folder} has its own settings: give the batch's shape and --model beside it, nothing else")
    return folder_config(Path(folder), model)


def _summary(
    config: RunConfig,
    folder: str | None,
    rows: int | None,
    source_tokens: int,
    target_tokens: int | None,
    depth: int,
    json_: bool,
) -> None:
    from seqlib.train import sizing

    found = sizing.of_folder(Path(folder), config) if folder else sizing.of_config(config)
    page = sizing.summarize(found, config, rows, source_tokens, target_tokens or source_tokens)
    if json_:
        click.echo(json.dumps(found.facts() | page.to_dict(), indent=2))
        return
    click.echo(f"{found.title()}\n\n{page.text(depth or None)}")


command = config_command(
    "summary",
    RunConfig,
    _summary,
    help=help_text(__doc__),
    aliases=ALIASES,
    build=_build,
    params=[
        click.Argument(["folder"], metavar="[DIR]", required=False),
        click.Option(["--rows"], type=click.IntRange(min=1), help="Sentences of the batch.  [as batch.tokens holds]"),
        click.Option(
            ["--source_tokens"], type=click.IntRange(min=1), default=32, show_default=True, help="Tokens a source."
        ),
        click.Option(["--target_tokens"], type=click.IntRange(min=1), help="Tokens a target.  [as many]"),
        click.Option(
            ["--depth"], type=click.IntRange(min=0), default=1, show_default=True, help="Levels of layers; 0: all."
        ),
        click.Option(["--json", "json_"], is_flag=True, help="All layers and figures as JSON."),
    ],
)
