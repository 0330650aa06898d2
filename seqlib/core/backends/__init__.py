"""Where ops run. A backend executes one op on arrays (eager) and binds a lowered program's launches (compiled)."""

from collections.abc import Iterable
from typing import Any

import numpy.typing as npt

from seqlib.core.backends.base import Backend
from seqlib.core.backends.cpu import CPU
from seqlib.core.backends.cuda import cuda, is_cuda
from seqlib.util.errors import unknown

BACKENDS: dict[str, Backend] = {"cpu": CPU, "cuda": cuda()}
"""By device. Naming the GPU's loads nothing yet."""


def choose_device(wanted: str) -> str:
    """ "cpu" or "cuda" for a wish: "auto" is the GPU where one is usable, else the CPU. Raises UsageError for another
    device, CudaMissing for "cuda" where none is usable."""
    if wanted not in (*BACKENDS, "auto"):
        raise unknown("device", wanted, (*BACKENDS, "auto"))
    if wanted == "auto":
        return "cuda" if cuda().usable() else "cpu"
    if wanted == "cuda":
        cuda().xp  # noqa: B018  (raises CudaMissing)
    return wanted


def backend_of(arrays: Iterable[Any]) -> Backend:
    """The backend of arrays: the GPU's if one of them lies there."""
    return BACKENDS["cuda" if any(is_cuda(a) for a in arrays) else "cpu"]


def host(array: Any) -> npt.NDArray[Any]:
    """A copy in main memory. Raises IndexError when a kernel before it met an index out of range."""
    return backend_of([array]).to_host(array)


def copy_of(array: Any) -> Any:
    """A copy on the same device."""
    with backend_of([array]).running():
        return array.copy()


def place(array: Any, device: str) -> Any:
    """The array on a device: itself if it lies there, else a copy. Raises UsageError for a device that there is not."""
    if device not in BACKENDS:
        raise unknown("device", device, BACKENDS)
    return BACKENDS[device].adopt(host(array) if is_cuda(array) and device == "cpu" else array)
