"""Language models."""

from __future__ import annotations

from typing import Any

from seqlib.recipes import Recipe
from seqlib.train.setup import make_config

__all__ = ["tinyshakespeare", "tinyshakespeare_lstm"]

_LAST: dict[str, Any] = {"eval_every": 0, "save_every": 0, "average": 1, "report": False}


def tinyshakespeare(quick: bool = False) -> Recipe:
    """Tiny Shakespeare by characters, nanoGPT's big size, its best weights; quick: its size for a CPU, 2,000 steps
    of 12 × 64."""
    settings = _LAST | {
        "problem": "lm_tinyshakespeare",
        "hparams_set": "gpt2_tiny" if quick else "gpt2_small",
        "train_steps": 2000 if quick else 5000,
        "eval_every": 1000 if quick else 125,
        "optim": {} if quick else {"ema": 0.998},
    }
    return Recipe(
        about="Tiny Shakespeare by characters: loss on the last 10 % in nats",
        config=make_config(settings),
        score="loss",
        expected=(1.7, 1.88) if quick else (1.42, 1.455),
        split="dev",
        measured="seed 1 on a CPU: 1.771" if quick else "seed 1 on an H200: 1.434 (step 2,000 of 5,000)",
        cost="75 seconds on two processors" if quick else "a minute on one H200",
    )


def tinyshakespeare_lstm() -> Recipe:
    """Tiny Shakespeare by characters, an LSTM of 2 × 512 with weight dropout."""
    rates = {"embedding_dropout": 0.2, "dropout": 0.4, "output_dropout": 0.4, "weight_dropout": 0.2}
    settings = _LAST | {
        "problem": "lm_tinyshakespeare",
        "model": "lstm_lm",
        "hparams": {"layers": 2, "d_model": 512, "hidden": 512, **rates},
        "batch": {"tokens": 8192, "max_length": 128},
        "optim": {"lr": 4e-3},
        "train_steps": 3000,
    }
    return Recipe(
        about="Tiny Shakespeare by characters, an LSTM: loss on the last 10 % in nats",
        config=make_config(settings),
        score="loss",
        expected=(1.43, 1.5),
        split="dev",
        measured="seed 1 on an H200 in bf16: 1.468",
        cost="half a minute on an H200",
    )
