"""Algorithms from examples: a Transformer with rotary positions learns to reverse and to sort digits, and is asked for
sequences that are longer than any in training.

40 seconds on a CPU.
"""

import tempfile
from pathlib import Path

import seqlib
from seqlib.problems import load
from seqlib.train.run import train
from seqlib.train.setup import make_config

STEPS = {"reverse": 400, "sort": 400}


def main(folder: Path) -> None:
    for name, steps in STEPS.items():
        source, target = next(load(f"algorithmic_{name}", "test[7:8]")).pair()
        print(f"{name}: {source} -> {target}")
        config = make_config(
            {
                "problem": f"algorithmic_{name}",
                "data": {"cache_dir": str(folder / "prepared")},
                "model": "transformer",
                "hparams_set": "transformer_bulletin",
                "train_steps": steps,
                "eval_every": 0,
                "report": False,
                "output_dir": str(folder / name),
            }
        )
        train(config)
        model = seqlib.load(folder / name)
        for split in ("test", "test_long"):
            pairs = [record.pair() for record in load(f"algorithmic_{name}", f"{split}[:200]")]
            found = model.translate([source for source, _ in pairs], beam=1)
            right = sum(one.text == target for one, (_, target) in zip(found, pairs, strict=True))
            print(f"{name}, {split}: {right} of {len(pairs)} without a mistake")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        main(Path(name))
