"""A pretrained model back to a folder that transformers loads."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from seqlib.bundle.card import model_card
from seqlib.nn.weights import FixedWeight
from seqlib.util.arrays import write_arrays
from seqlib.util.atomic import atomic_folder, write_bytes, write_json
from seqlib.util.errors import UsageError
from seqlib.util.manifest import file_digest

__all__ = ["save_pretrained"]


def save_pretrained(model: Any, folder: str | Path, record: Mapping[str, Any] | None = None) -> Path:
    """Write what `seqlib.load` gave of a pretrained model, or its plain module, as Hugging Face has it: `config.json`,
    `model.safetensors` with its names, and, where the model came with them, its tokenizer, labels, and settings of
    generation or pooling. With the `record` of a model that was trained here a model card lies beside them. `folder` is
    replaced when all is written. Returns it.

    Raises UsageError for a model without a table of names (see docs/hub.md) or one in int8 or bfloat16, SeqlibError
    when the disk is full.
    """
    module = getattr(model, "model", model)
    name = getattr(module, "family", "")
    if not name:
        raise UsageError(
            f"{type(module).__name__} has no form in Hugging Face's format; `seqlib.save` keeps its tensors"
        )
    if any(isinstance(each, FixedWeight) for each in module.named_modules().values()):
        raise UsageError("weights in int8 or bfloat16, of a model in use, are not saved; load it in fp32")
    family, target = importlib.import_module(f"seqlib.models.{name}"), Path(folder)
    with atomic_folder(target) as aside:
        write_json(aside / "config.json", family.config_of(module))
        write_arrays(aside / "model.safetensors", _arrays(family.names(module), module), {"format": "pt"})
        if hasattr(model, "tokenizer"):
            model.tokenizer.save(aside)
        for name, content in getattr(model, "hub_files", {}).items():
            (aside / name).parent.mkdir(exist_ok=True)
            write_bytes(aside / name, content)
        if record is not None:
            digests = {path.name: file_digest(path) for path in sorted(aside.iterdir()) if path.is_file()}
            write_bytes(aside / "README.md", model_card(record, digests).encode())
    return target


def _arrays(names: Any, module: Any) -> dict[str, np.ndarray]:
    """The weights by the checkpoint's names. A number that ours gives from -1 to 1 is theirs as it is: the output layer
    has that inside."""
    found, labels = names.write(module), getattr(module, "labels", None)
    if labels is not None and labels.kind == "regression":
        half = (labels.high - labels.low) / 2
        for part, shift in (("weight", 0.0), ("bias", (labels.low + labels.high) / 2)):
            place = names.place(f"output.{part}", {}).name
            found[place] = (found[place] * half + shift).astype(np.float32)
    return found
