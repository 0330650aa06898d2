"""A bounded queue of texts, and the one thread that runs the model on batches of them.

Texts are put together when they have the same options and lengths of the same power of 2. A text is *due* when it came,
plus a millisecond a token: the batch that is due first goes first, so that a long text lets short ones pass, and not
for ever.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from seqlib.serve.config import ServeConfig
from seqlib.util.errors import SeqlibError

_SECONDS_A_TOKEN = 1e-3


class Busy(SeqlibError):
    """As many texts wait as may, or the server is stopping."""


@dataclass(eq=False)
class Job:
    """An `item` to be computed with others of the same `options`: `size` tokens long, `rows` rows of a batch. `future`
    gets the answer; `watch`, where given, pieces of it, each after the number of its row. `gone` is set when nobody
    waits any more. `told` and `came` are the batcher's notes."""

    item: Any
    options: Any
    size: int
    rows: int = 1
    watch: Callable[[int, str], None] | None = None
    gone: bool = False
    told: bool = False
    came: float = 0.0
    future: Future[Any] = field(default_factory=Future)

    def piece(self, row: int, text: str) -> bool:
        """Hand on a piece; False when no more are wanted."""
        if self.watch is not None and not self.gone:
            self.told = True
            self.watch(row, text)
        return not self.gone


class Batcher:
    """`run(jobs)` gives the answers for jobs of one group. By `config` at most `queue` jobs wait; a batch has at most
    `max_batch` rows and `batch_tokens` tokens (or is one job), and waits `max_wait_ms` to be filled. `batches` and
    `answered` count."""

    def __init__(self, run: Callable[[Sequence[Job]], Sequence[Any]], config: ServeConfig) -> None:
        self._run, self._config = run, config
        self.jobs: list[Job] = []
        """Those that wait."""
        self._changed = threading.Condition()
        self._stopping = False
        self.batches = self.answered = 0
        self._thread = threading.Thread(target=self._work, name="seqlib-serve", daemon=True)
        self._thread.start()

    def submit(self, jobs: Sequence[Job]) -> None:
        """Put jobs in the queue, all or none. Raises Busy."""
        with self._changed:
            self.jobs = [job for job in self.jobs if not job.gone]
            if self._stopping:
                raise Busy("the server is stopping")
            if len(self.jobs) + len(jobs) > self._config.queue:
                raise Busy(f"{len(self.jobs)} texts wait already, at most {self._config.queue} may: try again later")
            for job in jobs:
                job.came = time.monotonic()
            self.jobs += jobs
            self._changed.notify()

    def stop(self, seconds: float = 10.0) -> None:
        """Refuse new jobs, fail those that wait, and give the batch that is running so many seconds to end."""
        with self._changed:
            self._stopping = True
            left, self.jobs = self.jobs, []
            self._changed.notify()
        for job in left:
            if job.future.set_running_or_notify_cancel():
                job.future.set_exception(Busy("the server is stopping"))
        self._thread.join(seconds)

    def _work(self) -> None:
        while batch := self._next():
            self.batches += 1
            self._answer(batch)

    def _answer(self, batch: Sequence[Job]) -> None:
        try:
            found = self._run(batch)
        except Exception as error:
            for job in batch:
                if len(batch) == 1 or job.told:
                    job.future.set_exception(error)
                else:
                    self._answer([job])  # what is wrong with one is no fault of the others
            return
        for job, answer in zip(batch, found, strict=True):
            self.answered += 1
            job.future.set_result(answer)

    def _next(self) -> list[Job]:
        """The next batch, when it is full or has waited; none to end."""
        with self._changed:
            wait = self._config.max_wait_ms / 1000
            while not self._stopping:
                groups: dict[Hashable, list[Job]] = defaultdict(list)
                for job in self.jobs:
                    if not job.gone:
                        groups[job.options, job.size.bit_length()].append(job)
                now, ready = time.monotonic(), []
                for jobs in groups.values():
                    batch, full = self._first(jobs)
                    if full or jobs[0].came + wait <= now:
                        ready.append((min(job.came + _SECONDS_A_TOKEN * job.size for job in batch), batch))
                if ready:
                    batch = min(ready, key=lambda each: each[0])[1]
                    self.jobs = [job for job in self.jobs if job not in batch]
                    if batch := [job for job in batch if job.future.set_running_or_notify_cancel()]:
                        return batch
                    continue
                came = [jobs[0].came for jobs in groups.values()]
                self._changed.wait(max(0.0, min(came) + wait - now) if came else None)
        return []

    def _first(self, jobs: Sequence[Job]) -> tuple[list[Job], bool]:
        """As many of the first jobs as a batch holds, at least one, and whether it is full."""
        batch, rows, longest = [], 0, 0
        for job in jobs:
            rows, longest = rows + job.rows, max(longest, job.size)
            if batch and (rows > self._config.max_batch or rows * longest > self._config.batch_tokens):
                return batch, True
            batch.append(job)
        return batch, rows >= self._config.max_batch
