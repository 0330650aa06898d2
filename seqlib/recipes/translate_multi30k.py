"""Multi30k, task 1."""

from __future__ import annotations

from typing import Any

from seqlib.recipes import Recipe
from seqlib.train.setup import make_config

__all__ = ["ende"]


def ende(quick: bool = False) -> Recipe:
    """English to German captions, by BLEU on test_2016_flickr in lower case."""
    if quick:
        return _quick()
    raise NotImplementedError


def _quick() -> Recipe:
    """An LSTM learns more than a Transformer in so little computing time."""
    settings: dict[str, Any] = {
        "problem": "translate_multi30k_ende",
        "model": "lstm_seq2seq",
        "train_steps": 2000,
        "eval_every": 0,
        "save_every": 0,
        "average": 0,
        "report": False,
        "decode": {"beam": 4, "dev_sentences": -1},
    }
    return Recipe(
        about="Captions, English to German; the small LSTM",
        config=make_config(settings),
        score="bleu_lowercased.score",
        expected=(1.0, 100.0),
        measured="",
        cost="",
    )
