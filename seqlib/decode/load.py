"""What was saved: a model as a translator, tensors as a tree."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqlib import bundle
from seqlib.bundle.tensors import load_tensors
from seqlib.core.backends import choose_device
from seqlib.decode.classify import Classifier
from seqlib.decode.confidence import SOURCE_FILE, Calibration
from seqlib.decode.ensemble import Ensemble
from seqlib.decode.translate import Translator
from seqlib.nn.precision import resolve_precision
from seqlib.util.errors import BundleError, UsageError

FORMULAS = {"gnmt": "((5 + n) / 6) ** length_penalty", "power": "n ** length_penalty"}
"""What a saved model calls its length penalty, of n tokens."""


def load(
    path: str | Path,
    *others: str | Path,
    threshold: float | None = None,
    model: str | None = None,
    device: str = "auto",
    precision: str = "auto",
) -> Any:
    """What lies at `path`: of a folder the saved model as a `Translator`, with its decoding defaults and its calibrated
    confidence, or a language model as a `TextGenerator`; of a file what `seqlib.save` wrote (or another tool, as
    safetensors), with tensors at its leaves.

    With `others` all models translate together, with the mean of their probabilities; confidence is then that of an
    uncalibrated model. `threshold` replaces the stored one. `model` says where the code of a model of your own is,
    ``file.py:name``. The model computes on a `device` ("cpu", "cuda", "auto": the GPU where there is one) in a
    `precision` (see `nn.precision.resolve_precision`). Raises BundleError, naming the file, when a folder is no saved
    model, is damaged or of another format version, or when vocabularies differ, DataError when the calibration or a
    file of tensors is damaged, UsageError and CudaMissing for a device or precision that can't be had.
    """
    if Path(path).is_file():
        return load_tensors(path)
    first = bundle.read(path, model=model)
    if not others:
        return from_bundle(first, threshold=threshold, device=device, precision=precision)
    saved = [first, *(bundle.read(other, model=model) for other in others)]
    for each in saved:
        if each.spec.task != "translation":
            raise UsageError(f"{each.path}: does not translate; only translation models work together")
    for other in saved[1:]:
        _check_agrees(first, other)
    together = Ensemble([placed(each.build_model(), device, precision) for each in saved]).eval()
    return Translator(together, first.tokenizer, first.spec, threshold=threshold, **search_defaults(first.generation))


def _check_agrees(first: bundle.Bundle, other: bundle.Bundle) -> None:
    if other.tokenizer.digest != first.tokenizer.digest:
        raise BundleError(
            f"{other.path}: its vocabulary is not that of {first.path}; models translate together only with the same "
            "tokenizer (train them on the same prepared data)"
        )
    languages = [(each.spec.source_language, each.spec.target_language) for each in (first, other)]
    if languages[0] != languages[1]:
        raise BundleError(
            f"{other.path}: translates {' → '.join(languages[1])}, and {first.path} {' → '.join(languages[0])}"
        )


def placed(model: Any, device: str, precision: str) -> Any:
    """The model on a device and computing in a precision. Raises UsageError and CudaMissing for what can't be had."""
    chosen = choose_device(device)
    resolve_precision(precision, chosen, model, in_use=True).apply(model)
    return model.to(chosen)


def from_bundle(
    saved: bundle.Bundle, *, threshold: float | None = None, device: str = "auto", precision: str = "auto"
) -> Any:
    """As `load`, of a bundle that was read."""
    if saved.spec.task == "language_model":
        from seqlib.decode.generate import from_bundle as generator

        if threshold is not None:
            raise UsageError(f"{saved.path}: is a language model, which has no confidence and no threshold")
        return generator(saved, device=device, precision=precision)
    model = placed(saved.build_model(), device, precision)
    if saved.spec.task == "text_classification":
        return Classifier(model, saved.tokenizer, saved.spec)
    return _translator(saved, model, threshold)


def _translator(saved: bundle.Bundle, model: Any, threshold: float | None) -> Translator:
    calibration = None
    if saved.confidence is not None:
        name = saved.confidence.get("source_model")
        files = {} if name is None else {SOURCE_FILE: saved.file(SOURCE_FILE)}
        calibration = Calibration.from_dict(saved.confidence, files, str(saved.path))
    how = search_defaults(saved.generation)
    return Translator(model, saved.tokenizer, saved.spec, calibration=calibration, threshold=threshold, **how)


def search_defaults(generation: Mapping[str, Any]) -> dict[str, Any]:
    """`beam`, `alpha` and `penalty` of a saved translator's generation_config.json."""
    power = generation.get("length_penalty_formula") == FORMULAS["power"]
    beam, alpha = int(generation.get("num_beams", 4)), float(generation.get("length_penalty", 0.6))
    return {"beam": beam, "alpha": alpha, "penalty": "power" if power else "gnmt"}
