"""How many objects and bytes more there are after many steps, the garbage collector being off."""

import gc
import resource
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path


def _resident() -> int:
    """Bytes of memory that the process holds now; 0 where the system does not say."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * resource.getpagesize() if statm.exists() else 0


def growth(step: Callable[[], object], warm_up: int, steps: int) -> tuple[int, int]:
    """Objects (those that may be part of a cycle) and bytes more after a quarter of the `steps`.

    Of the quarters the one with fewest counts: what leaks does so in all, while an object of a thread that another
    test left, or memory that the allocator takes before it settles, comes in some. Prints what objects came.
    """
    gc.collect()
    gc.disable()
    try:
        for _ in range(warm_up):
            step()
        known = {id(each) for each in gc.get_objects()}
        objects, sizes = [len(gc.get_objects())], [_resident()]
        for _ in range(4):
            for _ in range(steps // 4):
                step()
            objects.append(len(gc.get_objects()))
            sizes.append(_resident())
        new = [each for each in gc.get_objects() if id(each) not in known and each is not known]
        print(f"objects more: {objects}", Counter(map(type, new)).most_common(9), repr(new)[:2000])
        return min(b - a for a, b in pairwise(objects)), min(b - a for a, b in pairwise(sizes))
    finally:
        gc.enable()
