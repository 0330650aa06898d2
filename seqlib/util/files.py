"""Files read whole, with errors that name them."""

from pathlib import Path
from typing import Any

import msgspec

from seqlib.util.errors import DataError, SeqlibError


def read_file(path: str | Path, error: type[SeqlibError] = DataError, again: str = "") -> bytes:
    """The content of a file. Raises `error`, which `again` tells what to do about, when it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as problem:
        raise error(f"{path}: cannot be read: {problem.strerror}{again}") from problem


def read_json(
    path: str | Path, kind: Any = dict[str, Any], error: type[SeqlibError] = DataError, again: str = ""
) -> Any:
    """The JSON in a file as a `kind`. Raises `error` as `read_file`, and when it is damaged."""
    try:
        return msgspec.json.decode(read_file(path, error, again), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise error(f"{path}: is damaged: {problem}{again}") from problem
