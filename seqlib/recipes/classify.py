"""Text classification from scratch, on a CPU."""

from __future__ import annotations

from typing import Any

from seqlib.recipes import Recipe
from seqlib.train.setup import make_config

__all__ = ["movie_reviews", "sms_spam"]

_SHORT: dict[str, Any] = {"model": "bag_ngrams", "eval_every": 50, "save_every": 0, "report": False}


def sms_spam() -> Recipe:
    """Text messages that are spam, by a bag of n-grams."""
    return Recipe(
        about="Text messages that are spam or not, every fifth line held out",
        config=make_config({**_SHORT, "problem": "classify_sms_spam", "train_steps": 600}),
        score="accuracy",
        expected=(0.980, 0.992),
        measured="seeds 1 to 3: 0.985, 0.987, 0.987",
        cost="20 seconds on two processors",
    )


def movie_reviews() -> Recipe:
    """Whole film reviews by a bag of n-grams that leaves out half of the tokens in training."""
    settings = {
        "problem": "classify_movie_reviews",
        "train_steps": 400,
        "data": {"vocab_size": 16_000},
        "hparams": {"max_length": 1024, "token_dropout": 0.5, "dropout": 0.5, "buckets": 100_000},
        "batch": {"max_length": 1024, "tokens": 16_384},
    }
    return Recipe(
        about="Whole film reviews, negative or positive; cv900 to cv999 held out",
        config=make_config({**_SHORT, **settings}),
        score="accuracy",
        expected=(0.835, 0.885),
        measured="seeds 2 and 3: 0.855, 0.850",
        cost="2 minutes on two processors",
    )
