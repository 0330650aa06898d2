"""The embedded bulletin problem."""

from __future__ import annotations

from seqlib.recipes import Recipe
from seqlib.train.setup import make_config

__all__ = ["ende"]


def ende() -> Recipe:
    """English bulletins to German, by the share of held-out sentences without a mistake."""
    config = make_config(
        {
            "problem": "translate_bulletin_ende",
            "train_steps": 1500,
            "eval_every": 0,
            "save_every": 0,
            "average": 0,
            "report": False,
            "decode": {"beam": 1, "dev_sentences": -1},
        }
    )
    return Recipe(
        about="English bulletins to German: the share of held-out sentences without a mistake",
        config=config,
        score="exact_match",
        expected=(0.80, 0.92),
        measured="seeds 1 to 3 on a CPU: 0.870, 0.856, 0.878; seed 1 on a GPU in bf16: 0.850",
        cost="a minute on two processors",
    )
