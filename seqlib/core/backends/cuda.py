"""The CUDA backend: CuPy arrays on one non-blocking stream, kernels compiled by NVRTC, and launch lists captured as
CUDA graphs.

CuPy is imported at first use. Kernels are `.cu` files in core/ops; CuPy keeps what it compiled on disk.
"""

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from seqlib.core.backends.base import Backend, Bound, run_all
from seqlib.core.backends.stream_cuda import Downloads, Replay, Uploads, small_copies, write_all
from seqlib.core.op import Meta
from seqlib.util.errors import OutOfMemoryError, SeqlibError

OPS = Path(__file__).parent.parent / "ops"
INCLUDE = OPS / "include"
TYPES = {
    "float32": "float",
    "float64": "double",
    "float16": "f16",
    "bfloat16": "bf16",
    "int32": "int",
    "int64": "i64",
    "bool": "bool",
}
"""What the kernels call our dtypes."""


class CudaMissing(SeqlibError):
    """There is no usable GPU or no CuPy."""


class CudaBackend(Backend):
    """CuPy on the current device, with a stream of its own."""

    device = "cuda"

    @cached_property
    def xp(self) -> Any:  # type: ignore[override]
        """CuPy. Raises CudaMissing with what to do; lowering alone does not need it."""
        for package in ("cupy", "nvmath"):
            if importlib.util.find_spec(package) is None:
                raise CudaMissing(f"device cuda: {package} is not installed; in the checkout: pip install '.[gpu]'")
        import cupy  # pyright: ignore[reportMissingImports]

        try:
            count = cupy.cuda.runtime.getDeviceCount()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise CudaMissing(
                f"device cuda: no GPU is usable ({error}); nvidia-smi tells whether the driver runs"
            ) from None
        if not count:
            raise CudaMissing("device cuda: no GPU was found; nvidia-smi tells whether the driver runs")
        return cupy

    def usable(self) -> bool:
        """Whether there is a GPU with what it needs; costs little where CuPy is not installed."""
        try:
            return self.xp is not None
        except CudaMissing:
            return False

    @cached_property
    def stream(self) -> Any:
        """The one stream of all that we launch."""
        return self.xp.cuda.Stream(non_blocking=True)

    @cached_property
    def uploads(self) -> Uploads:
        """What arrays go to the GPU through."""
        return Uploads(self)

    @cached_property
    def downloads(self) -> Downloads:
        """What arrays come back through."""
        return Downloads(self)

    @cached_property
    def flag(self) -> Any:
        """int32 [1] that kernels set when an index was out of range; read with every array that comes to the host."""
        with self.stream:
            return self.xp.zeros(1, np.int32)

    @cached_property
    def capability(self) -> int:
        """The compute capability as a number: 90 for an H100."""
        return int(self.xp.cuda.Device().compute_capability)

    @cached_property
    def processors(self) -> int:
        """The number of multiprocessors."""
        return int(self.xp.cuda.Device().attributes["MultiProcessorCount"])

    @cached_property
    def shared(self) -> int:
        """Bytes of shared memory that a block may have."""
        return int(self.xp.cuda.Device().attributes["MaxSharedMemoryPerBlockOptin"])

    def running(self) -> AbstractContextManager[Any]:
        return self.stream

    def copy(self, outs: Sequence[Any], ins: Sequence[Any], scratch: Sequence[Any]) -> None:
        outs[0][...] = ins[0]

    def memory(self, nbytes: int) -> Any:
        with self.stream:
            return self.xp.empty(nbytes, np.uint8)

    def view(self, memory: Any, offset: int, meta: Meta, strides: Sequence[int]) -> Any:
        return self.xp.ndarray(meta.shape, meta.dtype, memory.data + offset, strides)

    def synchronize(self) -> None:
        self.stream.synchronize()

    def timed(self, launches: Sequence[Bound]) -> list[float]:
        """By events. A kernel that spins comes first, so that the host is ahead and the GPU never waits for it."""
        seconds: list[float] = []
        spin, event = generated(_SPIN, "spin"), self.xp.cuda.Event
        with self.stream:
            for start in range(0, len(launches), _AHEAD):
                some = launches[start : start + _AHEAD]
                events = [event() for _ in range(len(some) + 1)]
                spin((1,), (1,), (np.int64(_SPIN_NS),))
                events[0].record(self.stream)
                for launch, after in zip(some, events[1:], strict=True):
                    run_all((launch,))
                    after.record(self.stream)
                self.stream.synchronize()
                seconds += [self.xp.cuda.get_elapsed_time(a, b) / 1e3 for a, b in pairwise(events)]
        return seconds

    def free_bytes(self) -> int | None:
        """Of the device, with what CuPy's pool holds unused."""
        return self.xp.cuda.runtime.memGetInfo()[0] + self.xp.get_default_memory_pool().free_bytes()

    def adopt(self, array: Any) -> Any:
        return array if isinstance(array, self.xp.ndarray) else self._upload(array)

    def _upload(self, array: Any) -> Any:
        with self.stream:
            try:
                return self.xp.asarray(array)
            except MemoryError as error:
                text = f"{array.nbytes:,} bytes are needed on the GPU, {self.free_bytes():,} are free"
                raise OutOfMemoryError(f"out of memory: {text}") from error

    def to_host(self, array: Any) -> Any:
        return self.downloads.fetch(array)

    def write(self, to: Any, value: Any) -> None:
        write_all(self, [(to, value)])

    def write_all(self, pairs: Sequence[tuple[Any, Any]]) -> None:
        write_all(self, pairs)

    def copies(self, arrays: Sequence[Any]) -> list[Any]:
        return small_copies(self, arrays)

    # -- launch lists

    def record(self, launches: Sequence[Bound]) -> Callable[[], None]:
        """A function that runs bound launches.

        The first call runs them one by one, which compiles kernels and chooses algorithms; the second captures every
        run of kernels between references (which allocate, so they break the graph) as a CUDA graph.
        """
        return Replay(self, launches)


