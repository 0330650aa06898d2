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
    """Objects (those that may be part of a cycle) more after half of the `steps`, and bytes more after all.

    Of the two halves the one with fewer objects counts: what leaks does so in both, while an object of a thread that
    another test left comes in one.
    """
    gc.collect()
    gc.disable()
    try:
        for _ in range(warm_up):
            step()
        resident, counts = _resident(), [len(gc.get_objects())]
        for half in (steps // 2, steps - steps // 2):
            for _ in range(half):
                step()
            counts.append(len(gc.get_objects()))
        return min(counts[1] - counts[0], counts[2] - counts[1]), _resident() - resident
    finally:
        gc.enable()
