"""The CPU backend: ops over NumPy arrays, by a kernel where one serves and by the array reference otherwise."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from seqlib.core.backends.base import Backend
from seqlib.core.backends.threads import single_blas
from seqlib.core.op import Meta


class CpuBackend(Backend):
    """NumPy, with BLAS held to one thread while our own pool works."""

    device = "cpu"
    xp = np

    @contextmanager
    def running(self) -> Generator[None, None, None]:
        with single_blas(), np.errstate(all="ignore"):
            yield

    def to_host(self, array: Any) -> Any:
        return np.array(array)

    def write(self, to: Any, value: Any) -> None:
        np.copyto(to, value if isinstance(value, np.ndarray) else value.get())

    def copy(self, outs: Sequence[Any], ins: Sequence[Any], scratch: Sequence[Any]) -> None:
        np.copyto(outs[0], ins[0])

    def memory(self, nbytes: int) -> Any:
        raw = np.empty(nbytes + 64, np.uint8)
        return raw[-raw.ctypes.data % 64 :]

    def stored(self, array: Any) -> Any:
        """A contiguous copy of a NumPy array at a multiple of 64 bytes, a cache line: products read matrices there up
        to twice as fast as at a multiple of 16, which is what NumPy gives."""
        stored = self.memory(array.nbytes)[: array.nbytes].view(array.dtype).reshape(array.shape)
        np.copyto(stored, array)
        return stored

    def view(self, memory: Any, offset: int, meta: Meta, strides: Sequence[int]) -> Any:
        return np.ndarray(meta.shape, meta.dtype, memory, offset, strides)


CPU = CpuBackend()
