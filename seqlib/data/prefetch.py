"""Items made by a background thread, a few ahead of whoever takes them."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetch(Generic[T]):
    """The items of an iterator, in their order, made by one thread that is up to ``ahead`` items ahead.

    What the iterator raises is raised where its item would have come, with its traceback. ``close`` (or leaving the
    ``with`` block, or the end of the items) ends the thread.
    """

    def __init__(self, items: Iterator[T], ahead: int = 4) -> None:
        self._items = items
        self._thread = ThreadPoolExecutor(1, "seqlib-prefetch")
        self._made: deque[Future[T]] = deque()
        for _ in range(max(1, ahead)):
            self._make()

    def _make(self) -> None:
        self._made.append(self._thread.submit(next, self._items))

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        if not self._made:
            raise StopIteration
        try:
            item = self._made.popleft().result()
        except BaseException:  # the end of the items, too
            self.close()
            raise
        self._make()
        return item

    def close(self) -> None:
        """End the thread; what was made ahead is dropped."""
        self._thread.shutdown(cancel_futures=True)
        self._made.clear()

    def __enter__(self) -> "Prefetch[T]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
