"""The numba kernel of lstm, whose threads wait for each other at every step: none of them waits for one that failed."""

import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import seqlib
from seqlib.core import ops
from seqlib.core.backends.threads import set_threads
from seqlib.core.grad import value_and_grad

pytest.importorskip("numba")
from seqlib.core.ops import lstm_cpu
from seqlib.core.ops.jit_cpu import YIELD, wait_for_all


@pytest.fixture(autouse=True)
def _two_threads() -> Any:
    set_threads(2)
    yield
    set_threads(None)


@pytest.mark.parametrize("failing", ["seqlib-1", "MainThread"])
def test_nobody_waits_for_a_part_that_failed(failing: str) -> None:
    def part(first: int, last: int, arrived: Any) -> None:
        if threading.current_thread().name == failing:
            raise ZeroDivisionError("before the first step")
        wait_for_all(arrived, first, last, 1, YIELD)

    for _ in range(3):
        with pytest.raises(ZeroDivisionError, match="before the first step"):
            lstm_cpu._Team(part, 4).run(1 << 20)


def test_nor_for_one_that_never_began(monkeypatch: pytest.MonkeyPatch) -> None:
    team = lstm_cpu._Team(lambda first, last, arrived: None, 2)

    def interrupted(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(lstm_cpu, "spread", interrupted)
    with pytest.raises(KeyboardInterrupt):
        team.run(1 << 20)
    wait_for_all(team.arrived, 0, 0, 1, YIELD)


def test_threads_that_others_keep_from_running() -> None:
    """Both threads in turn on one processor: who waits lets the other run."""
    tasks = Path("/proc/self/task")
    if not tasks.exists():
        pytest.skip("threads cannot be bound to a processor here")
    rng, before = np.random.default_rng(0), os.sched_getaffinity(0)
    x, w_x, w_h = (rng.normal(size=s).astype(np.float32) for s in ((20, 12, 8), (4 * 192, 8), (4 * 192, 192)))

    def loss(*inputs: Any) -> Any:
        return seqlib.sum(ops.lstm(*inputs)[0])

    def run() -> list[bytes]:
        value, gradients = value_and_grad(loss, (0, 1, 2))(*map(seqlib.tensor, (x, w_x, w_h)))
        return [a.numpy().tobytes() for a in (value, *gradients)]

    def bind(processors: set[int]) -> None:
        for task in tasks.iterdir():
            with suppress(ProcessLookupError):  # a thread of another test that ends
                os.sched_setaffinity(int(task.name), processors)

    expected = run()
    bind({min(before)})
    try:
        assert run() == expected
    finally:
        bind(before)
