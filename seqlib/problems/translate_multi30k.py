"""Multi30k task 1: 31,014 image captions in English, German and French, written by people, cased and not tokenised.

Source: https://github.com/multi30k/dataset (``data/task1/raw``); the captions derive from Flickr30k. Split sizes:
train 29,000, dev 1,014 (``val``), test 1,000 (``test_2016_flickr``). Nothing but empty pairs is dropped (there are
none), so scores compare with published ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seqlib.data.clean import CleanRules
from seqlib.data.lines import file_digest
from seqlib.data.records import Record
from seqlib.data.sources import PairSource
from seqlib.problems.translation import Translation
from seqlib.util.errors import DataError, nearest
from seqlib.util.log import get_logger

__all__ = ["deen", "ende", "enfr"]

HUB_NAME = "bentrevett/multi30k"
SIZES = {"train": 29_000, "dev": 1014, "test": 1000}
_STEMS = {
    "train": ("train",),
    "dev": ("val", "valid", "dev"),
    "test": ("test_2016_flickr", "test2016", "flickr2016", "test"),
}
_HUB_SPLITS = {"train": "train", "dev": "validation", "test": "test"}
# sha256 of the unpacked files of multi30k/dataset@a3d2e0d
_DIGESTS = {
    ("train", "en"): "460a15fbd157e34a7a9957ee388c1ca247fe47af3ef25fb50442af6c274e0fc6",
    ("train", "de"): "2c2b73fd2b548fbcde3a875e0a78d6ee94d498bfdee6bd3eae3945779e9ddf72",
    ("train", "fr"): "5925a3c18f1587b6b54b87743106e6e8ab93618edb6f65d19eac0621f853a10d",
    ("dev", "en"): "1f2a23d992769b5b3d209b0a10dd0b77c08cceb1f20dfb97ed0aafa49d107227",
    ("dev", "de"): "660e09eb7e1da2f856ea13ee5ad3cf6d36b3d5b0b733c857e94c5747a3dfc660",
    ("dev", "fr"): "5304e444d842e962b2dda4d816b70b22a1765b15401642b7ca37a67477e708dc",
    ("test", "en"): "399a4382932c1aadd3ceb9bef1008d388a64c76d4ae4e9d4728c6f4301cac182",
    ("test", "de"): "4be6b5b3236b79c25475c6bb829800a7ce559e9ba7a1f6c2394fe4d40be46d16",
    ("test", "fr"): "cb3160d69b002bb638e66cc7612fcd56cb0af82eadc9c142dedc438afb885ef6",
}


def ende(data_dir: str | Path | None = None) -> Multi30k:
    """English to German; from local files in ``data_dir``, else through the ``datasets`` library."""
    return Multi30k("en", "de", data_dir)


def deen(data_dir: str | Path | None = None) -> Multi30k:
    """German to English; from local files in ``data_dir``, else through the ``datasets`` library."""
    return Multi30k("de", "en", data_dir)


def enfr(data_dir: str | Path | None = None) -> Multi30k:
    """English to French; from local files in ``data_dir`` only, since the hub's copy has no French."""
    return Multi30k("en", "fr", data_dir)


class Multi30k(Translation):
    """Multi30k in one direction.

    ``data_dir`` holds ``train.en``, ``val.en``, ``test_2016_flickr.en`` and the same for the other language, plain,
    .gz or .zst. Without it the pairs come from the hub as ``bentrevett/multi30k`` (English and German only).
    """

    vocab_size = 4000
    cleaning = CleanRules.only_empty()
    licence = "none stated; derives from Flickr30k: research, non-commercial"
    citation = (
        "Elliott, Frank, Sima'an and Specia 2016. Multi30K: Multilingual English-German Image Descriptions. "
        "5th Workshop on Vision and Language. French: Elliott, Frank, Barrault, Bougares and Specia 2017, WMT17."
    )

    def __init__(self, source: str, target: str, data_dir: str | Path | None = None) -> None:
        self.source_language, self.target_language = source, target
        self.name = f"translate_multi30k_{source}{target}"
        self.data_dir = Path(data_dir) if data_dir is not None else None

    def splits(self) -> tuple[str, ...]:
        return tuple(SIZES)

    def records(self, split: str) -> Iterator[Record]:
        self.check_split(split)
        if self.data_dir is None:
            return self._hub_records(split)
        files = tuple(str(self._file(split, language)) for language in self._languages())
        return PairSource(files).records()

    def digest(self) -> str:
        """Of the unpacked files, which are held against the published ones; a difference is logged, not refused."""
        if self.data_dir is None:
            return super().digest()
        found: list[str] = []
        for split in SIZES:
            for language in self._languages():
                path = self._file(split, language)
                found.append(file_digest(path))
                if found[-1] != _DIGESTS[split, language]:
                    get_logger().warning(
                        f"{path}: differs from the published Multi30k file (sha256 {found[-1][:12]}…, expected "
                        f"{_DIGESTS[split, language][:12]}…, {SIZES[split]:,} lines): scores may not compare"
                    )
        return " ".join(found)

    def describe(self) -> dict[str, Any]:
        origin = str(self.data_dir) if self.data_dir is not None else f"hub: {HUB_NAME}"
        return {**super().describe(), "origin": origin, "published_sizes": SIZES}

    def _languages(self) -> tuple[str, str]:
        return self.source_language, self.target_language

    def _file(self, split: str, language: str) -> Path:
        """The local file of a split and language. Raises DataError naming what was looked for."""
        assert self.data_dir is not None
        for stem in _STEMS[split]:
            for packing in ("", ".gz", ".zst"):
                path = self.data_dir / f"{stem}.{language}{packing}"
                if path.is_file():
                    return path
        names = ", ".join(f"{stem}.{language}" for stem in _STEMS[split])
        if not self.data_dir.is_dir():
            raise DataError(f"{self.data_dir}: there is no such folder; {_HOW}")
        near = nearest(f"{_STEMS[split][0]}.{language}", (entry.name for entry in self.data_dir.iterdir()))
        hint = f" (near: {', '.join(near)})" if near else ""
        raise DataError(f"{self.data_dir}: looked for {names} (plain, .gz or .zst) and found none{hint}; {_HOW}")

    def _hub_records(self, split: str) -> Iterator[Record]:
        if "fr" in self._languages():
            raise DataError(f"{self.name}: the hub's {HUB_NAME} has no French; {_HOW}")
        try:
            import datasets
        except ImportError:
            raise DataError(
                f"{self.name}: no --data_dir was given, and the datasets library, which fetches {HUB_NAME} from the "
                f"hub, is not installed (extra: data); {_HOW}"
            ) from None
        try:
            rows: Any = datasets.load_dataset(HUB_NAME, split=_HUB_SPLITS[split])
        except Exception as error:  # whatever the library and the network below it raise
            raise DataError(f"{self.name}: {HUB_NAME} could not be fetched from the hub ({error}); {_HOW}") from error
        if len(rows) != SIZES[split]:
            get_logger().warning(f"{HUB_NAME}: {split} has {len(rows):,} pairs, published {SIZES[split]:,}")
        source, target = self._languages()
        for number, row in enumerate(rows, start=1):
            yield Record(row[source], row[target], f"{HUB_NAME}:{_HUB_SPLITS[split]}", number)


_HOW = (
    "to use local files pass --data_dir FOLDER with train, val and test_2016_flickr in each language "
    "(https://github.com/multi30k/dataset, data/task1/raw)"
)
