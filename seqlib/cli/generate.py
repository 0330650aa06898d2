"""Continue prompts with a language model, as a stream or in batches."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from seqlib.cli.main import CONTEXT, DEVICE, OWN_MODEL
from seqlib.cli.translate import lines
from seqlib.util.errors import DataError, UsageError

__all__ = ["command"]

HELP = """Continue text with the language model in DIR (a folder, or a handle as in `seqlib hub --help`). One prompt is
written as it comes; with several (--prompts, -n) each is printed when all are done. What is drawn depends on the
prompt, the seed and the number of the output alone.

\b
  seqlib generate runs/lm --prompt "ROMEO:" --temperature 0.8
  seqlib generate runs/lm --prompts prompts.txt -n 3 --top_p 0.9 --json > out.jsonl
"""


def _generate(
    folder: str,
    model: str | None,
    prompt: str | None,
    prompts: str | None,
    n: int,
    batch_rows: int,
    beam: int,
    json_: bool,
    device: str,
    precision: str,
    **options: Any,
) -> None:
    from seqlib.decode.generate import TextGenerator
    from seqlib.hub.load import load

    if prompt is not None and prompts is not None:
        raise UsageError("--prompt and --prompts: give one of them")
    given = [prompt or ""] if prompts is None else _read(prompts)
    generator = load(folder, model=model, device=device, precision=precision)
    if not isinstance(generator, TextGenerator):
        raise UsageError(f"{folder}: is no language model; `seqlib inspect {folder}` says what it is for")
    options = {name: value for name, value in options.items() if value not in (None, ())}
    out = sys.stdout
    out.reconfigure(encoding="utf-8")  # pyright: ignore[reportAttributeAccessIssue]
    if (
        prompts is None
        and n == beam == 1
        and not json_
        and not options.keys() & {"min_length", "no_repeat_ngram", "banned"}
    ):
        out.write(given[0])
        for piece in generator.stream(given[0], **options):
            out.write(piece)
            out.flush()
        out.write("\n")
        return
    for one in generator.generate(given, n=n, batch_rows=batch_rows, beam=beam, **options):
        if json_:
            out.write(json.dumps(one.record(), ensure_ascii=False) + "\n")
        else:
            out.write(f"{one.prompt}{one.text}\n{'-' * 40}\n")


def _read(path: str) -> list[str]:
    try:
        with Path(path).open("rb") as file:
            return list(lines(file, path))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


_POSITIVE = click.IntRange(min=1)

command = click.Command(
    "generate",
    callback=_generate,
    params=[
        click.Argument(["folder"], metavar="DIR"),
        OWN_MODEL,
        click.Option(["--prompt"], metavar="TEXT", help="What to continue.  [the beginning of a text]"),
        click.Option(["--prompts"], metavar="FILE", help="Continue every line of FILE."),
        click.Option(["-n"], type=_POSITIVE, default=1, show_default=True, help="Outputs of each prompt."),
        click.Option(["--max_tokens"], type=_POSITIVE, help="Most tokens of an output.  [200]"),
        click.Option(
            ["--temperature"], type=float, help="Below 1 sharper, above 1 flatter; 0: the most probable.  [1]"
        ),
        click.Option(["--top_k"], type=int, help="Of the K most probable tokens only."),
        click.Option(["--top_p"], type=float, help="Of the most probable tokens with mass P only."),
        click.Option(["--min_p"], type=float, help="Of tokens at least P times as probable as the first only."),
        click.Option(
            ["--repetition_penalty"], type=float, help="Above 1: tokens that came before become less probable."
        ),
        click.Option(["--seed"], type=int, help="Another number, other draws.  [0]"),
        click.Option(["--stop"], multiple=True, metavar="TEXT", help="End before TEXT; may be repeated."),
        click.Option(["--beam"], type=_POSITIVE, default=1, help="Above 1: search for the best instead of drawing."),
        click.Option(["--min_length"], type=click.IntRange(min=0), help="Fewest tokens, end token counted."),
        click.Option(["--no_repeat_ngram"], type=click.IntRange(min=0), help="No N tokens in a row twice."),
        click.Option(["--ban", "banned"], multiple=True, metavar="TEXT", help="Not in any output; may be repeated."),
        click.Option(["--batch_rows"], type=_POSITIVE, default=32, show_default=True, help="Outputs made together."),
        *DEVICE,
        click.Option(["--json", "json_"], is_flag=True, help="One JSON object an output."),
    ],
    help=HELP,
    context_settings=CONTEXT,
)
