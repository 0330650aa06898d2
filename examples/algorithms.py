"""Algorithms from examples: a Transformer with rotary positions learns to reverse and to sort digits, and is asked for
sequences that are longer than any in training.

40 seconds on a CPU.
"""

import tempfile
from pathlib import Path

from seqlib import bundle
from seqlib.problems import load
from seqlib.train.evaluation import bundle_problem
from seqlib.train.run import train
from seqlib.train.setup import make_config
from seqlib.train.tasks import task_of

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
        saved = bundle.read(folder / name)
        problem, task = bundle_problem(saved), task_of(saved.spec.task)
        for split in ("test", "test_long"):
            scores = task.evaluate(saved, problem, split, limit=200, device="cpu", precision="fp32", beam=1)
            print(f"{name}, {split}: {scores['exact_match']:.1%} without a mistake")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        main(Path(name))
