"""What a run's bits depend on beyond its configuration: versions, processor, threads."""

import os
import platform
from importlib import metadata

from seqlib.core.backends.cuda import cuda

_PACKAGES = ("numpy", "ml_dtypes", "numba", "onednn-cpu-gomp", "sentencepiece", "safetensors")
_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "SEQLIB_KERNELS", "SEQLIB_DNNL")


def version(package: str) -> str:
    """A package's version, or "not installed"."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux: the platform module's answer serves
    return platform.processor() or platform.machine()


def cpu_count() -> int:
    """Processors that this process may use (its affinity mask, where the system has one)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def environment(device: str = "cpu") -> dict[str, str]:
    """A flat record of versions, processor, device and thread settings; saved with checkpoints and bundles."""
    from seqlib import __version__

    record = {
        "seqlib": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cpus": str(cpu_count()),
    }
    if device == "cuda":
        properties = cuda().xp.cuda.runtime.getDeviceProperties(cuda().xp.cuda.Device().id)
        record["gpu"] = f"{properties['name'].decode()}, CuPy {cuda().xp.__version__}"
    record.update({package: version(package) for package in _PACKAGES})
    record.update({name: os.environ.get(name, "unset") for name in _VARIABLES})
    return record


def differences(then: dict[str, str], now: dict[str, str]) -> list[str]:
    """One line a field that differs, for the warning that a resume prints."""
    keys = sorted(then.keys() | now.keys())
    return [
        f"{key}: {then.get(key, 'unknown')} then, {now.get(key, 'unknown')} now"
        for key in keys
        if then.get(key, "unknown") != now.get(key, "unknown")
    ]
