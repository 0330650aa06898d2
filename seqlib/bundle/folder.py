"""Write, read and check a saved-model folder.

```
config.json             the model's configuration and the name of its architecture
model.safetensors       the weights, by parameter name
tokenizer files         as the tokenizer writes them
generation_config.json  decoding defaults: beams, length penalty, special ids
seqlib.json             format version, problem, spec, metrics, training record, confidence, digests of all files
README.md               a short model card
```
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from seqlib.bundle.architecture import builder, config_type, is_location
from seqlib.bundle.card import model_card
from seqlib.util.arrays import write_arrays
from seqlib.util.atomic import atomic_folder
from seqlib.util.errors import BundleError, SeqlibError, UsageError
from seqlib.util.files import read_json
from seqlib.util.manifest import file_digest

if TYPE_CHECKING:
    import numpy as np

    from seqlib.problems.spec import ProblemSpec

FORMAT_VERSION = 2
"""The version this code writes and reads. Version 1 had no digest of seqlib.json itself."""
_AGAIN = "; copy the folder again, or write it again (seqlib train --resume RUN)"


@dataclass(frozen=True)
class Bundle:
    """A bundle that was read and whose files agree with their digests. Weights are read at first use."""

    path: Path
    """The folder."""
    architecture: str
    """Name of the model's file in `seqlib.models`, or the location of a user's own `file.py:name`."""
    model_config: Any
    """The architecture's configuration Struct."""
    spec: ProblemSpec
    """What the model was told of its problem."""
    generation: dict[str, Any]
    """Decoding defaults: num_beams, length_penalty, max_length, bos_token_id, eos_token_id, pad_token_id."""
    record: dict[str, Any]
    """All of seqlib.json: problem, metrics, training, confidence."""

    @property
    def problem(self) -> dict[str, Any]:
        """Name, languages and data paths of the problem it was trained on."""
        return self.record["problem"]

    @property
    def metrics(self) -> dict[str, Any]:
        """Scores by split, BLEU with its sacreBLEU signature."""
        return self.record["metrics"]

    @property
    def confidence(self) -> dict[str, Any] | None:
        """The calibration made on dev (its threshold and how it was got), or None."""
        return self.record["confidence"]

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer of the bundle's tokenizer files."""
        from seqlib.data.tokenizer import load_tokenizer

        return load_tokenizer(self.path)

    def file(self, name: str) -> bytes:
        """The content of one further file; `BundleError` when the bundle lists none of that name."""
        if name not in self.record["files"]:
            raise BundleError(f"{self.path / name}: is not a file of this bundle")
        return (self.path / name).read_bytes()

    def weights(self) -> dict[str, np.ndarray]:
        """The arrays of model.safetensors by parameter name."""
        from safetensors.numpy import load_file

        return load_file(self.path / "model.safetensors")

    def build_model(self) -> Any:
        """A fresh model in evaluation mode, with the bundle's weights."""
        from seqlib.core.rng import Generator

        model = builder(self.architecture)(self.model_config, self.spec, Generator(0))
        try:
            model.load(self.weights(), strict=True)
        except SeqlibError as error:
            raise BundleError(f"{self.path / 'model.safetensors'}: does not fit config.json: {error}") from error
        model.eval()
        return model


def write(
    path: str | Path,
    *,
    architecture: str,
    model_config: msgspec.Struct,
    weights: Mapping[str, np.ndarray],
    tokenizer: Any,
    spec: ProblemSpec,
    problem: Mapping[str, Any],
    generation: Mapping[str, Any],
    training: Mapping[str, Any],
    metrics: Mapping[str, Any],
    confidence: Mapping[str, Any] | None = None,
    files: Mapping[str, bytes] | None = None,
) -> Path:
    """Write a bundle; it takes the place of `path` only when it is complete (errors of `atomic_folder`).

    `architecture` and `model_config` say what is built of `spec`, `weights` are its arrays by parameter name.
    `tokenizer` is saved beside them. `generation` holds the decoding defaults, `confidence` the calibration,
    `problem`, `training` and `metrics` are recorded; the three as JSON values, under the names that `Bundle` gives
    back. `files` are further files by name, such as those of the confidence calibration. Returns the folder.
    """
    target = Path(path)
    with atomic_folder(target) as aside:
        _json(aside / "config.json", {"architecture": architecture, **msgspec.to_builtins(model_config)})
        write_arrays(aside / "model.safetensors", weights)
        tokenizer.save(aside)
        _json(aside / "generation_config.json", generation)
        for name, content in (files or {}).items():
            (aside / name).write_bytes(content)
        record: dict[str, Any] = {
            "format_version": FORMAT_VERSION,
            "problem": dict(problem),
            "spec": msgspec.to_builtins(spec),
            "tokenizer_digest": tokenizer.digest,
            "training": dict(training),
            "metrics": dict(metrics),
            "confidence": None if confidence is None else dict(confidence),
        }
        (aside / "README.md").write_text(model_card(record), encoding="utf-8")
        written = sorted(file for file in aside.iterdir() if file.name != "README.md")
        record["files"] = {file.name: {"bytes": file.stat().st_size, "sha256": file_digest(file)} for file in written}
        _json(aside / "seqlib.json", record | {"digest": _record_digest(record)})
    return target


