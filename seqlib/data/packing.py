"""Packed batches: sentences one after another in rows of fixed length, without padding between them.

N source and M target tokens of a pack, S its segments. A pack is filled from the shuffled order: as many of the
pending pairs as fit, then of those pending within a bounded look-ahead the ones that fill what is left on both sides
best. The oldest pending pairs always go first, so the order stays random and no pair waits long.
"""

from __future__ import annotations

from typing import NamedTuple, Unpack

import numpy as np

from seqlib.data.plan import Plan, PlanOptions, check_sizes, select
from seqlib.util.errors import UsageError

_LOOK_AHEAD = 256
_MULTIPLE = 16


class PlannedPack(NamedTuple):
    """Pairs ``indices`` (int64) in ``stops`` packs: pack i holds ``indices[stops[i - 1]:stops[i]]``.

    Each pack has room for ``source_tokens`` and ``target_tokens`` (eos counted) and at most ``segments`` pairs.
    """

    indices: np.ndarray
    segments: int
    source_tokens: int
    target_tokens: int
    stops: tuple[int, ...]

    @property
    def cells(self) -> int:
        """Places for tokens, on both sides together."""
        return len(self.stops) * (self.source_tokens + self.target_tokens)

    def cut(self, parts: int) -> list[PlannedPack]:
        """The packs one by one. Raises UsageError unless the batch was planned in `parts`."""
        if parts != len(self.stops):
            raise UsageError(f"a packed batch planned in {len(self.stops)} parts cannot be cut into {parts}")
        bounds = zip((0, *self.stops), self.stops, strict=False)
        return [self._replace(indices=self.indices[a:b], stops=(b - a,)) for a, b in bounds]


def pack_plan(lengths: np.ndarray, *, parts: int = 1, **options: Unpack[PlanOptions]) -> Plan:
    """An epoch of packed batches of one shape, over pairs with ``lengths`` int [n, 2] (as ``TokenStore.lengths``).

    A batch has ``parts`` packs. The side with more tokens gets ``tokens // parts`` in each, the other as many fewer
    as the corpus has there, in multiples of 16. The rest as in ``bucket_plan``. Raises UsageError for sizes below 1
    and when a usable pair is longer than a pack, DataError when no pair is left.
    """
    check_sizes(parts=parts)
    selected = select(lengths, options)
    room = _room(selected.shaping, options["tokens"] // parts)
    segments = int(min(*room, -(-2 * room.max() // selected.shaping.mean())))
    shuffled = selected.shuffled(options, "packing")
    packs = _packs(selected.sizes[shuffled], room, segments)
    batches: list[PlannedPack] = []
    for start in range(0, len(packs), parts):
        group = packs[start : start + parts]
        group += [np.zeros(0, np.int64)] * (parts - len(group))
        stops = tuple(np.cumsum([len(pack) for pack in group]).tolist())
        batches.append(PlannedPack(shuffled[np.concatenate(group)], segments, int(room[0]), int(room[1]), stops))
    return selected.plan(batches, ((segments, int(room[0]), int(room[1])),))


def _room(sizes: np.ndarray, tokens: int) -> np.ndarray:
    """int64 [2]: tokens of a pack on either side."""
    means = sizes.mean(0)
    room = (np.ceil(tokens * means / means.max() / _MULTIPLE) * _MULTIPLE).astype(np.int64)
    room[int(np.argmax(means))] = tokens
    longest = sizes.max(0)
    if longest.max() > tokens:
        raise UsageError(
            f"a pair of {longest.max()} tokens does not fit a pack of {tokens}: "
            "lower batch.max_length, raise batch.tokens or use batch.kind=buckets"
        )
    return np.clip(room, longest, tokens)


def _packs(sizes: np.ndarray, room: np.ndarray, segments: int) -> list[np.ndarray]:
    """Places in ``sizes`` int [n, 2] of the members of each pack."""
    mean = sizes.mean(0)
    window = int(room.max() / mean.max()) + _LOOK_AHEAD
    pending, taken_from = np.arange(min(window, len(sizes))), min(window, len(sizes))
    found: list[np.ndarray] = []
    while len(pending):
        waiting = sizes[pending]
        used = waiting.cumsum(0)
        # Some room is left to the pairs that fill it best.
        count = int((used <= room - mean).all(1)[:segments].sum()) or 1
        left = room - used[count - 1]
        rest = waiting[count:]
        members = list(range(count))
        while len(members) < segments:
            after = left - rest
            fits = np.flatnonzero((after >= 0).all(1))
            if not len(fits):
                break
            best = int(fits[np.argmin((after[fits] ** 2).sum(1))])
            members.append(count + best)
            left = left - rest[best]
            rest[best] = room + 1  # taken: it fits no more
        found.append(pending[members])
        stay = np.ones(len(pending), bool)
        stay[members] = False
        more = min(len(members), len(sizes) - taken_from)
        pending = np.concatenate([pending[stay], np.arange(taken_from, taken_from + more)])
        taken_from += more
    return found
