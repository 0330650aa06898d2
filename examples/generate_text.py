"""A language model of Python's own documentation, next to what counting characters gives; then it writes.

20 seconds on a CPU.
"""

import tempfile
from pathlib import Path

import numpy as np

import seqlib
from seqlib.data.ngrams import KneserNey
from seqlib.problems import load
from seqlib.train.run import train
from seqlib.train.setup import make_config


def main(folder: Path) -> None:
    config = make_config(
        {
            "problem": "lm_pydoc",
            "data": {"cache_dir": str(folder / "prepared")},
            "hparams_set": "gpt2_tiny",
            "hparams": {"layers": 2},
            "train_steps": 200,
            "eval_every": 200,
            "report": False,
            "output_dir": str(folder / "run"),
        }
    )
    train(config)

    bytes_of = {split: "".join(text.source for text in load("lm_pydoc", split)).encode() for split in ("train", "dev")}
    seen, held_out = (np.frombuffer(text, np.uint8) for text in bytes_of.values())
    bits = -KneserNey(seen, 256, order=5).log_probs(held_out).mean() / np.log(2)
    print(f"a 5-gram of bytes: {bits:.2f} bits a byte")

    model = seqlib.load(folder / "run")
    prompts = ["Return the ", "Raises "]
    found = model.generate(prompts, n=2, max_tokens=60, temperature=0.7, top_p=0.95, seed=3, stop=["\n\n"])
    for one in found:
        print(f"{one.prompt}|{one.text}|  ({one.stop_reason})")

    # Alone or in a batch, at once or as it comes: the same text.
    again = model.generate(prompts[1:], n=2, max_tokens=60, temperature=0.7, top_p=0.95, seed=3, stop=["\n\n"])
    assert again == found[2:]
    pieces = model.stream(prompts[0], max_tokens=60, temperature=0.7, top_p=0.95, seed=3, stop=["\n\n"])
    assert "".join(pieces) == found[0].text


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        main(Path(name))
