"""Labelled texts and pairs of texts as batches: ids, where the second text begins, targets, weights.

B rows, S time, L labels. A row is bos, the text, eos, and of a pair the second text and eos again: BERT's layout, where
its [CLS] is bos and its [SEP] is eos. In RoBERTa's two eos stand between the texts of a pair.
"""

from copy import copy
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from seqlib.data.batch import SpecialIds
from seqlib.data.plan import PlannedBatch
from seqlib.data.sampled import Sampling
from seqlib.data.store import TokenStore
from seqlib.util.errors import ShapeError


class LabelledBatch(NamedTuple):
    """A padded batch. A row that only fills it is bos and eos with weight 0."""

    ids: np.ndarray
    """int32 [B, S]"""
    lengths: np.ndarray
    """int32 [B], at least 2"""
    types: np.ndarray | None
    """int32 [B, S]: 0 up to the eos behind the first text, 1 behind it; None where the problem has single texts"""
    targets: np.ndarray
    """int32 [B], one of L classes; float32 [B, L], which of the labels hold; float32 [B], a number"""
    weights: np.ndarray
    """float32 [B], what each row counts in the loss"""

    def sizes(self) -> dict[str, int]:
        """What tells a shape from others, by name."""
        rows, length = self.ids.shape
        return {"rows": rows, "tokens": length}

    def tokens(self) -> int:
        """Tokens of texts, specials included."""
        return int(self.lengths[self.weights > 0].sum())

    def places(self) -> int:
        """Places for tokens."""
        return int(self.ids.size)


class LabelledStore:
    """A token store of (first text, second text) with a target for each, as it is read with at most `max_length`
    tokens a row: longer texts are cut, of a pair the longer one first.

    `pairs` eos stand before the second text (0: there is none); `class_weights` float32 [L] multiply the weights of
    rows by class.
    """

    def __init__(
        self,
        store: TokenStore,
        targets: np.ndarray,
        max_length: int,
        *,
        pairs: int = 0,
        class_weights: np.ndarray | None = None,
    ) -> None:
        if len(targets) != len(store):
            raise ShapeError(f"{len(targets):,} targets for {len(store):,} texts")
        self._store, self.targets, self._pairs, self._max_length = store, targets, pairs, max_length
        self.weights = np.ones(len(store), np.float32) if store.weights is None else np.asarray(store.weights)
        if class_weights is not None:
            self.weights = self.weights * class_weights[targets]
        self.digest = store.digest

    def __len__(self) -> int:
        return len(self._store)

    @cached_property
    def kept(self) -> np.ndarray:
        """int64 [n, 2]: how much of each text is read."""
        return self._kept(self._store.lengths())

    def _kept(self, lengths: np.ndarray) -> np.ndarray:
        return cut_lengths(lengths.astype(np.int64), self._max_length, self._pairs)

    @property
    def cut(self) -> int:
        """How many texts are longer than what is read of them."""
        return int((self.kept.sum(1) < self._store.lengths().sum(1)).sum())

    def lengths(self) -> np.ndarray:
        """int64 [n, 2]: tokens of each row but for one eos, and -1, nothing, on the other side; for batch plans."""
        return self._rows(self.kept)

    def _rows(self, kept: np.ndarray) -> np.ndarray:
        rows = kept.sum(1) + 1 + self._pairs
        return np.stack([rows, np.full(len(rows), -1)], 1)

    def rows(self, numbers: np.ndarray, rows: int, length: int, spec: SpecialIds) -> tuple[Any, Any, Any]:
        """Ids, lengths and types, see `LabelledBatch`, of these texts in so many `rows` of a `length`."""
        texts = []
        for side in range(1 + bool(self._pairs)):
            tokens, sizes = self._store.gather(2 * numbers + side)
            texts.append((tokens, sizes, self.kept[numbers, side]))
        return lay_out(texts, rows, length, spec, self._pairs)


class SampledLabels:
    """The sampled epochs of a `LabelledStore`, as those of `seqlib.data.sampled.Sampling`."""

    def __init__(self, store: LabelledStore, sampling: Sampling) -> None:
        self._store, self._sampling = store, sampling
        kept = np.concatenate([store._kept(sampling.shaped_by), store.kept.max(0)[None]])
        self.shaped_by = store._rows(kept)
        self._last: tuple[int, Any] = (-1, None)

    def epoch(self, number: int) -> LabelledStore:
        """The store in an epoch; the last one that was asked for is kept."""
        if self._last[0] != number:
            store = copy(self._store)
            vars(store).update(_store=self._sampling.epoch(number))
            vars(store).pop("kept", None)
            self._last = number, store
        return self._last[1]


def cut_lengths(lengths: np.ndarray, max_length: int, pairs: int) -> np.ndarray:
    """What is read of texts and second texts with these lengths int64 [n, 2], so that a row with its special ids has at
    most `max_length`: the longer one is cut first."""
    most = max(0, max_length - 2 - pairs)
    first, second = lengths[:, 0], lengths[:, 1]
    half = most // 2
    kept = np.where(second <= half, np.minimum(first, most - second), np.maximum(np.minimum(first, most - half), 0))
    kept = np.maximum(kept, 0)
    return np.stack([kept, np.minimum(second, most - kept)], 1)


def lay_out(
    texts: list[tuple[np.ndarray, np.ndarray, np.ndarray]], rows: int, length: int, spec: SpecialIds, pairs: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Ids int32 [rows, length], lengths int32 [rows] and types (None for single texts) from the one or two texts of
    each row: (ids of all rows one after another, how many of them each row has, how many of these are read). Between
    two stand `pairs` eos.
    """
    ids = np.full((rows, length), spec.pad_id, np.int32)
    types = np.zeros((rows, length), np.int32) if len(texts) == 2 else None
    ends = np.ones(rows, np.int64)  # behind bos
    ids[:, 0] = spec.bos_id
    for number, (tokens, sizes, kept) in enumerate(texts):
        count = len(sizes)
        starts = np.cumsum(sizes) - sizes
        within = np.arange(len(tokens)) - np.repeat(starts, sizes)
        read = within < np.repeat(kept, sizes)
        row = np.repeat(np.arange(count), sizes)[read]
        if count and int((ends[:count] + kept).max()) >= length:
            raise ShapeError(
                f"{int((ends[:count] + kept).max()) + 1} tokens do not fit a row of {length}: not its plan"
            )
        begins = ends.copy()
        ids[row, ends[row] + within[read]] = tokens[read]
        ends[:count] += kept
        for _ in range(1 if number else max(1, pairs)):
            ids[np.arange(rows), ends] = spec.eos_id
            ends += 1
        if number and types is not None:
            place = np.arange(length)
            types[(place >= begins[:, None]) & (place < ends[:, None])] = 1
    return ids, ends.astype(np.int32), types


def collate_labelled(store: LabelledStore, planned: PlannedBatch, spec: SpecialIds) -> LabelledBatch:
    """The planned texts as a batch. Raises ShapeError where they do not fit its shape."""
    numbers = np.asarray(planned.indices, np.int64)
    ids, lengths, types = store.rows(numbers, planned.rows, planned.source_length, spec)
    found = store.targets[numbers]
    targets = np.zeros((planned.rows, *found.shape[1:]), found.dtype)
    targets[: len(numbers)] = found
    weights = np.zeros(planned.rows, np.float32)
    weights[: len(numbers)] = store.weights[numbers]
    return LabelledBatch(ids, lengths, types, targets, weights)
