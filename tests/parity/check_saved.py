"""By hand: transformers loads what seqlib saved of every stored checkpoint, with no tensor missing or left over, and
computes what it computed before.

    PYTHONPATH=. /tmp/peer/bin/python tests/parity/check_saved.py   # with seqlib's dependencies there, too
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers as hf

sys.path.insert(0, str(Path(__file__).parents[2]))

from seqlib.hub.load import read_model
from seqlib.hub.save import save_pretrained
from tests.hub.stored import NAMES, Stored

for name in NAMES:
    stored = Stored(name)
    with tempfile.TemporaryDirectory() as folder:
        ours = save_pretrained(read_model(stored.write(Path(folder) / "theirs")), Path(folder) / "ours")
        kind = getattr(hf, stored.config["architectures"][0])
        model, info = kind.from_pretrained(ours, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"], (name, info)
    with torch.no_grad():
        found = model.eval()(**{key: torch.tensor(value) for key, value in stored.given.items()})
    seen = stored.given.get("attention_mask", np.ones_like(stored.given["input_ids"])).astype(bool)
    for key in ("logits", "last_hidden_state"):
        if key in stored.answers:
            wanted, got = stored.answers[key], found[key].numpy()
            rows = seen if wanted.ndim == 3 and wanted.shape[1] == seen.shape[1] else ...
            difference = np.abs(wanted[rows] - got[rows]).max()
            assert difference < 1e-4, (name, key, difference)
            print(f"{name}: {key} differ by {difference:.1e}")
