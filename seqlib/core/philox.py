"""Philox4x32-10, the counter-based generator behind every random number of seqlib.
 J. K. Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3" (SC 2011). The key is the seed (low, high
word); the counter is (block low, block high, offset low, offset high). One call gives four 32-bit words, read
as 8 lanes of 16 bits, low half first. Element i of a drawn array (row-major in its logical shape) uses block
i // 8, lane i % 8 for 16-bit draws and block i // 4, word i % 4 for 32-bit draws, so a mask can be made again
from (seed, offset) alone, in pieces, on any device.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

_M0 = np.uint64(0xD2511F53)
_M1 = np.uint64(0xCD9E8D57)
_W0 = 0x9E3779B9
_W1 = 0xBB67AE85
_MASK = 0xFFFFFFFF
LANES = 8
WORDS = 4


def blocks(seed: int, offset: int, first: int, count: int) -> npt.NDArray[np.uint32]:
    """The words of blocks `first` … `first + count - 1` as uint32 [count, 4]."""
    return blocks_at(seed, offset, np.arange(first, first + count, dtype=np.uint64))


def blocks_at(seed: int, offset: int, index: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint32]:
    """The words of the blocks of any numbers `index` [count] as uint32 [count, 4]."""
    count = len(index)
    halves = index.view(np.uint32).reshape(count, 2)
    x0, x1 = halves[:, 0], halves[:, 1]
    x2: Any = np.full(count, offset & _MASK, np.uint32)
    x3: Any = np.full(count, (offset >> 32) & _MASK, np.uint32)
    k0, k1 = seed & _MASK, (seed >> 32) & _MASK
    for _ in range(10):
        # One 64-bit product a word; its halves are read through a view, so no shifts or masks are needed.
        p0 = np.multiply(x0, _M0, dtype=np.uint64).view(np.uint32).reshape(count, 2)
        p1 = np.multiply(x2, _M1, dtype=np.uint64).view(np.uint32).reshape(count, 2)
        x0 = p1[:, 1] ^ x1 ^ np.uint32(k0)
        x2 = p0[:, 1] ^ x3 ^ np.uint32(k1)
        x1, x3 = p1[:, 0], p0[:, 0]
        k0, k1 = (k0 + _W0) & _MASK, (k1 + _W1) & _MASK
    return np.stack([x0, x1, x2, x3], axis=1)


def bits16(seed: int, offset: int, start: int, stop: int) -> npt.NDArray[np.uint16]:
    """The 16-bit draws of elements `start` … `stop - 1`."""
    first = start // LANES
    lanes = blocks(seed, offset, first, -(-stop // LANES) - first).astype("<u4", copy=False).view(np.uint16).reshape(-1)
    return lanes[start - first * LANES : stop - first * LANES]


def bits32(seed: int, offset: int, start: int, stop: int) -> npt.NDArray[np.uint32]:
    """The 32-bit draws of elements `start` … `stop - 1`."""
    first = start // WORDS
    words = blocks(seed, offset, first, -(-stop // WORDS) - first).reshape(-1)
    return words[start - first * WORDS : stop - first * WORDS]


def uniform(seed: int, offset: int, size: int) -> npt.NDArray[np.float32]:
    """`size` float32 in [0, 1): the upper 24 bits of a word, scaled by 2**-24."""
    return (bits32(seed, offset, 0, size) >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)


def keep_threshold(p: float) -> int:
    """An element is kept iff its 16-bit draw is at least this; the rounded p is threshold / 65536."""
    return round(p * 65536)


def keep_scale(p: float) -> float:
    """1 / (1 - rounded p), by which kept elements are scaled."""
    return 65536.0 / (65536 - keep_threshold(p))