def read(path: str | Path, *, check_digests: bool = True, model: str | None = None) -> Bundle:
    """Read and check a bundle; a run folder stands for the bundle in its `model` folder.

    Raises `BundleError`, naming the file, when the folder is no bundle, a file is missing or damaged, or the format
    is of another version. A bundle holds no code: for a model that is not seqlib's own, `model` says where it is now,
    as ``file.py:name``, and that file is run. `check_digests=False` skips reading the weights for their sha256;
    sizes are still checked.
    """
    folder, record = read_record(path, check_digests)
    config = read_object(folder / "config.json")
    architecture = config.pop("architecture", None)
    if not isinstance(architecture, str):
        raise BundleError(f"{folder / 'config.json'}: has no architecture")
    architecture = _chosen(folder, architecture, model)
    from seqlib.problems.spec import ProblemSpec

    model_config = _convert(folder / "config.json", config, config_type(builder(architecture)))
    return Bundle(
        path=folder,
        architecture=architecture,
        model_config=model_config,
        spec=_convert(folder / "seqlib.json", record["spec"], ProblemSpec),
        generation=read_object(folder / "generation_config.json"),
        record=record,
    )


def locate(path: str | Path) -> Path | None:
    """The bundle's folder: `path`, or `model` in it where `path` is a run's; None where neither is one."""
    return next((folder for folder in (Path(path), Path(path) / "model") if (folder / "seqlib.json").is_file()), None)


def read_record(path: str | Path, check_digests: bool = True) -> tuple[Path, dict[str, Any]]:
    """The bundle's folder and all of its seqlib.json, files checked as `read` does; for a model of anybody's, since
    nothing is built. Raises BundleError."""
    folder = locate(path) or Path(path)
    record = _record(folder)
    _check_files(folder, record["files"], check_digests)
    return folder, record


def _chosen(folder: Path, saved: str, given: str | None) -> str:
    """The architecture to build: the saved name, or the location that the caller gives for a user's own model."""
    if is_location(saved) and given is None:
        raise BundleError(
            f"{folder}: its model is code of somebody's own, {saved} when it was trained; a bundle holds no code, so "
            "say where that is now: --model FILE.py:NAME (in Python: model=...)"
        )
    if given is not None and not (is_location(saved) and is_location(given)):
        raise UsageError(f"{folder}: its model is {saved!r}; {given!r} can't take its place")
    return given or saved


_KEYS = ("problem", "spec", "tokenizer_digest", "training", "metrics", "confidence", "files")


def _record(folder: Path) -> dict[str, Any]:
    if not folder.exists():
        raise BundleError(f"{folder}: there is no such folder")
    if not (folder / "seqlib.json").is_file():
        run = (folder / "checkpoints").is_dir()
        hint = f"; it is a run that has not ended: `seqlib train --resume {folder}`" if run else ""
        raise BundleError(f"{folder}: not a saved model: seqlib.json is missing{hint}")
    record = read_object(folder / "seqlib.json")
    version = record.get("format_version")
    if version != FORMAT_VERSION:
        newer = isinstance(version, int) and version > FORMAT_VERSION
        advice = "update seqlib to read it" if newer else "it must be made again"
        raise BundleError(
            f"{folder / 'seqlib.json'}: format version {version!r}, this seqlib reads {FORMAT_VERSION}; {advice}"
        )
    if record.pop("digest", None) != _record_digest(record):
        raise BundleError(
            f"{folder / 'seqlib.json'}: is damaged: its content does not have the digest it names{_AGAIN}"
        )
    missing = [key for key in _KEYS if key not in record]
    if missing:
        raise BundleError(f"{folder / 'seqlib.json'}: has no {', '.join(missing)}")
    return record


def _record_digest(record: Mapping[str, Any]) -> str:
    """sha256 (hex) of the record as it reads back from JSON, whatever the layout of the file."""
    content = msgspec.json.decode(msgspec.json.encode(record))
    return hashlib.sha256(msgspec.json.encode(content, order="deterministic")).hexdigest()


def _check_files(folder: Path, files: Any, check_digests: bool) -> None:
    for name, entry in files.items():
        file = folder / name
        if re.search(r"[/\\]", name):
            raise BundleError(f"{folder / 'seqlib.json'}: {name!r} is not a file name")
        if not file.is_file():
            raise BundleError(f"{file}: is missing{_AGAIN}")
        if file.stat().st_size != entry["bytes"]:
            raise BundleError(f"{file}: is damaged: {file.stat().st_size} bytes, expected {entry['bytes']}{_AGAIN}")
        if check_digests and file_digest(file) != entry["sha256"]:
            raise BundleError(f"{file}: is damaged: its sha256 is not the one in seqlib.json{_AGAIN}")


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a bundle; BundleError where there is none."""
    found = read_json(path, Any, BundleError, _AGAIN)
    if not isinstance(found, dict):
        raise BundleError(f"{path}: is damaged: expected a JSON object{_AGAIN}")
    return found


def _convert(path: Path, value: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise BundleError(f"{path}: does not fit this version: {error}") from error


def _json(path: Path, value: Any) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
