"""A pretrained model back to a folder that transformers loads."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from seqlib.util.arrays import write_arrays
from seqlib.util.atomic import atomic_folder, write_json
from seqlib.util.errors import UsageError

__all__ = ["save_pretrained"]


def save_pretrained(model: Any, folder: str | Path) -> Path:
    """Write what `seqlib.load` gave of a pretrained model, or its plain module, as Hugging Face has it: `config.json`,
    `model.safetensors` with its names, and, where the model came with one, its tokenizer and labels. `folder` is
    replaced when all is written. Returns it.

    Raises UsageError for a model without a table of names (see docs/hub.md), SeqlibError when the disk is full.
    """
    module = getattr(model, "model", model)
    name = getattr(module, "family", "")
    if not name:
        raise UsageError(
            f"{type(module).__name__} has no form in Hugging Face's format; `seqlib.save` keeps its tensors"
        )
    family, target = importlib.import_module(f"seqlib.models.{name}"), Path(folder)
    with atomic_folder(target) as aside:
        write_json(aside / "config.json", family.config_of(module) | getattr(model, "hub_config", {}))
        write_arrays(aside / "model.safetensors", family.names(module).write(module), {"format": "pt"})
        if hasattr(model, "tokenizer"):
            model.tokenizer.save(aside)
        for name, content in getattr(model, "hub_files", {}).items():
            write_json(aside / name, content)
    return target
