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

    name = "translate_multi30k"
    source = "https://github.com/multi30k/dataset (data/task1/raw); hf:bentrevett/multi30k"
    licence = "none stated; derives from Flickr30k: research, non-commercial"
    citation = (
        "Elliott, Frank, Sima'an and Specia 2016. Multi30K: Multilingual English-German Image Descriptions. "
        "5th Workshop on Vision and Language. French: Elliott, Frank, Barrault, Bougares and Specia 2017, WMT17."
    )
    sizes = {"train": 29_000, "dev": 1014, "test": 1000}
    digests = {  # of multi30k/dataset@a3d2e0d
        "train.en": "460a15fbd157e34a7a9957ee388c1ca247fe47af3ef25fb50442af6c274e0fc6",
        "train.de": "2c2b73fd2b548fbcde3a875e0a78d6ee94d498bfdee6bd3eae3945779e9ddf72",
        "train.fr": "5925a3c18f1587b6b54b87743106e6e8ab93618edb6f65d19eac0621f853a10d",
        "val.en": "1f2a23d992769b5b3d209b0a10dd0b77c08cceb1f20dfb97ed0aafa49d107227",
        "val.de": "660e09eb7e1da2f856ea13ee5ad3cf6d36b3d5b0b733c857e94c5747a3dfc660",
        "val.fr": "5304e444d842e962b2dda4d816b70b22a1765b15401642b7ca37a67477e708dc",
        "test_2016_flickr.en": "399a4382932c1aadd3ceb9bef1008d388a64c76d4ae4e9d4728c6f4301cac182",
        "test_2016_flickr.de": "4be6b5b3236b79c25475c6bb829800a7ce559e9ba7a1f6c2394fe4d40be46d16",
        "test_2016_flickr.fr": "cb3160d69b002bb638e66cc7612fcd56cb0af82eadc9c142dedc438afb885ef6",
    }
    how = (
        "to use local files pass --data_dir FOLDER with train, val and test_2016_flickr in each language "
        "(https://github.com/multi30k/dataset, data/task1/raw)"
    )
    stems = {
        "train": ("train",),
        "dev": ("val", "valid", "dev"),
        "test": ("test_2016_flickr", "test2016", "flickr2016", "test"),
    }
    vocab_size = 4000
    cleaning = CleanRules.only_empty()

    def __init__(self, source: str, target: str, data_dir: str | Path | None = None) -> None:
        super().__init__(source, target, data_dir)
        self.hub = None if "fr" in (source, target) else ("bentrevett/multi30k", None)
