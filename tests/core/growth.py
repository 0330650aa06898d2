"""How many objects and bytes more there are after many steps, the garbage collector being off."""

import gc
import resource
from collections.abc import Callable
from pathlib import Path


def _resident() -> int:
    """Bytes of memory that the process holds now; 0 where the system does not say."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * resource.getpagesize() if statm.exists() else 0


def growth(step: Callable[[], object], warm_up: int, steps: int) -> tuple[int, int]:
    """Objects (those that may be part of a cycle) and bytes more after `steps`."""
    gc.collect()
    gc.disable()
    try:
        for _ in range(warm_up):
            step()
        objects, resident = len(gc.get_objects()), _resident()
        for _ in range(steps):
            step()
        return len(gc.get_objects()) - objects, _resident() - resident
    finally:
        gc.enable()
