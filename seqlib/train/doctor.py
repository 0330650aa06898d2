"""What this machine offers to seqlib, what is missing and the command that mends it; a short measurement."""

import ctypes
import os
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seqlib.core import dtypes
from seqlib.core.backends.cuda import CudaMissing, cuda
from seqlib.core.backends.threads import blas_controlled, threads
from seqlib.train.environment import environment, version
from seqlib.util.memory import available_bytes, size_text

_CUPY = ("cupy-cuda13x", "cupy-cuda12x", "cupy")
_REPEATS = 5


class Finding(NamedTuple):
    """A fact; `mend` says what to do where it is a fault."""

    name: str
    value: str
    mend: str = ""


def examine() -> list[Finding]:
    """All findings: system, CPU, GPU, and how fast each of them is."""
    return [*_cpu(), *_cpu_speed(), *_gpu()]


def _cpu() -> list[Finding]:
    record = environment()
    found = [Finding(name, record[name]) for name in ("seqlib", "python", "system", "processor", "cpus", "numpy")]
    free = available_bytes()
    found.append(Finding("free memory", "unknown" if free is None else size_text(free)))
    blas: Any = np.show_config(mode="dicts")
    library = blas.get("Build Dependencies", {}).get("blas", {})
    held = "" if blas_controlled() else "; its threads can't be set from here"
    found.append(Finding("BLAS", f"{library.get('name', 'unknown')} {library.get('version', '')}{held}"))
    found.append(Finding("threads of kernels", str(threads())))
    missing = "pip install '.[fast]'   (compiled CPU kernels)" if find_spec("numba") is None else ""
    found.append(Finding("numba", record["numba"], missing))
    from seqlib.core.backends import onednn_cpu as onednn

    found.append(Finding("oneDNN", onednn.about() + (", bfloat16" if onednn.has_bfloat16() else "")))
    import platformdirs

    folder = Path(os.environ.get("SEQLIB_CACHE") or platformdirs.user_cache_dir("seqlib"))
    return [*found, _cache("kernel cache", folder, "kernels/*", "SEQLIB_CACHE")]


def _cache(name: str, folder: Path, kernels: str, variable: str) -> Finding:
    """A folder that should be writable, unless it holds kernels that were compiled for those who only read it."""
    at = next((p for p in (folder, *folder.parents) if p.exists()), folder)
    if os.access(at, os.W_OK):
        return Finding(name, str(folder))
    if any(folder.glob(kernels)):
        return Finding(name, f"{folder}, read only: kernels that it lacks are compiled by each process")
    return Finding(name, str(folder), f"export {variable}=DIR   (a folder that can be written)")


def _cpu_speed() -> list[Finding]:
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(1024, 1024)).astype(np.float32) for _ in range(2))
    out, source = np.empty_like(a), np.ones(1 << 24, np.float32)
    target = np.zeros_like(source)
    gemm = _least(lambda: np.matmul(a, b, out=out))
    copy = _least(lambda: np.copyto(target, source))
    return [
        Finding("CPU products", f"{2 * 1024**3 / gemm / 1e9:.0f} GFLOP/s float32"),
        Finding("CPU copies", f"{2 * source.nbytes / copy / 1e9:.1f} GB/s"),
    ]


def _least(run: Callable[[], object]) -> float:
    """Seconds of the quickest of some runs."""
    seconds: list[float] = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def driver_version() -> int | None:
    """The newest CUDA that the driver runs, 13000 for 13.0; None where there is no driver."""
    for name in ("libcuda.so.1", "nvcuda.dll"):
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        number = ctypes.c_int()
        if library.cuDriverGetVersion(ctypes.byref(number)) == 0:
            return number.value
    return None


def _gpu() -> list[Finding]:
    driver = driver_version()
    if driver is None:
        return [Finding("GPU driver", "none: there is no GPU, or NVIDIA's driver is not installed")]
    extra = "gpu" if driver >= 13000 else "gpu-cuda12"
    old = "" if driver >= 12000 else "update NVIDIA's driver: CUDA 12 is the oldest that is supported"
    found = [Finding("GPU driver", f"runs CUDA {driver // 1000}.{driver % 1000 // 10}", old)]
    for name, packages in (("CuPy", _CUPY), ("nvmath", ("nvmath-python",))):
        installed = [f"{p} {version(p)}" for p in packages if version(p) != "not installed"]
        mend = "" if installed else f"pip install '.[{extra}]'"
        found.append(Finding(name, ", ".join(installed) or "not installed", mend))
    try:
        xp = cuda().xp
    except CudaMissing as error:
        return [*found, Finding("GPU", "not usable", str(error))]
    runtime = xp.cuda.runtime
    capability, (free, total) = cuda().capability, runtime.memGetInfo()
    name = runtime.getDeviceProperties(xp.cuda.Device().id)["name"].decode()
    kept = Path(os.environ.get("CUPY_CACHE_DIR") or "~/.cupy/kernel_cache")
    too_old = "" if capability >= 75 else "kernels need compute capability 7.5 (Turing) or newer"
    found += [
        Finding("CUDA runtime", f"{runtime.runtimeGetVersion() // 1000}.{runtime.runtimeGetVersion() % 1000 // 10}"),
        Finding("GPU", f"{name}, {cuda().processors} multiprocessors"),
        Finding("compute capability", str(capability / 10), too_old),
        Finding("GPU memory", f"{size_text(free)} of {size_text(total)} free"),
        _cache("GPU kernel cache", kept.expanduser(), "*", "CUPY_CACHE_DIR"),
    ]
    return [*found, *_gpu_speed(capability)]


def _gpu_speed(capability: int) -> list[Finding]:
    from seqlib.core.ops.product_cuda import product

    backend, size, found = cuda(), 4096, []
    xp = backend.xp
    with backend.stream:
        for dtype in (dtypes.float32, dtypes.bfloat16 if capability >= 80 else dtypes.float16):
            a, b = (xp.random.standard_normal((size, size), dtype=np.float32).astype(dtype) for _ in range(2))
            out = xp.empty_like(a)
            seconds = _on_gpu(lambda a=a, b=b, out=out: product(a, b, out))
            found.append(Finding("GPU products", f"{2 * size**3 / seconds / 1e12:.0f} TFLOP/s {dtype}"))
        source = xp.ones(1 << 26, np.float32)
        target = xp.empty_like(source)
        seconds = _on_gpu(lambda: xp.copyto(target, source))
    return [*found, Finding("GPU copies", f"{2 * source.nbytes / seconds / 1e12:.2f} TB/s")]


def _on_gpu(run: Callable[[], object]) -> float:
    """Seconds of the quickest of some runs, by the GPU's clock, after two that warm it."""
    return min(cuda().timed([(lambda *_: run(), None, None, None, {}, False)] * (2 + _REPEATS))[2:])
