"""SIGINT and SIGTERM ask a run to stop after its current step; a second SIGINT stops it at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from seqlib.util.log import get_logger


@dataclass
class StopRequest:
    """The signal that asked for a stop (0: none yet)."""

    signal: int = 0

    @property
    def name(self) -> str:
        """The signal's name, "SIGINT"; "" for none."""
        return signal.Signals(self.signal).name if self.signal else ""


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Collect SIGINT and SIGTERM in a `StopRequest`; outside the main thread nothing is installed."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if request.signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        request.signal = number
        get_logger().warning("%s: finishing this step, then saving", signal.Signals(number).name)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
