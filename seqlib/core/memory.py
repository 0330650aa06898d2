"""The memory plan: where every value of a program lies.
 Values live in buffers. A buffer is a stretch of the device's arena, a location's storage, an argument's copy
or a constant. A view shares its input's buffer; an output may take over the buffer of an input that dies with
it; the final value of a location is written straight into its storage where no later reader wants the old
content. Arena buffers get offsets by their lifetimes.
"""

import bisect
from typing import Any

from seqlib.core.op import Layout, Meta, contiguous_layout

ALIGNMENT = 64
FOREVER = 1 << 60


class Buffer:
    """A stretch of memory. `kind` is arena, location or constant; `first` and `last` are launch numbers
    between which it lives.
    """

    __slots__ = ("first", "kind", "last", "nbytes", "offset", "source")

    def __init__(self, kind: str, nbytes: int, first: int, source: Any = None) -> None:
        self.kind = kind
        self.nbytes = nbytes
        self.first = first
        self.last = first
        self.source = source  # the Variable of a location, the array of a constant
        self.offset = 0


class Storage:
    """A value's place: its buffer and its layout in it."""

    __slots__ = ("buffer", "layout", "meta")

    def __init__(self, buffer: Buffer, meta: Meta, layout: Layout | None = None) -> None:
        self.buffer = buffer
        self.meta = meta
        self.layout = layout if layout is not None else contiguous_layout(meta.shape)

    @property
    def whole(self) -> bool:
        """True when the value fills its buffer from the start, in row-major order."""
        return self.layout.offset == 0 and self.layout.contiguous and self.meta.nbytes == self.buffer.nbytes


def assign_offsets(buffers: list[Buffer]) -> int:
    """Give every arena buffer an offset such that no two that live at the same time overlap; returns the
    bytes needed.

    Buffers are taken in the order in which they come to life; each gets the smallest free gap that holds it,
    else the top.
    """
    free: list[tuple[int, int]] = []  # (offset, size), sorted, never adjacent
    live: list[tuple[int, int, int]] = []  # (last, offset, size), sorted
    top = 0
    for buffer in sorted((b for b in buffers if b.kind == "arena"), key=lambda b: b.first):
        while live and live[0][0] < buffer.first:
            _, offset, size = live.pop(0)
            _release(free, offset, size)
        size = max(ALIGNMENT, -(-buffer.nbytes // ALIGNMENT) * ALIGNMENT)
        fitting = [(s, o) for o, s in free if s >= size]
        if fitting:
            gap, offset = min(fitting)
            at = bisect.bisect_left(free, (offset, 0))
            free[at : at + 1] = [(offset + size, gap - size)] if gap > size else []
        elif free and free[-1][0] + free[-1][1] == top:
            offset = free.pop()[0]
            top = offset + size
        else:
            offset = top
            top += size
        buffer.offset = offset
        bisect.insort(live, (buffer.last, offset, size))
    return top


def _release(free: list[tuple[int, int]], offset: int, size: int) -> None:
    at = bisect.bisect_left(free, (offset, 0))
    if at < len(free) and offset + size == free[at][0]:
        size += free.pop(at)[1]
    if at > 0 and free[at - 1][0] + free[at - 1][1] == offset:
        at -= 1
        offset, before = free.pop(at)
        size += before
    free.insert(at, (offset, size))
