"""Where the files of a named problem are: a local folder, or the hub through the ``datasets`` library."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqlib.data.lines import file_digest
from seqlib.util.errors import DataError, nearest
from seqlib.util.log import get_logger

if TYPE_CHECKING:
    from seqlib.problems.problem import Problem


def published(name: str) -> dict[str, Any]:
    """What is known of a named corpus, by the attributes of its problem: its entry in named.json."""
    return json.loads(Path(__file__).with_name("named.json").read_bytes())[name]


def find_file(problem: Problem, data_dir: str | Path | None, names: Sequence[str]) -> Path:
    """The first of these files that ``data_dir`` holds, plain, .gz or .zst. Raises DataError naming where was looked
    for what, and the problem's ``how``."""
    if data_dir is None:
        raise missing(problem, "no --data_dir was given, and it is not fetched")
    folder = Path(data_dir)
    for name in names:
        for packing in ("", ".gz", ".zst"):
            if (path := folder / f"{name}{packing}").is_file():
                return path
    if not folder.is_dir():
        raise missing(problem, f"there is no folder {folder}")
    near = nearest(names[0], (entry.name for entry in folder.iterdir()))
    hint = f" (near: {', '.join(near)})" if near else ""
    raise missing(problem, f"looked in {folder} for {' or '.join(names)} (plain, .gz or .zst) and found none{hint}")


def hub_rows(problem: Problem, handle: str, split: str, config: str | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a split of a data set of the hub. Raises DataError naming it where it can't be fetched."""
    try:
        import datasets
    except ImportError:
        raise missing(
            problem, f"no --data_dir was given, and the datasets library, which fetches {handle}, is not installed "
            "(extra: data)",
        ) from None  # fmt: skip
    try:
        rows: Any = datasets.load_dataset(handle, config, split=split)
    except Exception as error:  # whatever the library and the network below it raise
        raise missing(problem, f"{handle} could not be fetched from the hub ({error})") from error
    yield from rows


def missing(problem: Problem, what: str) -> DataError:
    """The error for data that are not there: what was tried, and how to point at local files."""
    return DataError(f"{problem.name}: {what}; {problem.how}")


def warn_of_digest(problem: Problem, name: str, path: Path) -> str:
    """sha256 of a file, unpacked; a line in the log where it is not the published one of that ``name``."""
    found, expected = file_digest(path), problem.digests.get(name)
    if expected not in (None, found):
        get_logger().warning(
            f"{path}: differs from the published {name} (sha256 {found[:12]}…, expected {expected[:12]}…): scores may "
            "not compare"
        )
    return found
