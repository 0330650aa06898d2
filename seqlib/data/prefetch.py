"""Items made in a background thread, a few ahead of the one that is wanted."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetch(Generic[T]):
    """Iterates over what ``items`` gives, in order, while a thread works up to ``ahead`` items in advance.

    An exception of ``items`` is raised, with its trace, when its place is reached. ``close`` (or the end of the
    ``with`` block) stops the thread, between two items, and waits for it; so does the end of the iteration.
    """

    def __init__(self, items: Iterator[T], ahead: int = 4) -> None:
        self._items = items
        self._ahead = max(1, ahead)
        self._made: deque[T] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._ended = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="seqlib-prefetch", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        error: BaseException | None = None
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._closed or len(self._made) < self._ahead)
                    if self._closed:
                        return
                item = next(self._items)
                with self._changed:
                    self._made.append(item)
                    self._changed.notify_all()
        except StopIteration:
            pass
        except BaseException as raised:  # whatever it is, the consumer shall see it
            error = raised
        finally:
            with self._changed:
                self._error, self._ended = error, True
                self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        with self._changed:
            self._changed.wait_for(lambda: self._made or self._ended or self._closed)
            if self._made and not self._closed:
                item = self._made.popleft()
                self._changed.notify_all()
                return item
            error, self._error = self._error, None
        self.close()
        if error is not None:
            raise error
        raise StopIteration

    def close(self) -> None:
        """Stop the thread and forget what it made; again: nothing."""
        with self._changed:
            self._closed = True
            self._made.clear()
            self._changed.notify_all()
        self._thread.join()

    def __enter__(self) -> Prefetch[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
