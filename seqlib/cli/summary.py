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

from seqlib.cli.flags import config_file_command
from seqlib.cli.main import flag, option
from seqlib.train.config import ALIASES, RunConfig
from seqlib.util.errors import UsageError


def build(tree: dict[str, Any], folder: str | None, **values: Any) -> RunConfig:
    from seqlib.train.setup import make_config
    from seqlib.train.sizing import folder_config

    if folder is None:
        return make_config(tree, source=False)
    model = tree.pop("model", None)
    if tree:
        raise UsageError(f"{folder} has its own settings: give the batch's shape and --model beside it, nothing else")
    return folder_config(Path(folder), model)


BATCH = (
    click.Argument(["folder"], metavar="[DIR]", required=False),
    option("--rows", "Sentences of the batch.  [as batch.tokens holds]", least=1),
    option("--source_tokens", "Tokens a source.", least=1, default=32),
    option("--target_tokens", "Tokens a target.  [as many]", least=1),
)
"""What a command is about that plans or runs a batch of a model: the parameters of `build` and the batch's shape."""


@config_file_command(
    RunConfig,
    *BATCH,
    option("--depth", "Levels of layers; 0: all.", least=0, default=1),
    flag("--json json_", "All layers and figures as JSON."),
    aliases=ALIASES,
    build=build,
)
def command(config: RunConfig, folder: str | None, depth: int, json_: bool, **sizes: Any) -> None:
    from seqlib.train import sizing

    found = sizing.subject_of(config, folder)
    page = sizing.summarize(found, config, **sizes)
    if json_:
        click.echo(json.dumps(found.facts() | page.to_dict(), indent=2))
        return
    click.echo(f"{found.title()}\n\n{page.text(depth or None)}")
