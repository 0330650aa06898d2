"""Label texts with a trained model: a line each, from stdin, a file or the command line.

Label texts with the model in DIR: one line out for each line in, its label and how probable that is, with a
tab between. Pairs of texts have a tab between them.

\b
  seqlib classify runs/spam < messages.txt
  seqlib classify runs/spam --text "You have won!" --json
  seqlib classify runs/pairs --text "One sentence<TAB>Another one"
"""

import json
import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any

import click

from seqlib.cli.main import DEVICE, FOLDER, OWN_MODEL, file_command, flag, loaded, option
from seqlib.cli.translate import lines
from seqlib.data.lines import read_lines
from seqlib.util.errors import DataError, UsageError

_CHUNK = 512


def _lines(text: tuple[str, ...], file: str | None) -> Iterator[str]:
    if text or file is None:
        return iter(text) if text else lines(sys.stdin.buffer)
    return (line.text for line in read_lines(file))


def _parsed(lines: Iterator[str], pairs: bool) -> Iterator[Any]:
    for number, line in enumerate(lines, start=1):
        if not pairs:
            yield line
            continue
        first, tab, second = line.partition("\t")
        if not tab:
            raise DataError(f"line {number}: this model labels pairs of texts; put a tab between the two")
        yield first, second


@file_command(
    FOLDER,
    option("--text", "A text to label; may be given several times.", multiple=True),
    option("--file", "A file with a text a line (.gz and .zst are read).", metavar="FILE"),
    flag("--json json_", "A JSON object a line, with the probabilities of all labels."),
    OWN_MODEL,
    *DEVICE,
)
def command(folder: str, text: tuple[str, ...], file: str | None, json_: bool, **how: Any) -> None:
    if text and file is not None:
        raise UsageError("give --text or --file, not both")
    classifier = loaded("classify", [folder], how)
    texts = _parsed(_lines(text, file), classifier.spec.labels.pairs)
    while chunk := list(islice(texts, _CHUNK)):
        for one in classifier.classify(chunk):
            if json_:
                click.echo(json.dumps(one.record(), ensure_ascii=False))
            else:
                click.echo(one.label if one.value is not None else f"{one.label}\t{one.probability:.4f}")
        sys.stdout.flush()
