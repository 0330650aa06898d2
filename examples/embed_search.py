"""Search by meaning: texts and a question as vectors of a sentence encoder, and the nearest ones. A second on a CPU.

    python examples/embed_search.py hf://sentence-transformers/all-MiniLM-L6-v2

Without a handle the model is a tiny one with random weights, which knows which words are the same and no more.
"""

import sys
import tempfile
from pathlib import Path

import seqlib
from seqlib.core.rng import Generator, use_generator
from seqlib.hub.save import save_pretrained
from seqlib.models.bert import Bert, BertConfig

TEXTS = [
    "A man is playing a guitar on stage.",
    "The stock market fell sharply on Tuesday.",
    "Bake the bread for forty minutes.",
    "The train to the coast leaves at noon.",
]


def random_model(folder: Path) -> Path:
    """What a download gives: config.json, model.safetensors and the tokenizer's files."""
    words = sorted({word.strip(".?").lower() for text in [*TEXTS, QUESTION] for word in text.split()})
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "?", *words]
    with use_generator(Generator(0)):
        model = Bert(BertConfig(vocab=len(vocabulary), layers=1, d_model=64, d_ff=64, heads=4, max_length=32))
    save_pretrained(model, folder)
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    return folder


QUESTION = "When does the train to the coast leave?"

with tempfile.TemporaryDirectory() as place:
    encoder = seqlib.load(sys.argv[1] if len(sys.argv) > 1 else random_model(Path(place) / "model"))
    vectors = encoder.embed(TEXTS)  # float32 [4, D], each of length 1
    (asked,) = encoder.embed([QUESTION])

print(QUESTION)
for score, text in sorted(zip(vectors @ asked, TEXTS), reverse=True):
    print(f"  {score:.3f}  {text}")
assert max(zip(vectors @ asked, TEXTS))[1] == TEXTS[3]
