"""A saved model as a translator."""

from __future__ import annotations

from pathlib import Path

from seqlib import bundle
from seqlib.decode.confidence import SOURCE_FILE, Calibration
from seqlib.decode.translate import Translator


def load(path: str | Path, *, threshold: float | None = None, model: str | None = None) -> Translator:
    """The saved model in folder `path`, with its decoding defaults and its calibrated confidence.

    `threshold` replaces the stored one. `model` says where the code of a model of your own is, ``file.py:name``.
    Raises BundleError, naming the file, when the folder is no saved model, is
    damaged or of another format version, and DataError when the calibration is damaged.
    """
    saved = bundle.read(path, model=model)
    return from_bundle(saved, threshold=threshold)


def from_bundle(saved: bundle.Bundle, *, threshold: float | None = None) -> Translator:
    """As `load`, of a bundle that was read."""
    calibration = None
    if saved.confidence is not None:
        name = saved.confidence.get("source_model")
        files = {} if name is None else {SOURCE_FILE: saved.file(SOURCE_FILE)}
        calibration = Calibration.from_dict(saved.confidence, files, str(saved.path))
    defaults = saved.generation
    return Translator(
        saved.build_model(),
        saved.tokenizer,
        saved.spec,
        calibration=calibration,
        threshold=threshold,
        beam=int(defaults.get("num_beams", 4)),
        alpha=float(defaults.get("length_penalty", 0.6)),
    )
