"""The worker threads of the CPU backend: one small pool for every kernel of the process.

Kernels that release the GIL (NumPy's, and numba's with `nogil`) are run over spans of their work, the caller
taking part. Idle workers sleep after half a millisecond (`pool_cpu.py`). BLAS and OpenMP pools spin at their barriers
much longer, which is many times slower as soon as one core is taken by somebody else; so BLAS is held to one thread
while the pool works, and large products are split here (`ops/product_numpy.py`).
"""

import os
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from threadpoolctl import ThreadpoolController

if TYPE_CHECKING:
    from seqlib.core.backends.pool_cpu import Pool

INLINE = 1 << 15
"""Work on fewer elements than this is not worth waking a thread."""


def available() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_pool: "Pool | None" = None
_wanted: int | None = None


def threads() -> int:
    """How many threads kernels use: `set_threads`, else SEQLIB_THREADS, else the available processors."""
    if _wanted is not None:
        return _wanted
    setting = os.environ.get("SEQLIB_THREADS", "")
    return int(setting) if setting.isdigit() and int(setting) > 0 else available()


def set_threads(count: int | None) -> None:
    """Use `count` threads from now on (None: as SEQLIB_THREADS or the machine says)."""
    global _pool, _wanted
    if count is not None and count < 1:
        raise ValueError(f"set_threads: needs at least 1 thread, got {count}")
    _wanted = count
    if _pool is not None:
        with _pool.lock:
            _pool.stop()
        _pool = None


def _current() -> "Pool | None":
    global _pool
    if _pool is None and threads() > 1:
        from seqlib.core.backends.pool_cpu import Pool

        _pool = Pool(threads() - 1)
    return _pool


fork_locks: list[Any] = []
"""Locks under which no fork happens, in the order in which they are taken: whoever forks waits for the program that
another thread runs, since a child has no thread that would end it."""


_held: list[Any] = []


def _hold() -> None:
    for lock in fork_locks:
        lock.acquire()
        _held.append(lock)


def _let_go() -> None:
    while _held:
        _held.pop().release()


def _forget() -> None:
    global _pool, _blas_lock, _holders
    _pool, _blas_lock = None, threading.Lock()  # threads do not survive a fork
    if _holders:  # an op of another thread, outside of any program
        _holders = 0
        _set_blas(_freed)
    _let_go()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold, after_in_parent=_let_go, after_in_child=_forget)


def spread(fn: Callable[..., Any], total: int, elements: int, *args: Any, multiple: int = 1) -> None:
    """fn(first, last, *args) for spans that cover 0 … total - 1, on all threads when `elements` is worth it.

    Bounds are multiples of `multiple`. When the pool is busy (another thread's kernel, or a kernel inside a
    kernel) the caller does it all. The first error of a span is raised once all have ended.
    """
    pool = _current() if elements >= INLINE and total > multiple else None
    if pool is None or not pool.lock.acquire(blocking=False):
        fn(0, total, *args)
        return
    try:
        pieces = -(-total // multiple)
        n = min(len(pool.workers) + 1, pieces)
        bounds = [min(total, pieces * i // n * multiple) for i in range(n)] + [total]
        busy = pool.workers[: n - 1]
        for i, worker in enumerate(busy, 1):
            worker.start(fn, bounds[i], bounds[i + 1], *args)
        error = pool.attempt(fn, bounds[0], bounds[1], *args)
        for worker in busy:
            error = worker.finish() or error
        if error is not None:
            raise error
    finally:
        pool.lock.release()


@lru_cache(maxsize=1)
def _blas() -> tuple[Any, ...]:
    return tuple(ThreadpoolController().select(user_api="blas").lib_controllers)


def blas_controlled() -> bool:
    """True when NumPy's BLAS can be held to one thread; otherwise its own threads do the products."""
    return bool(_blas())


_blas_lock, _holders, _freed = threading.Lock(), 0, []


@contextmanager
def single_blas() -> Generator[None, None, None]:
    """Inside, BLAS uses one thread: the pool splits products itself. BLAS has one number for the whole process, so it
    is given back when the last thread leaves."""
    global _holders, _freed
    with _blas_lock:
        if not _holders:
            _freed = [(library, count) for library in _blas() if (count := library.get_num_threads()) != 1]
            _set_blas([(library, 1) for library, _ in _freed])
        _holders += 1
    try:
        yield
    finally:
        with _blas_lock:
            _holders -= 1
            if not _holders:
                _set_blas(_freed)


def _set_blas(counts: list[tuple[Any, int]]) -> None:
    for library, count in counts:
        # threadpoolctl 3.8 silently ignores every thread but the first that ever set a number.
        release = getattr(library, "clear_controlling_thread", lambda force: None)
        release(force=True)
        library.set_num_threads(count)
        release(force=True)
