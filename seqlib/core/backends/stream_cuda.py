"""What goes to a GPU's stream: uploads through pinned memory, and launch lists captured as CUDA graphs."""

import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, groupby, islice
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from seqlib.core.backends.base import Bound, run_all


class Uploads:
    """Arrays on their way to the GPU: a ring of places in pinned memory, each with one on the GPU, so that the host
    waits only when it is that many uploads ahead. They cross on a stream of their own, while the GPU computes what was
    launched before; then all arrays are copied to where they belong.
    """

    COUNT = 16
    MOST = 4 << 20
    """Bytes of an upload that goes this way. Larger ones (weights) are rare."""

    def __init__(self, backend: Any) -> None:
        self.cuda, self.stream, self.memory = backend.xp.cuda, backend.stream, backend.memory
        self.crossing = self.cuda.Stream(non_blocking=True)
        self.places = [_Place(*(self.cuda.Event(disable_timing=True) for _ in range(2))) for _ in range(self.COUNT)]
        self.next = 0

    def upload(self, pairs: Sequence[tuple[Any, Any]]) -> None:
        """Copy NumPy arrays into contiguous arrays on the GPU, [(to, array), …] of the same shapes and dtypes; they may
        be changed right after."""
        offsets = [0, *accumulate(-(-array.nbytes // 64) * 64 for _, array in pairs)]
        if offsets[-1] > self.MOST:
            for to, array in pairs:
                to.set(np.asarray(array, order="C"), stream=self.stream)  # of no dimensions: stays so
            return
        place, self.next = self.places[self.next], (self.next + 1) % self.COUNT
        place.used.synchronize()
        if place.size < offsets[-1]:
            place.size = 1 << offsets[-1].bit_length()
            place.pinned = np.frombuffer(self.cuda.alloc_pinned_memory(place.size), np.uint8)
            place.staged = self.memory(place.size)
            self.stream.synchronize()  # what had this memory before may still run
        for (_, array), at in zip(pairs, offsets, strict=False):
            np.copyto(place.pinned[at : at + array.nbytes].view(array.dtype).reshape(array.shape), array)
        copy, there = self.cuda.runtime.memcpyAsync, place.staged.data.ptr
        copy(there, place.pinned.ctypes.data, offsets[-1], 1, self.crossing.ptr)  # 1: to the GPU, 3: on it
        place.arrived.record(self.crossing)
        self.stream.wait_event(place.arrived)
        for (to, array), at in zip(pairs, offsets, strict=False):
            copy(to.data.ptr, there + at, array.nbytes, 3, self.stream.ptr)
        place.used.record(self.stream)


@dataclass
class _Place:
    arrived: Any  # an event: what is on its way is on the GPU
    used: Any  # and is where it belongs
    size: int = 0
    pinned: Any = None
    staged: Any = None


class Downloads:
    """Arrays on their way to the host, with the flag by which kernels say that they met an index out of range."""

    def __init__(self, backend: Any) -> None:
        self.backend, self.copy = backend, backend.xp.cuda.runtime.memcpyAsync
        self.seen = np.frombuffer(backend.xp.cuda.alloc_pinned_memory(4), np.int32, 1)
        self.seen[0] = 0

    def fetch(self, array: Any) -> Any:
        """A copy of an array. Raises IndexError if a kernel met an index out of range since the last one."""
        stream, flag = self.backend.stream, self.backend.flag
        self.copy(self.seen.ctypes.data, flag.data.ptr, 4, 2, stream.ptr)  # 2: from the GPU; there before the array is
        with stream:
            copied = array.get(stream=stream, order="C")
            if self.seen[0]:
                flag.fill(0)
                raise IndexError("an op on the GPU met an index out of range (run the step on the CPU to see which)")
        return copied


def write_all(backend: Any, pairs: Sequence[tuple[Any, Any]]) -> None:
    """Copy values, NumPy arrays or arrays on the GPU, into arrays on the GPU, [(to, value), …]."""
    given = [(to, value) for to, value in pairs if value.size]
    uploads = [(to, value) for to, value in given if isinstance(value, np.ndarray)]
    if uploads:
        backend.uploads.upload(uploads)
    for to, value in given:
        if isinstance(value, np.ndarray):
            continue
        if to.dtype == value.dtype and to.flags.c_contiguous and value.flags.c_contiguous:
            backend.xp.cuda.runtime.memcpyAsync(to.data.ptr, value.data.ptr, to.nbytes, 3, backend.stream.ptr)
        else:
            with backend.stream:
                to[...] = value


def small_copies(backend: Any, arrays: Sequence[Any]) -> list[Any]:
    """Copies of arrays on the GPU; those of at most 256 bytes share an allocation."""
    few = [a.nbytes <= 256 and a.flags.c_contiguous for a in arrays]
    xp, at = backend.xp, 0
    room, copy = xp.cuda.alloc(max(1, 256 * sum(few))), xp.cuda.runtime.memcpyAsync
    found: list[Any] = []
    for a, is_small in zip(arrays, few, strict=True):
        if is_small:
            found.append(xp.ndarray(a.shape, a.dtype, room + at))
            copy(found[-1].data.ptr, a.data.ptr, a.nbytes, 3, backend.stream.ptr)
            at += 256
        else:
            found.append(a.copy(order="C"))
    return found


class Replay:
    """A launch list that is run (`Backend.record`)."""

    def __init__(self, backend: Any, launches: Sequence[Bound]) -> None:
        self.backend = backend
        self.launches = list(launches)
        self.calls = 0
        self.segments: list[Callable[[], None]] = []

    def __call__(self) -> None:
        self.calls += 1
        with self.backend.stream:
            if self.calls == 1:
                run_all(self.launches)
                return
            if self.calls == 2:
                self._capture()
            for segment in self.segments:
                segment()

    def _capture(self) -> None:
        for allocates, launches in groupby(self.launches, key=lambda launch: launch[5]):
            some = list(launches)
            self.segments.append(partial(run_all, some) if allocates else self._graph(some))

    def _graph(self, launches: Sequence[Bound]) -> Callable[[], None]:
        stream, collecting = self.backend.stream, gc.isenabled()
        gc.disable()  # what is freed meanwhile may call what a capture does not bear
        stream.begin_capture()
        try:
            for fn, same in groupby(launches, key=lambda launch: launch[0]):
                for some in _independent(list(same)) if fn in _MERGED else (list(same),):
                    _MERGED.get(fn, run_all)(some)
        finally:
            if collecting:
                gc.enable()
            graph = stream.end_capture()
        return lambda: graph.launch(stream)


_MERGED: WeakKeyDictionary[Any, Callable[[Sequence[Bound]], None]] = WeakKeyDictionary()


def merge(fn: Any, several: Callable[[Sequence[Bound]], None]) -> None:
    """Say that `several` does in fewer launches what launches of the kernel `fn` that follow one another do, where none
    needs what another writes."""
    _MERGED[fn] = several


def _independent(launches: Sequence[Bound]) -> Iterator[list[Bound]]:
    """The launches in runs in which none needs what another writes."""
    some: list[Bound] = []
    read, written = np.empty((0, 2), np.int64), np.empty((0, 2), np.int64)
    for launch in launches:
        ins, outs = _extents(launch[2]), _extents(launch[1])
        if some and (_overlap(ins, written) or _overlap(outs, written) or _overlap(outs, read)):
            yield some
            some, read, written = [], read[:0], written[:0]
        some.append(launch)
        read, written = np.concatenate([read, ins]), np.concatenate([written, outs])
    yield some


def _extents(arrays: Sequence[Any]) -> Any:
    """Where arrays begin and end, [arrays, 2]."""
    found: list[tuple[int, int]] = []
    for a in arrays:
        if a is not None and a.size:
            steps = [(d - 1) * s for d, s in zip(a.shape, a.strides, strict=True)]
            low, high = sum(s for s in steps if s < 0), sum(s for s in steps if s > 0)
            found.append((a.data.ptr + low, a.data.ptr + high + a.itemsize))
    return np.array(found, np.int64).reshape(-1, 2)


def _overlap(a: Any, b: Any) -> bool:
    return bool(((a[:, None, 0] < b[None, :, 1]) & (b[None, :, 0] < a[:, None, 1])).any())


# -- kernels over several arrays: a block owns a chunk of one of them


def pieces(items: Sequence[Any], size: int) -> Iterator[list[Any]]:
    """Lists of at most `size` items."""
    left = iter(items)
    while piece := list(islice(left, size)):
        yield piece


def place(struct: Any, sizes: Sequence[int], chunk: int) -> int:
    """Fill in sizes and where each array's blocks begin; the number of blocks."""
    blocks = np.cumsum([0, *(-(-size // chunk) for size in sizes)])
    struct["size"][: len(sizes)] = sizes
    struct["first"] = blocks[-1]
    struct["first"][: len(sizes)] = blocks[:-1]
    return int(blocks[-1])
