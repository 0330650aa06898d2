"""What goes to a GPU's stream, with memory of the host in the GPU's place."""

import ctypes
from types import SimpleNamespace
from typing import Any

import numpy as np

from seqlib.core import dtypes
from seqlib.core.backends.stream_cuda import Uploads, _independent, pieces, place, small_copies
from seqlib.core.ops import expression_cuda
from seqlib.core.ops.expression import compile_expression


class _Array(np.ndarray):
    """As CuPy's: `data.ptr` is the address."""

    @property
    def data(self) -> Any:  # type: ignore[override]
        return SimpleNamespace(ptr=self.ctypes.data)


def _array(values: Any, dtype: Any = np.float32) -> Any:
    return np.array(values, dtype).view(_Array)


class _Event:
    def __init__(self, waited: list[str]) -> None:
        self.waited = waited

    def record(self, stream: Any) -> None:
        pass

    def synchronize(self) -> None:
        self.waited.append("host")


def _backend(waited: list[str]) -> Any:
    def copy(to: int, source: int, nbytes: int, kind: int, stream: Any) -> None:
        ctypes.memmove(to, source, nbytes)

    def stream(**_: Any) -> Any:
        return SimpleNamespace(ptr=0, wait_event=lambda event: waited.append("stream"), synchronize=lambda: None)

    cuda = SimpleNamespace(
        Event=lambda **_: _Event(waited),
        Stream=stream,
        alloc_pinned_memory=bytearray,
        runtime=SimpleNamespace(memcpyAsync=copy),
    )
    memory: Any = lambda nbytes: _array(np.zeros(nbytes), np.uint8)  # noqa: E731
    return SimpleNamespace(xp=SimpleNamespace(cuda=cuda), stream=stream(), memory=memory)


def test_arrays_of_a_batch_cross_together_and_may_be_changed_at_once() -> None:
    waited: list[str] = []
    uploads = Uploads(_backend(waited))
    for turn in range(2 * Uploads.COUNT):
        given = [np.arange(turn, turn + 5, dtype=np.int32), np.array(0.5, np.float32), np.ones((3, 70), bool)]
        given.append(np.full((2, 3), 1.5).astype(dtypes.canonical("bfloat16")))
        there = [_array(np.zeros(a.shape), a.dtype) for a in given]
        expected = [a.copy() for a in given]
        uploads.upload(list(zip(there, given, strict=True)))
        for a in given:
            a[...] = 0
        assert all(np.array_equal(a, b) for a, b in zip(there, expected, strict=True))
    assert waited.count("stream") == waited.count("host") == 2 * Uploads.COUNT


def test_what_is_too_large_for_the_ring_is_written_array_by_array_scalars_as_well(monkeypatch: Any) -> None:
    def put(self: Any, array: Any, stream: Any) -> None:
        assert array.flags.c_contiguous and array.shape == self.shape  # as CuPy wants it
        np.copyto(self, array)

    monkeypatch.setattr(_Array, "set", put, raising=False)
    given = [np.array(0.5, np.float32), np.ones((Uploads.MOST, 2), np.uint8)[:, 0]]
    there = [_array(np.zeros(a.shape), a.dtype) for a in given]
    Uploads(_backend([])).upload(list(zip(there, given, strict=True)))
    assert all(np.array_equal(a, b) for a, b in zip(there, given, strict=True))


def test_small_results_share_an_allocation() -> None:
    made: list[Any] = []

    def alloc(size: int) -> Any:
        made.append(np.zeros(size, np.uint8))
        return made[-1].ctypes.data

    def array(shape: Any, dtype: Any, at: int) -> Any:
        count = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        return np.frombuffer((ctypes.c_char * count).from_address(at), dtype).reshape(shape).view(_Array)

    backend = _backend([])
    backend.xp.cuda.alloc, backend.xp.ndarray = alloc, array
    arrays = [_array(1.5), _array(np.arange(1000)), _array([2, 3], np.int32)]
    copies = small_copies(backend, arrays)
    assert [room.size for room in made] == [512]
    assert all(np.array_equal(a, b) and a.data.ptr != b.data.ptr for a, b in zip(arrays, copies, strict=True))


def test_launches_are_merged_as_far_as_none_needs_what_another_writes() -> None:
    x = _array(np.zeros((6, 8)))

    def launch(out: Any, source: Any) -> Any:
        return None, [out], [source], [], {}, False

    apart = [launch(x[i + 3], x[i]) for i in range(3)]
    assert [len(some) for some in _independent(apart)] == [3]
    chain = [launch(x[i + 1], x[i]) for i in range(3)]
    assert [len(some) for some in _independent(chain)] == [1, 1, 1]
    over = [launch(x[1], x[3]), launch(x[2], x[:2].T[::2])]  # a strided input over what was written
    assert [len(some) for some in _independent(over)] == [1, 1]


def test_blocks_of_several_arrays() -> None:
    struct = np.zeros((), [("size", "i8", 4), ("first", "i4", 4)])
    assert place(struct, [10, 1, 8], 8) == 4
    assert struct["first"].tolist() == [0, 2, 3, 4] and struct["size"].tolist() == [10, 1, 8, 0]
    assert [list(p) for p in pieces(range(5), 2)] == [[0, 1], [2, 3], [4]]


def test_elementwise_launches_over_small_whole_arrays_are_one(monkeypatch: Any) -> None:
    made: list[tuple[str, Any, Any]] = []

    def generated(text: str, *_: Any) -> Any:
        return lambda blocks, threads, given: made.append((text, blocks, given))

    monkeypatch.setattr(expression_cuda, "generated", generated)
    loops = expression_cuda.Loops(compile_expression("x + (y - x) * s", ("x", "y", "s")))
    share = _array(0.5)

    def launch(x: Any) -> Any:
        return loops, [_array(np.zeros(x.shape))], [x, _array(np.ones(x.shape)), share], [], {}, False

    small = [launch(_array(np.zeros(shape))) for shape in ((3,), (4096, 2), (1, 5))]
    strided = launch(_array(np.zeros((6, 4)))[:, ::2])
    half = launch(_array(np.zeros(8), np.float16))
    loops.several([small[0], strided, small[1], half, small[2]])
    joined = [struct for text, _, (struct, *rest) in made if not rest]
    assert len(made) == 3 and len(joined) == 1
    struct = joined[0]
    assert struct["size"][:3].tolist() == [3, 8192, 5] and struct["first"][:4].tolist() == [0, 1, 3, 4]
    arrays = [[*outs, *ins] for _, outs, ins, *_ in small]
    assert struct["at"][:, :3].T.tolist() == [[a.data.ptr for a in row] for row in arrays]
