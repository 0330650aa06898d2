"""Named translation problems of the hub and of local files: ``translate_wmt14_ende`` is ``wmt14_ende()`` here."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from seqlib.data.records import Record
from seqlib.data.sources import PairSource
from seqlib.problems.origin import find_file, hub_rows, missing, published, warn_of_digest
from seqlib.problems.translation import Translation

__all__ = ["NamedPairs", "iwslt14_deen", "iwslt14_ende", "wmt14_ende", "wmt19_ende"]

_HUB_SPLITS = {"dev": "validation"}


class NamedPairs(Translation):
    """The published corpus of a ``name``, from language ``source`` to ``target``: ``data_dir`` holds a file for each
    split and language, named by ``stems`` with the language behind a dot; without it the pairs come from the hub's data
    set ``hub`` (name, configuration), if it is there."""

    hub: tuple[str, str | None] | None = None
    stems: Mapping[str, Sequence[str]] = {"train": ("train",), "dev": ("valid", "dev"), "test": ("test",)}

    def __init__(self, name: str, source: str, target: str, data_dir: str | Path | None = None) -> None:
        vars(self).update(published(name))
        self.source_language, self.target_language = source, target
        self.name = f"{name}_{source}{target}"
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


def iwslt14_deen(data_dir: str | Path | None = None) -> NamedPairs:
    """German to English TED talks, from ``data_dir``."""
    return NamedPairs("translate_iwslt14", "de", "en", data_dir)


def iwslt14_ende(data_dir: str | Path | None = None) -> NamedPairs:
    """English to German TED talks, from ``data_dir``."""
    return NamedPairs("translate_iwslt14", "en", "de", data_dir)


def wmt14_ende(data_dir: str | Path | None = None) -> NamedPairs:
    """English to German news; from ``data_dir``, else through the ``datasets`` library."""
    return NamedPairs("translate_wmt14", "en", "de", data_dir)


def wmt19_ende(data_dir: str | Path | None = None) -> NamedPairs:
    """English to German news of 2019; from ``data_dir``, else through the ``datasets`` library."""
    return NamedPairs("translate_wmt19", "en", "de", data_dir)
