"""The check of indices, shared by all ops that read or write at positions given by a tensor."""

from typing import Any

from seqlib.core import debug
from seqlib.util.errors import SeqlibError


class IndexRangeError(SeqlibError, IndexError):
    """An index beyond the axis that it points into: the message names the op, the argument, the index and
    the bound.
    """


def check_bounds(op: str, argument: str, index: Any, size: int, *, negative: bool = True) -> None:
    """Raise IndexRangeError unless every element of the array `index` lies in [-size, size), or in [0,
    size) if not `negative`.
    """
    if not index.size:
        return
    low = -size if negative else 0
    least, most = int(index.min()), int(index.max())
    if least < low or most >= size:
        wrong = most if most >= size else least
        raise IndexRangeError(f"{op}: {argument} should be in [{low}, {size}), got {wrong} (at {debug.where()})")
