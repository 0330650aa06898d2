"""Packed segments as a few padded problems, for the NumPy kernels of attention.

n segments of a group, t and s their longest query and key side, N packed query rows, M packed key rows.
Segments of like lengths are done together: a problem of its own for each costs more than its products. Rows that
fill a group repeat the segment's last one, so their weights are those of a real row; their results are dropped.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from seqlib.util.errors import ShapeError

_OVERHEAD = 20_000
"""What a group costs beside its scores, in scores of one head."""
_CUTS = 24
"""Places where a group may end: enough to come near the best grouping."""


class Group(NamedTuple):
    """Segments that are done together; all with the same s - t where that matters (causal)."""

    rows: Any
    """int [n, t]: the packed query row at each place."""
    real: Any
    """bool [n, t]: places that are no fillers."""
    keys: Any
    """int [n, s]: the packed key row at each place."""
    real_keys: Any
    """bool [n, s]"""
    lengths: Any
    """int [n]: keys of each segment."""


def check_offsets(q_offsets: Any, k_offsets: Any, rows: int, keys: int) -> None:
    """Raises ShapeError for offsets that don't bound segments of so many rows and keys."""
    for name, offsets, n in (("q_offsets", q_offsets, rows), ("k_offsets", k_offsets, keys)):
        if offsets[0] != 0 or offsets[-1] > n or (np.diff(offsets) < 0).any():
            raise ShapeError(
                f"attention: {name} should start at 0, rise and end at {n} or before, got {offsets.tolist()}"
            )


def groups(q_offsets: Any, k_offsets: Any, rows: int, keys: int, heads: int, causal: bool) -> Sequence[Group]:
    """The groups of the segments that have queries and keys. Raises as check_offsets."""
    check_offsets(q_offsets, k_offsets, rows, keys)
    return _grouped(*(n.astype(np.int64).tobytes() for n in (q_offsets, k_offsets)), heads, causal)


@lru_cache(maxsize=32)  # all layers of a model ask for the same few, forward and backward
def _grouped(q_bytes: bytes, k_bytes: bytes, heads: int, causal: bool) -> Sequence[Group]:
    bounds = [np.frombuffer(data, np.int64) for data in (q_bytes, k_bytes)]
    sizes = np.stack([np.diff(b) for b in bounds])
    used = np.flatnonzero(sizes.min(axis=0) > 0)
    shift = (sizes[1] - sizes[0])[used] if causal else np.zeros(len(used), np.int64)
    order = used[np.lexsort((sizes.sum(axis=0)[used], shift))]
    shift = np.sort(shift)
    found: list[Group] = []
    for first, last in _runs(shift):
        run = order[first:last]
        for a, b in _cuts(sizes[:, run], heads):
            members = run[a:b]
            places = [_places(bounds[i][members], sizes[i, members]) for i in (0, 1)]
            found.append(Group(*places[0], *places[1], sizes[1, members]))
    return found


def _runs(values: Any) -> Sequence[tuple[int, int]]:
    """First and end of each run of equal values."""
    edges = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    return [(a, b) for a, b in pairwise(edges) if b > a]


def _cuts(sizes: Any, heads: int) -> Sequence[tuple[int, int]]:
    """How to cut segments with `sizes` [2, n], ordered by size, so that scores and overhead cost least."""
    n = sizes.shape[1]
    edges = np.unique(np.linspace(0, n, min(n, _CUTS) + 1).astype(np.int64)).tolist()
    best, origin = [0.0], [0]
    for j in range(1, len(edges)):
        options = []
        for i in range(j):
            t, s = sizes[:, edges[i] : edges[j]].max(axis=1).tolist()
            options.append(best[i] + (edges[j] - edges[i]) * t * s * heads + _OVERHEAD)
        best.append(min(options))
        origin.append(options.index(best[j]))
    found, j = [], len(edges) - 1
    while j:
        found.append((edges[origin[j]], edges[j]))
        j = origin[j]
    return found


def _places(starts: Any, sizes: Any) -> tuple[Any, Any]:
    """(int [n, longest] row numbers, bool [n, longest] which are real) of segments."""
    at = np.arange(sizes.max())
    return starts[:, None] + np.minimum(at, sizes[:, None] - 1), at < sizes[:, None]
