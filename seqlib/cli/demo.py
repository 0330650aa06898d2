"""Train a small translator on the embedded problem, show what it learnt, and try it.

Train translate_bulletin_ende (English to German bulletins: timetables, weather, appointments, prices) for a
given time, score it on held-out sentences, and open a prompt; without a terminal six sentences are translated.
"""

import os
import shutil
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any

import click

from seqlib.cli.main import file_command, option
from seqlib.cli.translate import low_confidence, prompt

PROBLEM = "translate_bulletin_ende"
LINES = 5  # sentences of the fixed demonstration that are in the domain; one more is not


@file_command(
    option("--seconds", "Wall time of training.", least=1, default=120),
    option("--output_dir", "Where the run is kept.", default="runs/demo"),
)
def command(seconds: int, output_dir: str) -> None:
    from seqlib.decode.load import load
    from seqlib.train import run
    from seqlib.train.environment import cpu_count
    from seqlib.train.setup import make_config, open_problem
    from seqlib.util.atomic import free_folder

    folder = free_folder(output_dir)
    click.echo(f"training {PROBLEM} for {seconds} s on {cpu_count()} processors; the run is kept in {folder}")
    settings: dict[str, Any] = {
        "problem": PROBLEM,
        "output_dir": str(folder),
        "time_limit": f"{seconds}s",
        "eval_every": 0,
        "save_every": "1m",
        "average": 0,
        "decode": {"beam": 1, "dev_sentences": -1},
    }
    config = make_config(settings)
    result = run.train(config)
    if result.model is None:
        return
    translator = load(result.model)
    problem = open_problem(config)
    _report(translator, problem)
    if sys.stdin.isatty():
        prompt(translator, "English → German")
    else:
        _fixed_lines(translator, problem)
    _next_steps(folder)


def _report(translator: Any, problem: Any) -> None:
    """Exact matches on held-out sentences and on never-seen names; what the confidence flags."""
    in_domain = []
    for split, count, text in (
        ("test", 500, "held-out sentences"),
        ("test_names", 300, "sentences with never-seen names"),
    ):
        pairs = list(islice(problem.samples(split), count))
        began = time.perf_counter()
        found = translator.translate([source for source, _ in pairs])
        took = time.perf_counter() - began
        in_domain += found
        exact = sum(item.text == target for item, (_, target) in zip(found, pairs, strict=True))
        share = 100 * exact / len(pairs)
        click.echo(f"exact match   {share:5.1f} %  of {len(pairs)} {text}  ({len(pairs) / took:.0f} sentences/s)")
    strange = translator.translate(problem.off_domain())
    flagged, false = (sum(bool(item.flagged) for item in strange), sum(bool(item.flagged) for item in in_domain))
    click.echo(f"flagged       {flagged} of {len(strange)} sentences of other domains")
    click.echo(f"false alarms  {100 * false / len(in_domain):.1f} %  of {len(in_domain)} sentences of its own domain")


def _fixed_lines(translator: Any, problem: Any) -> None:
    sources = [source for source, _ in islice(problem.samples("test"), LINES)] + problem.off_domain()[:1]
    click.echo()
    for source, found in zip(sources, translator.translate(sources), strict=True):
        click.echo(f"  {source}\n    {found.text}{low_confidence(found)}")


def _next_steps(folder: Path) -> None:
    seqlib = _own_name()
    click.echo(
        f"""
Next:
  {seqlib} translate {folder}
      a prompt; or whole files: < in.txt > out.txt
  {seqlib} demo --seconds 300
      a longer training
  {seqlib} train --data your.en,your.de --output_dir runs/mine
      your own files, in which line N of one translates line N of the other; a part is held out by itself
  {seqlib} evaluate runs/mine
      BLEU on the part that was held out"""
    )


def _own_name() -> str:
    """How this command can be called again: by its name where that is found, else by its place."""
    called = Path(sys.argv[0])
    if called.name != "seqlib" or shutil.which("seqlib") == str(called.absolute()):
        return "seqlib"
    return os.path.relpath(called)
