"""A token store whose sequences are cut anew in every epoch, as a pure function of data, seed and epoch."""

import hashlib
from functools import cached_property
from typing import Any

import numpy as np

from seqlib.data.store import TokenStore
from seqlib.data.subword import SubwordSampler, mixed

_CHUNK = 1 << 15  # sequences sampled together
_REFERENCE = 1 << 16  # pairs that shapes of batches are made from


class SampledStore:
    """A store as it is in one epoch: ``gather`` and ``lengths`` as in ``TokenStore``.

    Sequences whose sample is longer than ``limits`` int [2] (ids of a source, of a target) stay as they are.
    """

    def __init__(self, store: TokenStore, sampler: SubwordSampler, name: str, limits: np.ndarray) -> None:
        self.weights = store.weights
        self._store, self._sampler, self._limits = store, sampler, limits
        self._key = np.uint64(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little"))
        self._lengths: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self._store)

    def gather(self, sequences: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ids int32 of sequences, one after another, and their lengths int64."""
        ids, lengths = self._store.gather(sequences)
        keys = mixed(self._key + mixed(sequences.astype(np.uint64)))
        others, found = self._sampler.sample(ids, lengths, keys)
        long = found > self._limits[sequences % 2]
        if long.any():
            firsts, starts = np.cumsum(lengths) - lengths, np.cumsum(found) - found
            pieces = [
                ids[first : first + length] if stays else others[start : start + other]
                for stays, first, length, start, other in zip(long, firsts, lengths, starts, found, strict=True)
            ]
            others, found = np.concatenate(pieces), np.where(long, lengths, found)
        return others, found

    def lengths(self) -> np.ndarray:
        """int32 [n, 2]: number of ids of each source and target; drawn at the first call."""
        if self._lengths is None:
            self._lengths = self.lengths_of(np.arange(2 * len(self))).reshape(-1, 2)
        return self._lengths

    def lengths_of(self, sequences: np.ndarray) -> np.ndarray:
        """int32: the lengths of these sequences."""
        starts = range(0, len(sequences), _CHUNK)
        found = [self.gather(sequences[start : start + _CHUNK])[1].astype(np.int32) for start in starts]
        return np.concatenate([np.zeros(0, np.int32), *found])


class Sampling:
    """The sampled epochs of a store: ``epoch(n)`` is a pure function of the arguments and n.

    ``shaped_by`` int [m, 2] are lengths that serve all epochs' shapes of batches, so that no epoch has others: some of
    epoch 0, and the longest that any pair of up to ``max_length`` (its eos counted) may have.
    """

    def __init__(
        self, store: TokenStore, sampler: SubwordSampler, digest: str, seed: int, max_length: int | None
    ) -> None:
        self._store, self._sampler, self._max_length = store, sampler, max_length
        self._name = f"{digest} {seed} subword"
        self._last: tuple[int, Any] = (-1, None)

    @cached_property
    def _reference(self) -> tuple[np.ndarray, np.ndarray]:
        """(limits [2], lengths [m, 2])"""
        most = np.iinfo(np.int32).max if self._max_length is None else self._max_length - 1
        plain = self._store.lengths()
        plain = plain[(plain <= most).all(1)]
        pairs = np.arange(0, len(self._store), max(1, len(self._store) // _REFERENCE))
        sampled = SampledStore(self._store, self._sampler, f"{self._name} 0", np.full(2, most))
        lengths = sampled.lengths_of((2 * pairs[:, None] + (0, 1)).reshape(-1)).reshape(-1, 2)
        lengths = lengths[(lengths <= most).all(1)]
        both = np.concatenate([np.zeros((1, 2), np.int32), plain, lengths])
        limits = both.max(0)
        return limits, np.concatenate([lengths, limits[None]])

    @property
    def shaped_by(self) -> np.ndarray:
        """int32 [m, 2]"""
        return self._reference[1]

    def epoch(self, number: int) -> SampledStore:
        """The store in an epoch; the last one that was asked for is kept."""
        known, store = self._last
        if known != number:
            store = SampledStore(self._store, self._sampler, f"{self._name} {number}", self._reference[0])
            self._last = number, store
        return store
