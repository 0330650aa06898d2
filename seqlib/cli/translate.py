"""Translate lines from standard input, or sentence by sentence at a prompt.

Translate with the model in DIR (a folder, or a handle as in `seqlib hub --help`), or with those in several
together: lines of UTF-8 text from standard input to standard output, one for one (an empty line stays empty); on a
terminal, a prompt.

\b
  seqlib translate runs/mine < in.txt > out.txt
  seqlib translate runs/mine --beam 4 --n_best 4 --json < in.txt > out.jsonl
  seqlib translate hf://org/opus-mt-en-de < in.txt > out.txt
  seqlib translate runs/a runs/b --no_repeat_ngram 3 < in.txt > out.txt
"""

import contextlib
import json
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import click

from seqlib.cli.main import DEVICE, OWN_MODEL, file_command, flag, loaded, option, typed
from seqlib.util.errors import DataError, UsageError

ADAPTER = option("--adapter", "Low-rank adapters of a run, put into the model.", metavar="FILE")


def lines(stream: BinaryIO, name: str = "standard input") -> Iterator[str]:
    """Lines without their ends; `DataError` with the line's number where it is not UTF-8."""
    for number, raw in enumerate(stream, start=1):
        try:
            yield raw.rstrip(b"\r\n").decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{name}, line {number}: not UTF-8 (byte {error.start}: {raw[error.start]:#04x}); "
                "convert it first, for example with iconv"
            ) from error


def as_json(source: str, translation: Any) -> str:
    """One line of JSON for a translation and its alternatives."""
    return json.dumps({"source": source, **translation.record()}, ensure_ascii=False)


def as_text(number: int, translation: Any, n_best: int, mark: bool) -> str:
    """One line: the translation; with `n_best` several, each after its line number and score; `mark` adds columns, and
    so does an alignment, which is that of the first."""
    from seqlib.decode.alignment import pharaoh

    column = f"\t{'low' if translation.flagged else 'ok'}\t{translation.confidence:.4f}" if mark else ""
    if translation.alignment is not None:
        column += f"\t{pharaoh(translation.alignment)}"
    if n_best == 1:
        return translation.text + column
    found = [(translation.text, translation.score)]
    found += [(other.text, other.score) for other in translation.alternatives]
    return "\n".join(f"{number}\t{score:.4f}\t{text}{column}" for text, score in found)


def prompt(translator: Any, languages: str, **options: Any) -> None:
    """Translate what is typed until the input ends; low confidence is said beside the translation."""
    for line in typed(f"{languages}: type a sentence and press Enter; Ctrl-D ends."):
        (found,) = translator.translate([line], **options)
        click.echo(found.text + low_confidence(found))
        for other in found.alternatives:
            click.echo(f"  {other.text}")


def low_confidence(translation: Any) -> str:
    """What is printed behind a flagged translation."""
    return f"   [low confidence {translation.confidence:.4f}]" if translation.flagged else ""


def _sampling(options: dict[str, Any]) -> Any:
    """The flags of sampling, taken out of `options`, as one value; None without --sample."""
    from seqlib.decode.sampling import Sampling

    given = {name: options.pop(name) for name in ("temperature", "top_k", "top_p", "seed") if name in options}
    if not options.pop("sample"):
        if given:
            raise UsageError(f"--{next(iter(given))} is about sampling: give --sample too")
        return None
    return Sampling(**given)


@file_command(
    click.Argument(["folders"], metavar="DIR...", nargs=-1, required=True),
    OWN_MODEL,
    option("--beam", "Beam width; 1 is greedy.  [the model's own]", least=1),
    option("--alpha", "Length penalty ((5 + n) / 6) ** alpha.  [the model's own]", type=float),
    option(
        "--n_best",
        "Translations a line; above 1 each is printed after line number and score, tabs between.",
        least=1,
        default=1,
    ),
    option("--max_length", "Most output tokens.  [source tokens + 50]", least=1),
    option("--penalty", "Length penalty: gnmt, or power: n ** alpha.  [gnmt]", one_of=("gnmt", "power")),
    option("--min_length", "Fewest output tokens, end token counted.", least=0),
    option("--no_repeat_ngram", "No N tokens in a row twice in an output.", least=0),
    option("--ban banned", "Not in any output; may be repeated.", multiple=True, metavar="TEXT"),
    option("--prefixes", "What each output begins with, a line for a line; may be empty.", metavar="FILE"),
    flag("--alignment", "Add a column: pairs of source and output words, `0-0 1-2`."),
    flag("--sample", "Draw outputs instead of searching for the best."),
    option("--temperature", "With --sample: below 1 sharper, above 1 flatter.  [1]", type=float),
    option("--top_k", "With --sample: of the K most probable tokens only.", type=int),
    option("--top_p", "With --sample: of the most probable tokens with mass P only.", type=float),
    option("--seed", "With --sample: another number, other draws.  [0]", type=int),
    option("--batch_rows", "Sentences decoded together.", least=1, default=32),
    ADAPTER,
    *DEVICE,
    flag("--json json_", "One JSON object a line, with score and confidence."),
    flag("--flag_low_confidence", "Add two columns after a tab: `low` or `ok`, and the confidence."),
)
def command(
    folders: tuple[str, ...], n_best: int, json_: bool, flag_low_confidence: bool, prefixes: str | None, **options: Any
) -> None:
    options = {name: value for name, value in options.items() if value is not None}
    options["sampling"] = _sampling(options)
    translator = loaded("translate", folders, options)
    if n_best > 1 and options.get("beam", translator.beam) < n_best:
        options["beam"] = n_best
    if sys.stdin.isatty():
        spec = translator.spec
        languages = f"{spec.source_language} → {spec.target_language}" if spec.source_language else folders[0]
        prompt(translator, languages, n_best=n_best, **options)
        return
    with contextlib.ExitStack() as stack:
        if prefixes is not None:
            options["prefixes"] = lines(stack.enter_context(opened(prefixes)), prefixes)
        _stream(translator, n_best, json_, flag_low_confidence, options)


def opened(path: str) -> BinaryIO:
    try:
        return Path(path).open("rb")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def _stream(translator: Any, n_best: int, json_: bool, mark: bool, options: dict[str, Any]) -> None:
    waiting: deque[str] = deque()  # sources that were read ahead

    def remembered() -> Iterator[str]:
        for line in lines(sys.stdin.buffer):
            waiting.append(line)
            yield line

    out, flagged, number = sys.stdout, 0, 0
    out.reconfigure(encoding="utf-8")  # pyright: ignore[reportAttributeAccessIssue]
    found = translator.translate_stream(remembered(), n_best=n_best, **options)
    for number, translation in enumerate(found, start=1):
        source = waiting.popleft()
        out.write((as_json(source, translation) if json_ else as_text(number, translation, n_best, mark)) + "\n")
        flagged += bool(translation.flagged)
    out.flush()
    if flagged:
        click.echo(f"{flagged} of {number} lines have low confidence (--flag_low_confidence shows which)", err=True)
