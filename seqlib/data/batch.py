"""Batches of fixed shape for encoder-decoder models, padded or packed.

B rows, S source time, T target time; N source and M target tokens of a pack, G its segments.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from seqlib.data.packing import PlannedPack
from seqlib.data.plan import PlannedBatch
from seqlib.data.sampled import SampledStore
from seqlib.data.store import TokenStore
from seqlib.util.errors import ShapeError

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
    """A padded batch, int32 but for the weights.

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
    weights: np.ndarray | None = None
    """float32 [B, T], what each target token counts in the loss; None: 1"""

    def sizes(self) -> dict[str, int]:
        """What tells a shape from others, by name."""
        (rows, source), target = self.src.shape, self.tgt_in.shape[1]
        return {"rows": rows, "source_tokens": source, "target_tokens": target}

    def tokens(self) -> int:
        """Target tokens that the loss counts."""
        return int(np.count_nonzero(self.tgt_out >= 0))

    def places(self) -> int:
        """Places for target tokens."""
        return int(self.tgt_in.size)


class PackedBatch(NamedTuple):
    """A packed batch, int32 but for the weights: the sentences of `Batch`, eos and bos as there, one after another.

    Segment g of a side has the tokens ``offsets[g]:offsets[g + 1]``; segments that are not used are empty and come
    last. Tokens behind the last segment are pad, at position 0, with ``tgt_out`` -1.
    """

    src: np.ndarray
    """[N]"""
    src_positions: np.ndarray
    """[N], from 0 in each segment"""
    src_offsets: np.ndarray
    """[G + 1]"""
    tgt_in: np.ndarray
    """[M]"""
    tgt_out: np.ndarray
    """[M]"""
    tgt_positions: np.ndarray
    """[M]"""
    tgt_offsets: np.ndarray
    """[G + 1]"""
    weights: np.ndarray | None = None
    """float32 [M], what each target token counts in the loss; None: 1"""

    def sizes(self) -> dict[str, int]:
        """What tells a shape from others, by name."""
        segments = len(self.src_offsets) - 1
        return {"segments": segments, "source_tokens": len(self.src), "target_tokens": len(self.tgt_in)}

    def tokens(self) -> int:
        """Target tokens that the loss counts."""
        return int(np.count_nonzero(self.tgt_out >= 0))

    def places(self) -> int:
        """Places for target tokens."""
        return len(self.tgt_in)


class TextBatch(NamedTuple):
    """Texts and what follows each of their tokens, int32: [B,T] each, or [N] for packed texts, of which text g has the
    places ``offsets[g]:offsets[g + 1]``."""

    inputs: np.ndarray
    targets: np.ndarray
    """-1: nothing to learn there"""
    positions: np.ndarray | None = None
    """[N], of packed texts, from 0 in each"""
    offsets: np.ndarray | None = None
    """[G + 1], of packed texts"""

    def sizes(self) -> dict[str, int]:
        """What tells a shape from others, by name."""
        if self.offsets is not None:
            return {"segments": len(self.offsets) - 1, "tokens": len(self.inputs)}
        rows, length = self.inputs.shape
        return {"rows": rows, "tokens": length}

    def tokens(self) -> int:
        """Tokens that the loss counts."""
        return int(np.count_nonzero(self.targets >= 0))

    def places(self) -> int:
        """Places for tokens."""
        return int(self.inputs.size)


Store = TokenStore | SampledStore


def collate(store: Store, planned: PlannedBatch | PlannedPack, spec: SpecialIds) -> Batch | PackedBatch:
    """Gathers the planned pairs of a store into a batch of the planned shape.

    Whole arrays at a time: two gathers a batch, no loop over rows. Raises ShapeError when a pair with its eos does
    not fit the planned shape, which means that plan and store do not belong together.
    """
    pairs = np.asarray(planned.indices, np.int64)
    packed = isinstance(planned, PlannedPack)
    most = planned.segments * len(planned.stops) if packed else planned.rows
    if len(pairs) > most or (len(pairs) and not 0 <= pairs.min() <= pairs.max() < len(store)):
        raise ShapeError(f"{len(pairs)} pairs for {most} rows of a store of {len(store)}: not its plan")
    return _packed(store, planned, spec) if packed else _padded(store, planned, spec)


def _padded(store: Store, planned: PlannedBatch, spec: SpecialIds) -> Batch:
    pairs = np.asarray(planned.indices, np.int64)
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
    weights = None
    if store.weights is not None:
        weights = np.zeros(target_ids.shape, np.float32)
        weights[: len(pairs)] = store.weights[pairs, None]
    return Batch(source_ids, source + 1, target_in, target_ids, target + 1, weights)


def _packed(store: Store, planned: PlannedPack, spec: SpecialIds) -> PackedBatch:
    pairs = np.asarray(planned.indices, np.int64)
    parts = len(planned.stops)
    segments = planned.segments * parts
    source, src_positions, src_offsets = _run(store, 2 * pairs, segments, planned.source_tokens * parts)
    target, tgt_positions, tgt_offsets = _run(store, 2 * pairs + 1, segments, planned.target_tokens * parts)
    used = len(pairs)
    source[src_offsets[used] :] = spec.pad_id
    source[src_offsets[1 : used + 1] - 1] = spec.eos_id
    target_in = np.roll(target, 1)
    target_in[tgt_offsets[used] :] = spec.pad_id
    target_in[tgt_offsets[:used]] = spec.bos_id
    target[tgt_offsets[used] :] = IGNORED
    target[tgt_offsets[1 : used + 1] - 1] = spec.eos_id
    weights = None
    if store.weights is not None:
        weights = np.zeros(len(target), np.float32)
        weights[: tgt_offsets[used]] = np.repeat(store.weights[pairs], np.diff(tgt_offsets[: used + 1]))
    return PackedBatch(source, src_positions, src_offsets, target_in, target, tgt_positions, tgt_offsets, weights)


def _run(store: Store, sequences: np.ndarray, segments: int, room: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids [room] of sequences one after another with a place for eos behind each, positions [room], offsets
    [segments + 1], all int32; ids of those places are arbitrary.
    """
    tokens, lengths = store.gather(sequences)
    offsets = np.zeros(segments + 1, np.int32)
    np.cumsum(lengths + 1, out=offsets[1 : len(sequences) + 1])
    offsets[len(sequences) + 1 :] = end = int(offsets[len(sequences)])
    if end > room:
        raise ShapeError(f"{end} tokens do not fit the {room} of a planned pack: not its plan")
    positions = np.zeros(room, np.int32)
    positions[:end] = np.arange(end, dtype=np.int32) - np.repeat(offsets[: len(sequences)], lengths + 1)
    ids = np.zeros(room, np.int32)
    inside = np.ones(end, bool)
    inside[offsets[1 : len(sequences) + 1] - 1] = False
    ids[:end][inside] = tokens
    return ids, positions, offsets


def _gather(store: Store, sequences: np.ndarray, rows: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Lengths int32 [rows] and ids int32 [rows, length] of sequences, 0 behind each."""
    tokens, sizes = store.gather(sequences)
    if len(sizes) and sizes.max() >= length:
        raise ShapeError(
            f"a sequence of {sizes.max()} ids and its eos do not fit a planned length of {length}: not its plan"
        )
    lengths = np.zeros(rows, np.int32)
    lengths[: len(sequences)] = sizes
    ids = np.zeros((rows, length), np.int32)
    ids[np.arange(length) < lengths[:, None]] = tokens
    return lengths, ids
