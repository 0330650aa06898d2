"""Evaluation of a saved model on a split or on files: translations against references, and the loss."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from seqlib.bundle import Bundle
from seqlib.bundle.architecture import is_location
from seqlib.data.store import write_store
from seqlib.decode.translate import Translation, Translator
from seqlib.train.config import DataConfig, RunConfig
from seqlib.train.metrics import score_texts
from seqlib.train.scores import split_loss
from seqlib.train.setup import open_problem
from seqlib.train.step import compiled_loss
from seqlib.util.errors import BundleError, DataError, UsageError

_TOKENS = 2048  # a batch and side, for the loss


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
    return open_problem(config)


def read_pairs(problem: Any, split: str, limit: int = 0) -> list[tuple[str, str]]:
    """The pairs of a split (all, or the first `limit`).

    Raises `UsageError` for an unknown split, `DataError` for an empty one.
    """
    problem.check_split(split)
    pairs = list(islice(problem.samples(split), limit or None))
    if not pairs:
        raise DataError(f"{problem.name}: split {split!r} is empty")
    return pairs


def pairs_loss(model: Any, tokenizer: Any, spec: Any, pairs: Sequence[tuple[str, str]], longest: int) -> float | None:
    """Mean cross entropy in nats per target token of `pairs`, without smoothing; None where all are longer than the
    model takes."""
    with tempfile.TemporaryDirectory(prefix="seqlib-") as folder:
        sources = tokenizer.encode_batch([source for source, _ in pairs])
        targets = tokenizer.encode_batch([target for _, target in pairs])
        store = write_store(Path(folder) / "store", zip(sources, targets, strict=True), tokenizer.vocab_size)
        if not (store.lengths() < longest).all(1).any():
            return None
        with model.evaluating():
            return split_loss(compiled_loss(model), store, spec, tokens=_TOKENS, max_length=longest)


def evaluate_pairs(
    translator: Translator, pairs: Sequence[tuple[str, str]], language: str, *, beam: int, alpha: float
) -> tuple[dict[str, Any], list[Translation]]:
    """Scores of the translations of `pairs`, with how they were got, and the translations.

    The scores are those of `score_texts`, `flagged` (share below the confidence threshold, None without one), `beam`
    and `alpha`.
    """
    found = translator.translate([source for source, _ in pairs], beam=beam, alpha=alpha)
    scores = score_texts([item.text for item in found], [target for _, target in pairs], language)
    known = [item.flagged for item in found if item.flagged is not None]
    scores["flagged"] = round(sum(known) / len(known), 4) if known else None
    return scores | {"beam": beam, "alpha": alpha}, found
