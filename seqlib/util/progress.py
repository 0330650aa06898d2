"""A progress bar on a terminal, silence everywhere else."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Progress:
    """What `progress` yields. `done` counts the steps told so far."""

    def __init__(self, done: int, show: Callable[[int, str | None], None] | None) -> None:
        self.done = done
        self._show = show

    def advance(self, steps: int = 1, note: str | None = None) -> None:
        """Count `steps` more; `note` replaces the text behind the bar (a loss, a rate)."""
        self.done += steps
        if self._show is not None:
            self._show(self.done, note)


@contextmanager
def progress(total: int | None, description: str, done: int = 0) -> Iterator[Progress]:
    """Show a bar of `total` steps (None: unknown) on stderr when that is a terminal.

    `done` is where it starts, for a resumed run. Log lines written meanwhile appear above the bar.
    """
    if not sys.stderr.isatty():
        yield Progress(done, None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as bar:
        task = bar.add_task(description, total=total, completed=done, note="")

        def show(now: int, note: str | None) -> None:
            if note is None:
                bar.update(task, completed=now)
            else:
                bar.update(task, completed=now, note=note)

        yield Progress(done, show)
