"""What goes to a GPU's stream: uploads through pinned memory, and launch lists captured as CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, islice
from typing import Any

import numpy as np

from seqlib.core.backends.base import Bound, run_all


class Pinned:
    """Pinned memory on the way to the GPU: a ring of pieces, so that the host waits only when it is that many uploads
    ahead. An upload from other memory would wait for all that was launched before it."""

    COUNT = 64

    def __init__(self, backend: Any) -> None:
        self.cuda, self.stream = backend.xp.cuda, backend.stream
        self.pieces = [_Piece(np.empty(0, np.uint8), self.cuda.Event(disable_timing=True)) for _ in range(self.COUNT)]
        self.next = 0

    def upload(self, to: Any, array: Any) -> None:
        """Copy a NumPy array into a contiguous array on the GPU, of the same shape and dtype; it may be changed right
        after."""
        piece, self.next = self.pieces[self.next], (self.next + 1) % self.COUNT
        piece.event.synchronize()
        if piece.memory.nbytes < array.nbytes:
            piece.memory = np.frombuffer(self.cuda.alloc_pinned_memory(array.nbytes), np.uint8)
        held = piece.memory[: array.nbytes]
        np.copyto(held.view(array.dtype).reshape(array.shape), array)
        self.cuda.runtime.memcpyAsync(to.data.ptr, held.ctypes.data, array.nbytes, 1, self.stream.ptr)  # 1: to the GPU
        piece.event.record(self.stream)


@dataclass
class _Piece:
    memory: Any
    event: Any  # after its last use


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
        stream = self.backend.stream
        stream.begin_capture()
        try:
            for fn, same in groupby(launches, key=lambda launch: launch[0]):
                for some in _independent(list(same)) if fn in _MERGED else (list(same),):
                    _MERGED.get(fn, run_all)(some)
        finally:
            graph = stream.end_capture()
        return lambda: graph.launch(stream)


_MERGED: dict[Any, Callable[[Sequence[Bound]], None]] = {}


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
