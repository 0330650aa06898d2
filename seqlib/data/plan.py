"""Batch plans: which pairs go together, in which order, padded to which of a few static shapes.

A plan is a pure function of the lengths, the data digest, the seed and the epoch: same arguments, same batches, on any
machine and in any order of calls. The position in it is an index, so a run resumes with ``plan.batches[k:]``.

Buckets are rectangles in (source length, target length): the target axis is cut into groups, each group's source axis
into buckets, and of all ways to do so with at most ``max_shapes`` buckets the one with the fewest padded tokens in an
epoch, filler rows included, is taken (exact dynamic programme over at most 32 candidate lengths a side). Plain padding
is what others are measured against; packing is in ``packing.py``.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, NamedTuple, NotRequired, TypedDict, Unpack

import numpy as np

from seqlib.util.errors import DataError, UsageError

if TYPE_CHECKING:
    from seqlib.data.packing import PlannedPack

_CANDIDATES = 32


class PlannedBatch(NamedTuple):
    """Pairs ``indices`` (int64, at most ``rows``) to be padded to [rows, source_length] and [rows, target_length]."""

    indices: np.ndarray
    rows: int
    source_length: int
    target_length: int

    @property
    def cells(self) -> int:
        """Places for tokens, on both sides together."""
        return self.rows * (self.source_length + self.target_length)

    def cut(self, parts: int) -> list[PlannedBatch]:
        """At most `parts` batches of equal shape, ceil(rows / parts) rows each, that hold the same pairs in order.

        Those that would have no pair are left out.
        """
        rows = -(-self.rows // parts)
        starts = range(0, max(1, len(self.indices)), rows)
        return [self._replace(indices=self.indices[start : start + rows], rows=rows) for start in starts]


class Shape(NamedTuple):
    """A bucket: pairs with source in (source_above, source_length] and target likewise, eos counted. What has one side
    alone, of length -1 without eos on the other, has a `target_length` of 0."""

    rows: int
    source_above: int
    source_length: int
    target_above: int
    target_length: int


@dataclass(frozen=True)
class Plan:
    """An epoch's batches in order.

    ``dropped`` pairs were longer than ``max_length``. ``real_tokens`` counts ids and eos of both sides,
    ``shapes`` has one entry for each shape that a batch may have.
    """

    batches: Sequence[PlannedBatch | PlannedPack]
    shapes: tuple[tuple[int, ...], ...]
    pairs: int
    dropped: int
    real_tokens: int

    @cached_property
    def padded_tokens(self) -> int:
        """All cells of ``src`` and ``tgt_out``, filler rows included."""
        return sum(batch.cells for batch in self.batches)

    @property
    def padding_share(self) -> float:
        """Share of the padded cells that hold no token, 0 to 1."""
        return 1 - self.real_tokens / self.padded_tokens if self.padded_tokens else 0.0


class PlanOptions(TypedDict):
    """What a plan of any kind is made from, besides lengths.

    ``tokens`` a batch and side; ``max_length`` bounds a side with its eos, longer pairs are dropped and counted, None
    keeps all; the order is a function of ``digest``, ``seed`` and ``epoch``. ``chosen`` int64 [m] names the pairs of
    this epoch, in any order and as often as they are wanted (None: each once); shapes do not depend on it.
    ``shaped_by`` int [k, 2] are lengths to make the shapes from (None: those of all pairs), the longest of a side among
    them on one pair.
    """

    tokens: int
    max_length: int | None
    seed: int
    epoch: int
    digest: str
    chosen: NotRequired[np.ndarray | None]
    shaped_by: NotRequired[np.ndarray | None]


class Selected(NamedTuple):
    """The pairs of an epoch, and what shapes are made from; sizes count eos."""

    sizes: np.ndarray
    """int64 [n, 2], of all pairs of the store"""
    placed: np.ndarray
    """int64 [m], the pairs of the epoch"""
    shaping: np.ndarray
    """int64 [k, 2], k >= 1"""
    dropped: int

    def shuffled(self, options: PlanOptions, name: str) -> np.ndarray:
        """``placed`` in the random order of this name."""
        text = f"{options['digest']} {options['seed']} {options['epoch']} {name}"
        return self.placed[order(len(self.placed), text)]

    def plan(self, batches: Sequence[PlannedBatch | PlannedPack], shapes: tuple[tuple[int, ...], ...]) -> Plan:
        """The plan with these batches."""
        return Plan(batches, shapes, len(self.placed), self.dropped, int(self.sizes[self.placed].sum()))


def select(lengths: np.ndarray, options: PlanOptions) -> Selected:
    """The pairs with no side above ``max_length``, of those that are chosen. ``lengths`` as ``TokenStore.lengths``.

    Raises UsageError for a ``tokens`` or ``max_length`` below 1, DataError when no pair is left.
    """
    max_length = options["max_length"]
    check_sizes(tokens=options["tokens"], **({} if max_length is None else {"max_length": max_length}))
    sizes = np.asarray(lengths, np.int64).reshape(-1, 2) + 1
    kept = np.arange(len(sizes)) if max_length is None else np.flatnonzero((sizes <= max_length).all(1))
    if not len(kept):
        why = f": all have more than {max_length} tokens on a side" if len(sizes) else ": the split is empty"
        raise DataError(f"none of the {len(sizes):,} pairs can be used{why}")
    placed = kept
    if (chosen := options.get("chosen")) is not None:
        place = np.minimum(np.searchsorted(kept, chosen), len(kept) - 1)
        placed = chosen[kept[place] == chosen]
    shaped_by = options.get("shaped_by")
    shaping = sizes[kept] if shaped_by is None else np.asarray(shaped_by, np.int64) + 1
    return Selected(sizes, placed, shaping, len(sizes) - len(kept))


def bucket_plan(
    lengths: np.ndarray,
    *,
    max_shapes: int = 12,
    multiple: int = 4,
    shuffle: bool = True,
    **options: Unpack[PlanOptions],
) -> Plan:
    """The batches of an epoch over pairs with ``lengths`` int [n, 2] (ids without eos, as ``TokenStore.lengths``).

    A batch has ``tokens // longest padded side`` rows, at least 1. Padded lengths are multiples of ``multiple``;
    ``max_shapes`` bounds the distinct shapes (one compiled program each). ``shuffle=False`` keeps pairs and buckets in
    order, for evaluation. Shuffling sorts by raw Philox words, whose stream NumPy guarantees, so a plan outlives NumPy
    versions. Raises UsageError for non-positive sizes and DataError when no pair is left.
    """
    check_sizes(max_shapes=max_shapes, multiple=multiple)
    selected = select(lengths, options)
    shapes = bucket_shapes(selected.shaping, options["tokens"], max_shapes, multiple)
    name = f"{options['digest']} {options['seed']} {options['epoch']}"
    numbers = _buckets(selected.sizes[selected.placed], shapes)
    batches: list[PlannedBatch] = []
    for number, shape in enumerate(shapes):
        members = selected.placed[numbers == number]
        if shuffle:
            members = members[order(len(members), f"{name} bucket {number}")]
        for start in range(0, len(members), shape.rows):
            indices = members[start : start + shape.rows]
            batches.append(PlannedBatch(indices, shape.rows, shape.source_length, shape.target_length))
    if shuffle:
        batches = [batches[place] for place in order(len(batches), f"{name} batches")]
    return selected.plan(batches, shapes)


def _buckets(sizes: np.ndarray, shapes: tuple[Shape, ...]) -> np.ndarray:
    """int8 [n]: the bucket of each pair with ``sizes`` int [n, 2]; of pairs outside all of them, which shapes made from
    other lengths may leave, the smallest that they fit.
    """
    numbers = np.full(len(sizes), -1, np.int8)
    source, target = sizes[:, 0], sizes[:, 1]
    for number, shape in enumerate(shapes):
        inside = (source > shape.source_above) & (source <= shape.source_length)
        inside &= (target > shape.target_above) & (target <= shape.target_length)
        numbers[inside] = number
    if len(outside := np.flatnonzero(numbers < 0)):
        for number, shape in sorted(enumerate(shapes), key=lambda item: -item[1].source_length - item[1].target_length):
            fits = (source[outside] <= shape.source_length) & (target[outside] <= shape.target_length)
            numbers[outside[fits]] = number
    return numbers


def padding_plan(
    lengths: np.ndarray, *, max_shapes: int = 12, multiple: int = 4, **options: Unpack[PlanOptions]
) -> Plan:
    """Pairs in random order, a fixed number a batch, each batch padded to its longest: the usual way, and the slowest.

    Arguments as `bucket_plan`. Batches have the rows for which the longest side of a batch times rows is ``tokens``
    on average. Padded lengths are rounded up to quantiles of what the longest of so many rows is, on both sides
    together, so that there are at most ``max_shapes`` shapes.
    """
    check_sizes(max_shapes=max_shapes, multiple=multiple)
    selected, tokens = select(lengths, options), options["tokens"]
    shaping = selected.shaping
    longest = np.sort(shaping.max(1))
    most = range(1, min(tokens, len(shaping)) + 1)
    rows = max(1, bisect_right(most, tokens, key=lambda rows: rows * _expected_longest(longest, rows)))
    ranked = [-(-np.sort(shaping[:, side]) // multiple) * multiple for side in (0, 1)]
    shares = (np.arange(1, max_shapes + 1) / max_shapes) ** (1 / rows)  # F(x)^rows is that of the longest of rows
    places = np.minimum((shares * len(shaping)).astype(np.int64), len(shaping) - 1)
    places[-1] = len(shaping) - 1
    edges = np.unique(np.stack([side[places] for side in ranked], axis=1), axis=0)
    shuffled = selected.shuffled(options, "padding")
    batches: list[PlannedBatch] = []
    for start in range(0, len(shuffled), rows):
        indices = shuffled[start : start + rows]
        fits = (edges >= selected.sizes[indices].max(0)).all(1)
        source, target = edges[int(np.argmax(fits))].tolist()
        batches.append(PlannedBatch(indices, rows, source, target))
    return selected.plan(batches, tuple((rows, source, target) for source, target in edges.tolist()))


def _expected_longest(ranked: np.ndarray, rows: int) -> float:
    """The mean of the longest of ``rows`` lengths drawn from ``ranked`` (ordered)."""
    share = np.linspace(0.0, 1.0, len(ranked) + 1) ** rows
    return float(ranked @ np.diff(share))


def check_sizes(**sizes: int) -> None:
    """Raises UsageError for one below 1."""
    for name, value in sizes.items():
        if value < 1:
            raise UsageError(f"{name} must be at least 1, got {value}")


def order(count: int, name: str) -> np.ndarray:
    """A permutation of ``count`` that depends on ``name`` alone."""
    key = np.frombuffer(hashlib.blake2b(name.encode(), digest_size=16).digest(), "<u8")
    return np.argsort(np.random.Philox(key=key).random_raw(count), kind="stable")


def bucket_shapes(sizes: np.ndarray, tokens: int, max_shapes: int, multiple: int) -> tuple[Shape, ...]:
    """At most ``max_shapes`` buckets, none empty, for pairs with ``sizes`` int [n, 2] (eos counted), n >= 1."""
    edges = [_edges(sizes[:, side], multiple) for side in (0, 1)]
    cells = [np.searchsorted(edge, sizes[:, side]) for side, edge in enumerate(edges)]
    counts = np.zeros((len(edges[1]), len(edges[0])), np.int64)
    np.add.at(counts, (cells[1], cells[0]), 1)
    return _best_shapes(edges[0].tobytes(), edges[1].tobytes(), counts.tobytes(), tokens, max_shapes)


def _edges(sizes: np.ndarray, multiple: int) -> np.ndarray:
    """Candidate padded lengths, increasing: all used multiples, or 32 of them by quantiles of the data."""
    padded = -(-sizes // multiple) * multiple
    used = np.unique(padded)
    if len(used) <= _CANDIDATES:
        return used
    ranked = np.sort(padded)
    places = np.linspace(0, len(ranked) - 1, 4 * _CANDIDATES).astype(np.int64)
    by_quantile = np.unique(ranked[places])
    even = used[np.linspace(0, len(used) - 1, _CANDIDATES).astype(np.int64)]
    if len(by_quantile) > _CANDIDATES:
        by_quantile = by_quantile[np.linspace(0, len(by_quantile) - 1, _CANDIDATES).astype(np.int64)]
    else:  # the quantiles leave room: even steps cover the long tail
        room = _CANDIDATES - len(by_quantile)
        by_quantile = np.union1d(by_quantile, even[len(even) - room :]) if room else by_quantile
    return np.union1d(by_quantile[by_quantile < used[-1]], used[-1:])


@lru_cache(maxsize=64)
def _best_shapes(
    source_edges: bytes, target_edges: bytes, counts: bytes, tokens: int, max_shapes: int
) -> tuple[Shape, ...]:
    """The dynamic programme; bytes in, so that the answer can be kept from epoch to epoch."""
    source = np.frombuffer(source_edges, np.int64)
    target = np.frombuffer(target_edges, np.int64)
    table = np.frombuffer(counts, np.int64).reshape(len(target), len(source))
    cost = _costs(source, target, table, tokens)  # [t0, t1, s0, s1]: cells t0..t1-1 by s0..s1-1 as one bucket
    limit = min(max_shapes, table.size)
    inner, inner_from = _chain(cost, limit)  # best cost of target cells t0..t1-1 in exactly k source buckets
    # Now the target axis: best[k][t1] with exactly k buckets for target cells below t1.
    best = np.full((limit + 1, len(target) + 1), np.inf)
    best[0, 0] = 0
    choice: dict[tuple[int, int], tuple[int, int]] = {}
    for k in range(1, limit + 1):
        for t1 in range(1, len(target) + 1):
            options = np.array([best[k - j, :t1] + inner[j, :t1, t1] for j in range(1, k + 1)])
            place = int(np.argmin(options))
            j, t0 = place // t1 + 1, place % t1
            best[k, t1] = options[j - 1, t0]
            choice[k, t1] = (j, t0)
    shapes: list[Shape] = []
    k, t1 = int(np.argmin(best[:, -1])), len(target)
    while k:
        j, t0 = choice[k, t1]
        s1 = len(source)
        for left in range(j, 0, -1):
            s0 = int(inner_from[left, t0, t1, s1])
            if table[t0:t1, s0:s1].any():
                rows = max(1, tokens // int(max(source[s1 - 1], target[t1 - 1])))
                above = int(source[s0 - 1]) if s0 else -1, int(target[t0 - 1]) if t0 else -1
                shapes.append(Shape(rows, above[0], int(source[s1 - 1]), above[1], int(target[t1 - 1])))
            s1 = s0
        k, t1 = k - j, t0
    return tuple(sorted(shapes, key=lambda shape: (shape.target_length, shape.source_length, shape.source_above)))


def _costs(source: np.ndarray, target: np.ndarray, table: np.ndarray, tokens: int) -> np.ndarray:
    """Padded tokens of every rectangle of cells as one bucket, float64 [t0, t1, s0, s1]; inf for an empty range."""
    total = np.zeros((len(target) + 1, len(source) + 1), np.int64)
    total[1:, 1:] = table.cumsum(0).cumsum(1)
    rows_of = total[None, :, :] - total[:, None, :]  # [t0, t1, s]
    pairs = rows_of[:, :, None, :] - rows_of[:, :, :, None]  # [t0, t1, s0, s1]
    ends = [np.concatenate([edge[:1], edge]) for edge in (target, source)]
    longest = np.maximum(ends[0][:, None], ends[1][None, :])
    rows = np.maximum(1, tokens // np.maximum(1, longest))[None, :, None, :]
    width = (ends[0][:, None] + ends[1][None, :])[None, :, None, :]
    cost = (-(-pairs // rows) * rows * width).astype(np.float64)
    t, s = np.arange(len(target) + 1), np.arange(len(source) + 1)
    cost[~((t[:, None] < t)[:, :, None, None] & (s[:, None] < s)[None, None])] = np.inf
    return cost


def _chain(cost: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Source buckets for every target range: the least cost of exactly k, [k, t0, t1], and where the last begins,
    [k, t0, t1, s1].
    """
    ends = cost.shape[-1]
    best = np.full((limit + 1, *cost.shape[:2], ends), np.inf)
    best[0, :, :, 0] = 0
    origin = np.zeros(best.shape, np.int16)
    for k in range(1, limit + 1):
        for s1 in range(1, ends):
            options = best[k - 1, :, :, :s1] + cost[:, :, :s1, s1]
            origin[k, :, :, s1] = np.argmin(options, -1)
            best[k, :, :, s1] = options.min(-1)
    return best[..., -1], origin
