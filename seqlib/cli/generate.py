"""Continue prompts with a language model, as a stream or in batches.

Continue text with the language model in DIR (a folder, or a handle as in `seqlib hub --help`). One prompt is
written as it comes; with several (--prompts, -n) each is printed when all are done. What is drawn depends on the
prompt, the seed and the number of the output alone.

\b
  seqlib generate runs/lm --prompt "ROMEO:" --temperature 0.8
  seqlib generate runs/lm --prompts prompts.txt -n 3 --top_p 0.9 --json > out.jsonl
  seqlib generate hf://org/assistant --chat --system "Answer in one sentence."

With --chat a conversation by the model's chat template (extra `chat`): --prompt for one answer, else a prompt, or lines
from standard input.
"""

import json
import signal
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from types import FrameType
from typing import Any

import click

from seqlib.cli.main import DEVICE, FOLDER, OWN_MODEL, file_command, flag, loaded, option, typed
from seqlib.cli.translate import ADAPTER, lines, opened
from seqlib.data.chat import render
from seqlib.util.errors import UsageError


@file_command(
    FOLDER,
    OWN_MODEL,
    option("--prompt", "What to continue.  [the beginning of a text]", metavar="TEXT"),
    option("--prompts", "Continue every line of FILE.", metavar="FILE"),
    flag("--chat", "A conversation, by the model's chat template."),
    option("--system", "With --chat: what stands before the conversation.", metavar="TEXT"),
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
    folder: str, prompt: str | None, prompts: str | None, chat: bool, system: str | None, json_: bool, **options: Any
) -> None:
    alone = options["n"] == options["beam"] == 1
    if prompt is not None and prompts is not None:
        raise UsageError("--prompt and --prompts: give one of them")
    if chat and (prompts is not None or not alone or json_):
        raise UsageError("--chat writes one answer after the other; it goes with no --prompts, -n, --beam and --json")
    if system is not None and not chat:
        raise UsageError("--system is about conversations: give --chat too")
    given = [prompt or ""] if prompts is None else _read(prompts)
    options = {name: value for name, value in options.items() if value not in (None, ())}
    generator = loaded("generate", [folder], options)
    streamed = {name: value for name, value in options.items() if name not in ("n", "beam", "batch_rows")}
    out = sys.stdout
    out.reconfigure(encoding="utf-8")  # pyright: ignore[reportAttributeAccessIssue]
    if chat:
        _converse(generator, system, prompt, streamed)
        return
    if prompts is None and alone and not json_:
        out.write(given[0])
        _written(generator.stream(given[0], **streamed))
        return
    for one in generator.generate(given, **options):
        if json_:
            out.write(json.dumps(one.record(), ensure_ascii=False) + "\n")
        else:
            out.write(f"{one.prompt}{one.text}\n{'-' * 40}\n")


def _written(pieces: Generator[str, None, Any], stopped: Sequence[int] = ()) -> str:
    """Write pieces as they come, until `stopped` holds something, and the end of a line; gives the whole."""
    whole = ""
    for piece in pieces:
        whole += piece
        sys.stdout.write(piece)
        sys.stdout.flush()
        if stopped:
            pieces.close()
    sys.stdout.write("\n")
    sys.stdout.flush()
    return whole


def _converse(generator: Any, system: str | None, prompt: str | None, options: dict[str, Any]) -> None:
    messages = [] if system is None else [{"role": "system", "content": system}]
    # What the template refuses is told before something is typed.
    render(generator.tokenizer, [*messages, {"role": "user", "content": ""}], add_generation_prompt=True)
    by_hand = prompt is None and sys.stdin.isatty()
    if by_hand:
        turns = typed("Type a message and press Enter; Ctrl-C ends an answer, Ctrl-D the conversation.")
    else:
        turns = [prompt] if prompt is not None else (line for line in lines(sys.stdin.buffer) if line.strip())
    for turn in turns:
        said = [*messages, {"role": "user", "content": turn}]
        try:
            with _interrupts() if by_hand else nullcontext(()) as stopped:
                answer = _written(generator.chat_stream(said, **options), stopped)
        except UsageError as error:
            if not by_hand:
                raise
            click.echo(
                f"error: {error}; the message is left out of the conversation, all of which is the prompt", err=True
            )
        else:
            messages = [*said, {"role": "assistant", "content": answer}]


@contextmanager
def _interrupts() -> Iterator[Sequence[int]]:
    """Collect Ctrl-C; a second one ends the program as usual."""
    found: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if found:
            raise KeyboardInterrupt
        found.append(number)

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield found
    finally:
        signal.signal(signal.SIGINT, before)


def _read(path: str) -> list[str]:
    with opened(path) as file:
        return list(lines(file, path))
