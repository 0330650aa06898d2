"""Checkpoints that transformers wrote (tests/parity/make_checkpoints.py), as the folders that they were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

FOLDER = Path(__file__).parents[1] / "parity" / "checkpoints"
NAMES = sorted(path.stem for path in FOLDER.glob("*.npz"))


class Stored:
    """One checkpoint: its config, weights, inputs and answers by name."""

    def __init__(self, name: str) -> None:
        with np.load(FOLDER / f"{name}.npz") as file:
            arrays = {key: file[key] for key in file.files}
        self.name = name
        self.config: dict[str, Any] = json.loads(str(arrays.pop("config")))
        self.weights, self.given, self.answers = (
            {key[len(kind) :]: value for key, value in arrays.items() if key.startswith(kind)}
            for kind in ("w/", "in/", "out/")
        )

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.config))
        save_file(self.weights, folder / "model.safetensors")
        return folder
