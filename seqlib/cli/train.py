"""Train a model on a problem or on your own files, or go on with a run.

Train a model on a problem or on your own files, or go on with a run.

\b
  seqlib train --problem translate_bulletin_ende --time_limit 5m --output_dir runs/bulletin
  seqlib train --data corpus.en,corpus.de --output_dir runs/mine
  seqlib train --from hf://sentence-transformers/all-MiniLM-L6-v2 --data a.csv --text text --label label \
      --output_dir runs/tuned
  seqlib train --resume runs/mine --train_steps 20000

Ctrl-C finishes the step, saves and says how to go on; a second Ctrl-C stops at once.
"""

import json
import signal
from pathlib import Path
from typing import Any

import click

from seqlib.cli.flags import config_file_command
from seqlib.cli.main import flag, option
from seqlib.train.config import ALIASES, RunConfig


def _build(tree: dict[str, Any], resume: str | None, trust: bool, dry_run: bool) -> RunConfig:
    if resume is None:
        from seqlib.train.setup import make_config

        if tree.get("pretrained"):
            from seqlib.hub.fine_tune import settings

            tree = settings(tree)
        return make_config(tree)
    from seqlib.train.run import resumed_config

    return resumed_config(Path(resume), tree, trust)


@config_file_command(
    RunConfig,
    option("--resume", "Go on with the run in DIR, equal to the bit.", metavar="DIR"),
    flag("--trust", "With --resume: run the code (FILE.py:NAME) that the run names."),
    flag("--dry_run", "Print size, memory, step time and duration as JSON after a few steps; write no run folder."),
    aliases=ALIASES,
    build=_build,
)
def command(config: RunConfig, resume: str | None, trust: bool, dry_run: bool) -> int:
    from seqlib.train import run

    if dry_run:
        from seqlib.train.forecast import forecast

        click.echo(json.dumps(forecast(run.make_trainer(config, None)), indent=2))
        return 0
    start = None
    if config.pretrained:
        from seqlib.hub.fine_tune import start
    result = run.train(config, start=start) if resume is None else run.resume(Path(resume), config)
    return 128 + signal.Signals[result.stopped] if result.stopped.startswith("SIG") else 0
