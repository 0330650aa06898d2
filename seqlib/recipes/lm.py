"""Language models."""

from __future__ import annotations

from seqlib.recipes import Recipe
from seqlib.train.setup import make_config

__all__ = ["tinyshakespeare"]


def tinyshakespeare(quick: bool = False) -> Recipe:
    """Tiny Shakespeare by characters, nanoGPT's big size, its best weights; quick: its size for a CPU, 2,000 steps
    of 12 × 64."""
    config = make_config(
        {
            "problem": "lm_tinyshakespeare",
            "hparams_set": "gpt2_tiny" if quick else "gpt2_small",
            "train_steps": 2000 if quick else 5000,
            "eval_every": 1000 if quick else 125,
            "save_every": 0,
            "average": 1,
            "report": False,
            "optim": {} if quick else {"ema": 0.998},
        }
    )
    return Recipe(
        about="Tiny Shakespeare by characters: loss on the last 10 % in nats",
        config=config,
        score="loss",
        expected=(1.7, 1.88) if quick else (1.42, 1.455),
        split="dev",
        measured="seed 1 on a CPU: 1.771" if quick else "seed 1 on an H200: 1.434 (step 2,000 of 5,000)",
        cost="75 seconds on two processors" if quick else "a minute on one H200",
    )
