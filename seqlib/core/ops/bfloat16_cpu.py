"""The numba kernel of bfloat16_rows."""

from typing import Any

import numpy as np

from seqlib.core.backends.threads import spread
from seqlib.core.ops.bounds import check_bounds
from seqlib.core.ops.jit_cpu import exact

_PANEL = 64  # rows that lie together (bfloat16.py)


@exact
def _rows(first, last, ids, words, to):
    """Rows first … last - 1: a word has two numbers of a row, its next word lies _PANEL words further on."""
    pairs, width = words.shape[1], to.shape[1]
    source, bits = words.reshape(-1), to.reshape(-1).view(np.int32)
    for i in range(first, last):
        row = np.int64(ids[i])
        near, far = row // _PANEL * pairs * _PANEL + row % _PANEL, i * width
        for k in range(width // 2):
            word = source[near + k * _PANEL]
            bits[far + 2 * k] = word << 16
            bits[far + 2 * k + 1] = word & np.int32(-65536)
        if width % 2:
            bits[far + width - 1] = source[near + width // 2 * _PANEL] << 16


def rows(outs: Any, ins: Any, scratch: Any, *, rows: int, width: int) -> None:
    """The kernel of bfloat16_rows."""
    ids, words = ins
    check_bounds("bfloat16_rows", "ids", ids, rows, negative=False)
    spread(_rows, ids.size, outs[0].size, ids.reshape(-1), words, outs[0].reshape(-1, width))
