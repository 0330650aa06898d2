"""The workers of the CPU backend's pool, and how they are waited for.

To be woken costs a sleeping thread 40 µs, as much as many a kernel takes. So whoever waits looks at a counter for up to
that long first, without the interpreter's lock, and sleeps then: what others use the machine for loses little.
"""

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import numpy as np

TURNS = 2000
"""Looks at a counter, of some 25 ns each, before a thread sleeps."""
_FEWEST = 64

spin: list[Callable[[Any, int, int], bool]] = []
"""spin(counter, value, turns): look until the counter has another value, at most `turns` times; whether it had. By
numba's kernels, once they are loaded; without it threads sleep at once."""


def attempt(fn: Callable[..., Any], *args: Any) -> BaseException | None:
    """Call fn(*args); what it raised."""
    try:
        fn(*args)
    except BaseException as error:
        return error


class Worker:
    """A thread that runs one task at a time."""

    def __init__(self, name: str) -> None:
        self.tasks: SimpleQueue[tuple[Any, ...]] = SimpleQueue()
        self.results: SimpleQueue[BaseException | None] = SimpleQueue()
        self.started, self.ended = np.zeros((2, 8), np.int64)  # cache lines of their own
        self.turns = TURNS
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def _work(self) -> None:
        seen = 0
        with np.errstate(all="ignore"):  # a thread starts with NumPy's warnings on
            while True:
                if spin and seen:
                    spin[0](self.started, seen, TURNS)
                task = self.tasks.get()
                if not task:
                    return
                seen += 1
                self.results.put(attempt(*task))
                self.ended[0] = seen

    def start(self, *task: Any) -> None:
        """Run fn(*args) for task = (fn, *args); nothing ends the thread."""
        self.tasks.put(task)
        self.started[0] += 1

    def finish(self) -> BaseException | None:
        """Wait for the task's end; what it raised. The less is waited in vain, the longer without sleep."""
        if spin:
            in_time = spin[0](self.ended, int(self.started[0]) - 1, self.turns)
            self.turns = min(TURNS, 2 * self.turns) if in_time else max(_FEWEST, self.turns // 2)
        return self.results.get()


class Pool:
    """Workers; `lock` is held by the one caller that they work for."""

    attempt = staticmethod(attempt)

    def __init__(self, workers: int) -> None:
        self.lock = threading.Lock()
        self.workers = [Worker(f"seqlib-{i + 1}") for i in range(workers)]

    def stop(self) -> None:
        for worker in self.workers:
            worker.start()
