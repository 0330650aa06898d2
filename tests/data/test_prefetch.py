"""The background thread: order, bounds, exceptions with their trace, and nothing left behind."""

import threading
import time
import traceback
from collections.abc import Iterator

import pytest

from seqlib.data.prefetch import Prefetch


def running() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("seqlib-prefetch")]


def wait_for(condition, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_all_items_in_order() -> None:
    assert list(Prefetch(iter(range(1000)), ahead=3)) == list(range(1000))
    assert list(Prefetch(iter(()))) == []
    assert not running()


def test_so_many_ahead_and_no_more() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for n in range(100):
            made.append(n)
            yield n

    with Prefetch(items(), ahead=3) as found:
        wait_for(lambda: len(made) == 3)
        assert next(found) == 0
        wait_for(lambda: len(made) == 4)
        time.sleep(0.02)
        assert made == [0, 1, 2, 3]
    assert not running()


def broken() -> Iterator[int]:
    yield 1
    raise ValueError("the second item")


def test_an_exception_keeps_its_place_and_trace() -> None:
    found = Prefetch(broken())
    assert next(found) == 1
    with pytest.raises(ValueError, match="the second item") as raised:
        next(found)
    assert "in broken" in "".join(traceback.format_exception(raised.value))
    with pytest.raises(StopIteration):
        next(found)
    assert not running()


def test_an_error_of_the_consumer_ends_the_thread() -> None:
    with pytest.raises(KeyboardInterrupt), Prefetch(iter(range(10_000)), ahead=2) as found:
        for item in found:
            if item == 5:
                raise KeyboardInterrupt
    assert not running()


def test_closing_twice_and_then_asking() -> None:
    found = Prefetch(iter(range(5)))
    found.close()
    found.close()
    with pytest.raises(StopIteration):
        next(found)
    assert not running()
