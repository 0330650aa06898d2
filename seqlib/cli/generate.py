"""Continue prompts with a language model, as a stream or in batches.

Continue text with the language model in DIR (a folder, or a handle as in `seqlib hub --help`). One prompt is
written as it comes; with several (--prompts, -n) each is printed when all are done. What is drawn depends on the
prompt, the seed and the number of the output alone.

\b
  seqlib generate runs/lm --prompt "ROMEO:" --temperature 0.8
  seqlib generate runs/lm --prompts prompts.txt -n 3 --top_p 0.9 --json > out.jsonl
"""

import json
import sys
from pathlib import Path
from typing import Any

from seqlib.cli.main import DEVICE, FOLDER, OWN_MODEL, file_command, flag, option
from seqlib.cli.translate import ADAPTER, lines
from seqlib.util.errors import DataError, UsageError


@file_command(
    FOLDER,
    OWN_MODEL,
    option("--prompt", "What to continue.  [the beginning of a text]", metavar="TEXT"),
    option("--prompts", "Continue every line of FILE.", metavar="FILE"),
    option("-n", "Outputs of each prompt.", least=1, default=1),
    option("--max_tokens", "Most tokens of an output.  [200]", least=1),
    option("--temperature", "Below 1 sharper, above 1 flatter; 0: the most probable.  [1]", type=float),
    option("--top_k", "Of the K most probable tokens only.", type=int),
    option("--top_p", "Of the most probable tokens with mass P only.", type=float),
    option("--min_p", "Of tokens at least P times as probable as the first only.", type=float),
    option("--repetition_penalty", "Above 1: tokens that came before become less probable.", type=float),
    option("--seed", "Another number, other draws.  [0]", type=int),
    option("--stop", "End before TEXT; may be repeated.", multiple=True, metavar="TEXT"),
    option("--beam", "Above 1: search for the best instead of drawing.", least=1, default=1),
    option("--min_length", "Fewest tokens, end token counted.", least=0),
    option("--no_repeat_ngram", "No N tokens in a row twice.", least=0),
    option("--ban banned", "Not in any output; may be repeated.", multiple=True, metavar="TEXT"),
    option("--batch_rows", "Outputs made together.", least=1, default=32),
    ADAPTER,
    *DEVICE,
    flag("--json json_", "One JSON object an output."),
)
def command(
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
    adapter: str | None,
    **options: Any,
) -> None:
    from seqlib.decode.generate import TextGenerator
    from seqlib.hub.load import load
    from seqlib.nn.lora import load_adapter

    if prompt is not None and prompts is not None:
        raise UsageError("--prompt and --prompts: give one of them")
    given = [prompt or ""] if prompts is None else _read(prompts)
    generator = load(folder, model=model, device=device, precision=precision)
    if not isinstance(generator, TextGenerator):
        raise UsageError(f"{folder}: is no language model; `seqlib inspect {folder}` says what it is for")
    if adapter is not None:
        load_adapter(generator.model, adapter)
    options = {name: value for name, value in options.items() if value not in (None, ())}
    out = sys.stdout
    out.reconfigure(encoding="utf-8")  # pyright: ignore[reportAttributeAccessIssue]
    constrained = options.keys() & {"min_length", "no_repeat_ngram", "banned"}
    if prompts is None and n == beam == 1 and not json_ and not constrained:
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
