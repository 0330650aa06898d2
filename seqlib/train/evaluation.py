"""The data of a saved model, opened again to score it."""

from typing import Any

import msgspec

from seqlib.bundle import Bundle
from seqlib.bundle.architecture import is_location
from seqlib.train.config import DataConfig, RunConfig
from seqlib.train.setup import open_problem
from seqlib.util.errors import BundleError, UsageError


def bundle_problem(bundle: Bundle, data: DataConfig | None = None, problem: str | None = None) -> Any:
    """The problem that the bundle was trained on, opened again; `data` replaces where its texts come from.

    The code of a problem that is not seqlib's own is run only where `problem` names it, as ``file.py:name``, not
    because the bundle does. Raises BundleError without it, UsageError where the bundle has no such problem.
    """
    try:
        saved = bundle.problem["data"]
        config = RunConfig(problem=saved["problem"], data=msgspec.convert(saved["data"], DataConfig))
    except (KeyError, msgspec.ValidationError) as error:
        raise BundleError(f"{bundle.path / 'seqlib.json'}: does not name its problem: {error}") from error
    if data is not None:
        config = msgspec.structs.replace(config, data=data)
    if problem is not None and not is_location(config.problem):
        raise UsageError(f"{bundle.path}: its problem is {config.problem!r}; {problem!r} can't take its place")
    if is_location(config.problem) and not config.data.paths:
        if problem is None:
            raise BundleError(
                f"{bundle.path}: its problem is code of somebody's own, {config.problem} when it was trained, and code "
                "that a folder names is not run: say where it is now, --problem FILE.py:NAME (in Python: problem=...), "
                "or score files with --data"
            )
        config = msgspec.structs.replace(config, problem=problem)
    if data is not None and data.label:
        from seqlib.problems.classify_files import from_data

        files, labels = ",".join(data.paths), bundle.spec.labels
        return from_data(files, text=data.text, label=data.label, test=files, encoding=data.encoding, labels=labels)
    return open_problem(config)
