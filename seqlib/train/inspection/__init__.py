"""`seqlib inspect`: what is in a run folder, a checkpoint, a saved model or prepared data. No code is run for it."""

import re
from pathlib import Path

from seqlib.train.config import CONFIG_FILE
from seqlib.train.inspection import prepared, runs, saved
from seqlib.train.inspection.page import Page
from seqlib.util.errors import UsageError
from seqlib.util.manifest import MANIFEST

__all__ = ["Page", "inspect"]


def inspect(folder: str | Path, quick: bool = False) -> Page:
    """The page of a folder. `quick` reads no weights and no digests, only sizes.

    Parts of a run that are damaged are named in the page's `damaged`. Raises UsageError for a folder of no kind that
    seqlib writes, DataError or BundleError naming the file when a checkpoint, a bundle or prepared data are damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError(f"{folder}: {'is a file, not a folder' if folder.exists() else 'there is no such folder'}")
    if (folder / CONFIG_FILE).is_file():
        return runs.look(folder, quick)
    if (folder / "seqlib.json").is_file():
        return saved.look_at_bundle(folder, quick)
    if (folder / "state.json").is_file() or re.fullmatch(r"step-\d+", folder.resolve().name):
        return saved.look_at_checkpoint(folder, quick)
    if (folder / "report.json").is_file() or (folder / MANIFEST).is_file():
        return prepared.look(folder, quick)
    raise UsageError(
        f"{folder}: is nothing that seqlib writes: a run has {CONFIG_FILE}, a saved model seqlib.json, a checkpoint "
        "state.json, prepared data report.json"
    )