_AHEAD = 200  # launches that are timed together
_SPIN_NS = 10_000_000
_SPIN = """extern "C" __global__ void spin(long long ns) {
  long long start, now;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(start));
  do asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
  while (now - start < ns);
}"""


_backend = CudaBackend()


def cuda() -> CudaBackend:
    """The backend. CuPy is loaded when a part of it that needs a GPU is used."""
    return _backend


def is_cuda(array: Any) -> bool:
    """True for an array of this backend; never imports CuPy."""
    return "cupy" in sys.modules and isinstance(array, sys.modules["cupy"].ndarray)


# -- kernels ---------------------------------------------------------------------------------------------------


class Source:
    """A `.cu` file and the instances of its kernels that may be asked for.

    `names` are C++ names, template arguments included, with the bytes of dynamic shared memory that each is launched
    with at most (a sequence: none). `oldest` is the first compute capability that they run on, `target` the only one
    ("sm_90a") if they need what no other has. `all` lists every source of the process, for the tests without a GPU.
    """

    all: "list[Source]" = []

    def __init__(
        self, file: str, names: Sequence[str] | Mapping[str, int], oldest: int = 75, target: str | None = None
    ) -> None:
        self.file, self.oldest, self.target = file, oldest, target
        self.names = dict(names) if isinstance(names, Mapping) else dict.fromkeys(names, 0)
        Source.all.append(self)

    def kernel(self, name: str, shared: int = 0) -> Any:
        """The compiled kernel; `shared` is its dynamic shared memory where that depends on more than the instance."""
        return _kernel(self, name, max(shared, self.names[name]))

    @cached_property
    def text(self) -> str:
        return (OPS / self.file).read_text(encoding="utf-8")


OPTIONS = ("--std=c++17", f"-I{INCLUDE}")


@cache
def _kernel(source: Source, name: str, shared: int) -> Any:
    options = (*OPTIONS, f"--gpu-architecture={source.target}") if source.target else OPTIONS  # wins over CuPy's own
    kernel = cuda().xp.RawModule(code=source.text, options=options, name_expressions=[name]).get_function(name)
    if shared:  # all there is: CuPy has one function for every `shared`, whose limit a smaller one would lower
        kernel.max_dynamic_shared_size_bytes = cuda().shared - kernel.shared_size_bytes
    return kernel


@cache
def generated(text: str, name: str, options: tuple[str, ...] = ()) -> Any:
    """The kernel `name` (extern "C") of a generated source."""
    return cuda().xp.RawModule(code=text, options=(*OPTIONS, *options)).get_function(name)


def grid(size: int, block: int) -> tuple[int]:
    """Blocks of `block` threads that cover `size`, at least one."""
    return (max(1, -(-size // block)),)


def name_of(array: Any) -> str:
    """What kernels call the dtype of an array."""
    return TYPES[np.dtype(array.dtype).name]


def aligned(*arrays: Any, nbytes: int = 16) -> bool:
    """True when every array starts at a multiple of `nbytes`."""
    return all(a is None or a.data.ptr % nbytes == 0 for a in arrays)


def pointer(array: Any) -> Any:
    """What a kernel takes for an output that nobody needs: a null pointer."""
    return np.intp(0) if array is None else array
