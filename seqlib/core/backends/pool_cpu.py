"""The workers of the CPU backend's pool, and how they are waited for.

To be woken costs a sleeping thread 40 µs and more, as much as many a kernel takes. So whoever waits looks at a counter
for a while first, without the interpreter's lock, and sleeps then: half a millisecond where the processors are free,
and a few microseconds where somebody else wants one.

A thread that asks for the interpreter's lock while another has it sleeps, too. So a worker says that it has ended when
it has given the lock back, and begins a little after the caller, which is in Python until its own part has begun.
"""

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import numpy as np

try:
    from resource import RUSAGE_THREAD, getrusage
except ImportError:  # no Linux

    def _preempted() -> int:
        return 0

    TURNS = 2000
else:

    def _preempted() -> int:
        """How often the system took the processor from this thread because another one wanted it."""
        return getrusage(RUSAGE_THREAD).ru_nivcsw

    TURNS = 20_000

# These are looks at a counter, of 25 (AMD) to 45 ns (Intel) each: before a thread sleeps, and for a caller in Python.
_FEW = 500  # TURNS where the processors are not free
_PATIENCE = 500
_TASKS, _OFTEN = 256, 12  # the processors are not free when a worker was preempted more often in so many tasks

spin: list[Callable[..., bool]] = []
"""Two functions of numba's kernels, once they are loaded; without them threads sleep at once.

spin[0](counter, value, turns): look until the counter has another value, at most `turns` times; whether it had.
spin[1](ended, value, counter, turns, caller, patience): set `ended` to the value, then do as spin[0], and then wait for
the caller."""

FREE, PYTHON, SAYS = range(3)
caller = np.zeros(8, np.int64)
"""Who starts workers is in Python, for about _PATIENCE; or for longer, up to ten times that, and SAYS when it is not
(FREE). A guess, which costs time alone where it is wrong."""


def attempt(fn: Callable[..., Any], *args: Any) -> BaseException | None:
    """Call fn(*args); what it raised. Where others wait for this part of fn's work, its `release` frees them."""
    try:
        fn(*args)
    except BaseException as error:
        getattr(fn, "release", lambda: None)()
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
        seen = preempted = 0
        with np.errstate(all="ignore"):  # a thread starts with NumPy's warnings on
            while True:
                if not seen % _TASKS:
                    before, preempted = preempted, _preempted()
                    self.turns = TURNS if preempted - before <= _OFTEN else _FEW
                if spin:
                    spin[1](self.ended, seen, self.started, self.turns, caller, _PATIENCE)
                else:
                    self.ended[0] = seen
                task = self.tasks.get()
                if not task:
                    return
                seen += 1
                self.results.put(attempt(*task))

    def start(self, *task: Any) -> None:
        """Run fn(*args) for task = (fn, *args); nothing ends the thread."""
        self.tasks.put(task)
        caller[0] = PYTHON
        self.started[0] += 1

    def finish(self) -> BaseException | None:
        """Wait for the task's end; what it raised."""
        if spin:
            spin[0](self.ended, int(self.started[0]) - 1, self.turns)
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
