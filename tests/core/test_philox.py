"""Philox4x32-10 against the known answers of its authors (Random123, kat_vectors), and the lanes as
documented.
"""

import numpy as np
import pytest

from seqlib.core import philox

# (counter words 0 … 3, key words, result)
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def _word64(low: str, high: str) -> int:
    return int(high, 16) << 32 | int(low, 16)


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN)
def test_known_answers(counter: str, key: str, result: str) -> None:
    c = counter.split()
    block, offset, seed = _word64(*c[:2]), _word64(*c[2:]), _word64(*key.split())
    words = philox.blocks(seed, offset, block, 1)
    assert [f"{w:08x}" for w in words[0]] == result.split()


def test_pieces_are_parts_of_the_whole() -> None:
    whole16, whole32 = philox.bits16(7, 3, 0, 1023), philox.bits32(7, 3, 0, 1023)
    for start, stop in ((0, 1), (5, 8), (8, 16), (7, 1023), (500, 500)):
        assert np.array_equal(philox.bits16(7, 3, start, stop), whole16[start:stop])
        assert np.array_equal(philox.bits32(7, 3, start, stop), whole32[start:stop])


def test_lanes_are_halves_of_words_low_first() -> None:
    words = philox.blocks(11, 5, 0, 2).reshape(-1)
    lanes = philox.bits16(11, 5, 0, 16)
    assert [int(x) for x in lanes] == [int(w >> s & 0xFFFF) for w in words for s in (0, 16)]
    assert np.array_equal(philox.bits32(11, 5, 0, 8), words)


def test_blocks_beyond_32_bits() -> None:
    first = 2**32 - 2
    words = philox.blocks(1, 2, first, 4)
    for i in range(4):
        assert np.array_equal(philox.blocks(1, 2, first + i, 1)[0], words[i])
    assert len({tuple(w) for w in words.tolist()}) == 4


def test_uniform_is_in_range_and_even() -> None:
    draws = philox.uniform(3, 0, 100_000)
    assert draws.dtype == np.float32
    assert draws.min() >= 0
    assert draws.max() < 1
    assert draws.mean() == pytest.approx(0.5, abs=0.005)
    assert draws.var() == pytest.approx(1 / 12, abs=0.002)


def test_keep_threshold_and_scale_agree() -> None:
    for p in (0.0, 0.1, 0.3, 0.5, 0.999):
        kept = 1 - philox.keep_threshold(p) / 65536
        assert philox.keep_scale(p) == pytest.approx(1 / kept, rel=1e-12)
        share = (philox.bits16(1, 9, 0, 200_000) >= philox.keep_threshold(p)).mean()
        assert share == pytest.approx(kept, abs=0.005)
