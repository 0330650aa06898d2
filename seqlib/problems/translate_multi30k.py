"""Multi30k task 1: 31,014 image captions in English, German and French, written by people, cased and not tokenised.

Source: https://github.com/multi30k/dataset (``data/task1/raw``); the captions derive from Flickr30k. Split sizes:
train 29,000, dev 1,014 (``val``), test 1,000 (``test_2016_flickr``). Nothing but empty pairs is dropped (there are
none), so scores compare with published ones.
"""

from __future__ import annotations

from pathlib import Path

from seqlib.data.clean import CleanRules
from seqlib.problems.translate import NamedPairs

__all__ = ["deen", "ende", "enfr"]


def ende(data_dir: str | Path | None = None) -> Multi30k:
    """English to German; from local files in ``data_dir``, else through the ``datasets`` library."""
    return Multi30k("en", "de", data_dir)


def deen(data_dir: str | Path | None = None) -> Multi30k:
    """German to English; from local files in ``data_dir``, else through the ``datasets`` library."""
    return Multi30k("de", "en", data_dir)


def enfr(data_dir: str | Path | None = None) -> Multi30k:
    """English to French; from local files in ``data_dir`` only, since the hub's copy has no French."""
    return Multi30k("en", "fr", data_dir)


class Multi30k(NamedPairs):
    """Multi30k in one direction.

    ``data_dir`` holds ``train.en``, ``val.en``, ``test_2016_flickr.en`` and the same for the other language, plain,
    .gz or .zst. Without it the pairs come from the hub as ``bentrevett/multi30k`` (English and German only).
    """

    cleaning = CleanRules.only_empty()

    def __init__(self, source: str, target: str, data_dir: str | Path | None = None) -> None:
        super().__init__("translate_multi30k", source, target, data_dir)
        if "fr" in (source, target):
            self.hub = None
