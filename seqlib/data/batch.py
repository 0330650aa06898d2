"""Batches of fixed shape for encoder-decoder models. B rows, S source time, T target time."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from seqlib.data.plan import PlannedBatch
from seqlib.data.store import TokenStore
from seqlib.util.errors import ShapeError

__all__ = ["IGNORED", "Batch", "SpecialIds", "collate"]

IGNORED = -1


class SpecialIds(Protocol):
    """The ids a batch needs; ``ProblemSpec`` and every tokenizer have them."""

    @property
    def pad_id(self) -> int: ...
    @property
    def bos_id(self) -> int: ...
    @property
    def eos_id(self) -> int: ...


class Batch(NamedTuple):
    """A padded batch, all int32.

    ``src`` rows end with eos, ``tgt_in`` rows start with bos, ``tgt_out`` rows end with eos and are -1 (ignored) from
    there on. Lengths count eos or bos and are at least 1. A row that only fills a bucket is eos alone, length 1, with
    ``tgt_out`` all -1: it adds nothing to a loss.
    """

    src: np.ndarray
    """[B, S]"""
    src_lengths: np.ndarray
    """[B]"""
    tgt_in: np.ndarray
    """[B, T]"""
    tgt_out: np.ndarray
    """[B, T]"""
    tgt_lengths: np.ndarray
    """[B]"""


def collate(store: TokenStore, planned: PlannedBatch, spec: SpecialIds) -> Batch:
    """Gathers the planned pairs of a store into arrays [rows, source_length] and [rows, target_length].

    Whole arrays at a time: two gathers a batch, no loop over rows. Raises ShapeError when a pair with its eos does
    not fit the planned lengths, which means that plan and store do not belong together.
    """
    pairs = np.asarray(planned.indices, np.int64)
    if len(pairs) > planned.rows or (len(pairs) and not 0 <= pairs.min() <= pairs.max() < len(store)):
        raise ShapeError(
            f"{len(pairs)} pairs for {planned.rows} rows of a store of {len(store)}: not its plan"
        )
    source, source_ids = _gather(store, 2 * pairs, planned.rows, planned.source_length)
    target, target_ids = _gather(store, 2 * pairs + 1, planned.rows, planned.target_length)
    rows = np.arange(planned.rows)
    real = rows < len(pairs)

    source_ids[np.arange(planned.source_length) >= source[:, None]] = spec.pad_id
    source_ids[rows, source] = spec.eos_id

    time = np.arange(planned.target_length)
    target_in = np.empty_like(target_ids)
    target_in[:, 0] = spec.bos_id
    target_in[:, 1:] = np.where(time[1:] <= target[:, None], target_ids[:, :-1], spec.pad_id)
    target_ids[time >= target[:, None]] = IGNORED
    target_ids[rows[real], target[real]] = spec.eos_id
    return Batch(source_ids, source + 1, target_in, target_ids, target + 1)


def _gather(
    store: TokenStore, sequences: np.ndarray, rows: int, length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Lengths int32 [rows] and ids int32 [rows, length] of sequences; what lies behind a sequence is arbitrary."""
    starts = np.zeros(rows, np.int64)
    lengths = np.zeros(rows, np.int32)
    starts[: len(sequences)] = store.offsets[sequences]
    lengths[: len(sequences)] = store.offsets[sequences + 1] - starts[: len(sequences)]
    if len(sequences) and lengths.max() >= length:
        raise ShapeError(
            f"a sequence of {lengths.max()} ids and its eos do not fit a planned length of {length}: not its plan"
        )
    if not len(store.tokens):
        return lengths, np.zeros((rows, length), np.int32)
    places = starts[:, None] + np.arange(length)
    ids = np.take(store.tokens, places, mode="clip").astype(np.int32)
    return lengths, ids
