"""Named translation problems of the hub and of local files: ``translate_wmt14_ende`` is ``wmt14_ende()`` here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from seqlib.data.records import Record
from seqlib.data.sources import PairSource
from seqlib.problems.origin import find_file, hub_rows, missing, warn_of_digest
from seqlib.problems.translation import Translation

__all__ = ["NamedPairs", "iwslt14_deen", "iwslt14_ende", "wmt14_ende", "wmt19_ende"]

_HUB_SPLITS = {"dev": "validation"}


class NamedPairs(Translation):
    """A published corpus of pairs from language ``source`` to ``target``: ``data_dir`` holds a file for each split and
    language, named by ``stems`` with the language behind a dot; without it the pairs come from the hub's data set
    ``hub`` (name, configuration), if it is there."""

    hub: tuple[str, str | None] | None = None
    stems: Mapping[str, Sequence[str]] = {"train": ("train",), "dev": ("valid", "dev"), "test": ("test",)}

    def __init__(self, source: str, target: str, data_dir: str | Path | None = None) -> None:
        self.source_language, self.target_language = source, target
        self.name = f"{self.name}_{source}{target}"
        self.data_dir = Path(data_dir) if data_dir is not None else None

    def splits(self) -> tuple[str, ...]:
        return tuple(self.stems)

    def records(self, split: str) -> Iterator[Record]:
        self.check_split(split)
        if self.data_dir is not None:
            yield from PairSource(tuple(str(path) for path in self._files(split))).records()
            return
        if self.hub is None:
            raise missing(self, "no --data_dir was given, and it is not on the hub in a form that can be read")
        handle, config = self.hub
        source, target = self._languages()
        for number, row in enumerate(hub_rows(self, handle, _HUB_SPLITS.get(split, split), config), start=1):
            pair = row.get("translation", row)
            yield Record(pair[source], pair[target], f"{handle}:{split}", number)

    def digest(self) -> str:
        """Of the unpacked files, which are held against the published ones; of the hub's data by reading them."""
        if self.data_dir is None:
            return super().digest()
        names = [f"{stems[0]}.{each}" for stems in self.stems.values() for each in self._languages()]
        paths = [path for split in self.stems for path in self._files(split)]
        return " ".join(warn_of_digest(self, *each) for each in zip(names, paths, strict=True))

    def describe(self) -> dict[str, Any]:
        origin = str(self.data_dir) if self.data_dir is not None else f"hub: {self.source}"
        return {**super().describe(), "origin": origin, "published_sizes": self.sizes}

    def _languages(self) -> tuple[str, str]:
        return self.source_language, self.target_language

    def _files(self, split: str) -> list[Path]:
        stems = self.stems[split]
        return [find_file(self, self.data_dir, [f"{stem}.{each}" for stem in stems]) for each in self._languages()]


class IWSLT14(NamedPairs):
    """TED talks, German and English, cased and not tokenised or as fairseq's script leaves them."""

    name = "translate_iwslt14"
    source = "https://wit3.fbk.eu (2014-01, de-en); fairseq's examples/translation/prepare-iwslt14.sh"
    licence = "CC BY-NC-ND 4.0 (TED)"
    citation = "Cettolo, Niehues, Stüker, Bentivogli and Federico 2014. Report on the 11th IWSLT Evaluation Campaign."
    sizes = {"train": 160_239, "dev": 7283, "test": 6750}
    how = "pass --data_dir FOLDER with train, valid and test in .de and .en, as fairseq's prepare-iwslt14.sh makes them"
    vocab_size = 10_000


class WMT14(NamedPairs):
    """News: Europarl, Common Crawl and News Commentary to train, newstest2013 and newstest2014."""

    name = "translate_wmt14"
    source = "hf:wmt/wmt14:de-en"
    licence = "free for research (WMT)"
    citation = "Bojar et al. 2014. Findings of the 2014 Workshop on Statistical Machine Translation."
    sizes = {"train": 4_508_785, "dev": 3000, "test": 3003}
    how = "pass --data_dir FOLDER with train, newstest2013 and newstest2014 (or valid and test) in .en and .de"
    hub = ("wmt/wmt14", "de-en")
    stems = {"train": ("train",), "dev": ("newstest2013", "valid", "dev"), "test": ("newstest2014", "test")}
    vocab_size = 32_000


class WMT19(NamedPairs):
    """News: as WMT14 with ParaCrawl and Wikititles; newstest2018 for development."""

    name = "translate_wmt19"
    source = "hf:wmt/wmt19:de-en"
    licence = "free for research (WMT)"
    citation = "Barrault et al. 2019. Findings of the 2019 Conference on Machine Translation (WMT19)."
    sizes = {"train": 34_782_245, "dev": 2998}
    how = "pass --data_dir FOLDER with train and newstest2018 (or valid) in .en and .de"
    hub = ("wmt/wmt19", "de-en")
    stems = {"train": ("train",), "dev": ("newstest2018", "valid", "dev")}
    vocab_size = 32_000


def iwslt14_deen(data_dir: str | Path | None = None) -> NamedPairs:
    """German to English TED talks, from ``data_dir``."""
    return IWSLT14("de", "en", data_dir)


def iwslt14_ende(data_dir: str | Path | None = None) -> NamedPairs:
    """English to German TED talks, from ``data_dir``."""
    return IWSLT14("en", "de", data_dir)


def wmt14_ende(data_dir: str | Path | None = None) -> NamedPairs:
    """English to German news; from ``data_dir``, else through the ``datasets`` library."""
    return WMT14("en", "de", data_dir)


def wmt19_ende(data_dir: str | Path | None = None) -> NamedPairs:
    """English to German news; from ``data_dir``, else through the ``datasets`` library."""
    return WMT19("en", "de", data_dir)
