"""The arena's offsets: no two buffers that live at once overlap, and little is wasted."""

from hypothesis import given
from hypothesis import strategies as st

from seqlib.core.memory import ALIGNMENT, Buffer, assign_offsets


def _buffers(spans: list[tuple[int, int, int]]) -> list[Buffer]:
    made: list[Buffer] = []
    for first, length, nbytes in spans:
        buffer = Buffer("arena", nbytes, first)
        buffer.last = first + length
        made.append(buffer)
    return made


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 20), st.integers(0, 5000)), max_size=60))
def test_live_buffers_never_overlap(spans: list[tuple[int, int, int]]) -> None:
    buffers = _buffers(spans)
    total = assign_offsets(buffers)
    for i, a in enumerate(buffers):
        assert a.offset % ALIGNMENT == 0 and a.offset + a.nbytes <= total
        for b in buffers[:i]:
            if a.first <= b.last and b.first <= a.last and a.nbytes and b.nbytes:
                assert a.offset + a.nbytes <= b.offset or b.offset + b.nbytes <= a.offset


def test_a_chain_needs_two_buffers() -> None:
    buffers = _buffers([(i, 1, 1024) for i in range(100)])
    assert assign_offsets(buffers) == 2 * 1024


def test_neighbouring_gaps_merge() -> None:
    buffers = _buffers([(0, 1, 512), (0, 1, 512), (0, 9, 64), (2, 1, 1024)])
    assert assign_offsets(buffers) == 1024 + 64
