"""A pretrained encoder becomes a classifier of questions, in full and by adapters, and a folder for transformers.

    python examples/fine_tune_classifier.py hf://sentence-transformers/all-MiniLM-L6-v2

Without a handle the model is a tiny one with random weights, which has more to learn. 15 seconds on a CPU.
"""

import csv
import importlib.util
import random
import sys
import tempfile
from pathlib import Path

import seqlib
from seqlib import bundle
from seqlib.core.rng import Generator, use_generator
from seqlib.hub.fine_tune import fine_tune
from seqlib.hub.publish import to_transformers
from seqlib.hub.save import save_pretrained
from seqlib.models.bert import Bert, BertConfig

WORDS = {"person": "who whose whom", "place": "where whither whence", "time": "when", "number": "how-many how-much"}
REST = "is was the a capital train king bridge river in of france spain that old".split()


def random_model(folder: Path) -> Path:
    """What a download gives: config.json, model.safetensors and the tokenizer's files."""
    asked = " ".join(WORDS.values()).replace("-", " - ").split()
    vocabulary = list(dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *asked, *REST]))
    with use_generator(Generator(0)):
        model = Bert(BertConfig(vocab=len(vocabulary), layers=2, d_model=32, d_ff=64, heads=4, max_length=32))
    save_pretrained(model, folder)
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    return folder


def write_table(path: Path) -> str:
    """Questions and what they ask for."""
    draw = random.Random(0)
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["question", "asks"])
        for _ in range(400):
            asks = draw.choice(list(WORDS))
            words = [draw.choice(WORDS[asks].split()), *draw.choices(REST, k=4)]
            table.writerow([" ".join(words).replace("-", " "), asks])
    return str(path)


def main(handle: str | Path, folder: Path) -> None:
    data = {"paths": [write_table(folder / "questions.csv")], "text": ["question"], "label": "asks"}
    given = {"data": data | {"cache_dir": str(folder)}, "batch": {"tokens": 256}, "train_steps": 80, "report": False}
    texts = ["where is the old bridge", "how many old in spain", "who was the king of france"]
    for name, optim in {"full": {"lr": 5e-3}, "adapters": {"lr": 2e-2, "lora_rank": 4}}.items():
        more = {"optim": optim | {"warmup": 10}, "output_dir": str(folder / name), "baselines": name == "full"}
        fine_tune(handle, given | more)
        saved = bundle.read(folder / name)
        print(name, saved.metrics["dev"]["accuracy"], [f.label for f in seqlib.load(folder / name).classify(texts)])
        assert saved.metrics["dev"]["accuracy"] > 0.9

    published = to_transformers(saved, folder / "published")  # the adapters are merged, and a model card lies beside
    ours = [found.label for found in seqlib.load(published).classify(texts)]
    if importlib.util.find_spec("transformers"):
        from transformers import pipeline  # pyright: ignore[reportMissingImports]

        theirs = [found["label"] for found in pipeline("text-classification", str(published))(texts)]
        assert theirs == ours
    print(sorted(path.name for path in published.iterdir()), ours)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        main(sys.argv[1] if len(sys.argv) > 1 else random_model(Path(place) / "model"), Path(place))
