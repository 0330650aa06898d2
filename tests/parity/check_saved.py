"""By hand: transformers loads what seqlib saved of every stored checkpoint, with no tensor missing or left over, and
computes what it computed before. So it does with classifiers that were fine-tuned here, in full and by adapters, from
text on: its tokenizer gives the same ids.

    PYTHONPATH=. /tmp/peer/bin/python tests/parity/check_saved.py   # with seqlib's dependencies there, too
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers as hf

sys.path.insert(0, str(Path(__file__).parents[2]))

import seqlib
from seqlib import bundle
from seqlib.hub.fine_tune import fine_tune
from seqlib.hub.load import read_model
from seqlib.hub.publish import to_transformers
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


def texts(folder: Path) -> Path:
    """A table of two classes."""
    lines = [f"{' '.join(('abcd', 'wxyz')[n % 2][(n + k) % 4] for k in range(5))},{'ab'[n % 2]}" for n in range(80)]
    (folder / "texts.csv").write_text("text,label\n" + "\n".join(lines))
    return folder / "texts.csv"


for name in ("bert_masked", "roberta_masked", "distilbert_masked"):
    for rank in (0, 2):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            start = Stored(name).write(folder / "start")
            if name == "roberta_masked":
                words = {word: n for n, word in enumerate([*"<s> <pad> </s> <unk>".split(), *"abcdwxyzĠ", "<mask>"])}
                (start / "vocab.json").write_text(json.dumps(words))
                (start / "merges.txt").write_text("#version: 0.2\n")
            else:
                (start / "vocab.txt").write_text("\n".join([*"[PAD] [UNK] [CLS] [SEP] [MASK]".split(), *"abcdwxyz"]))
            data = {"paths": [str(texts(folder))], "text": ["text"], "label": "label", "cache_dir": place}
            given = {"data": data, "output_dir": str(folder / "run"), "train_steps": 5, "report": False}
            fine_tune(start, given | {"baselines": False, "optim": {"lora_rank": rank, "warmup": 1, "lr": 0.01}})
            published = to_transformers(bundle.read(folder / "run"), folder / "ours")
            model, info = hf.AutoModelForSequenceClassification.from_pretrained(published, output_loading_info=True)
            assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
            ours = seqlib.load(folder / "run", device="cpu")
            given = ["a b", "w x y z a", "z"]
            tokenizer = hf.AutoTokenizer.from_pretrained(published)
            encoded = tokenizer(given, padding=True, return_tensors="pt")
            with torch.no_grad():
                found = model.eval()(input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"]).logits
            difference = np.abs(found.numpy() - ours.logits(ours.encode(given))).max()
            assert difference < 1e-4, (name, rank, difference)
            pair = tokenizer("a b", "c").input_ids
            assert pair == ours.tokenizer.template(["a b"], ["c"])[0].ids, pair
            print(f"{name}, fine-tuned {'by adapters' if rank else 'in full'}: logits differ by {difference:.1e}")
