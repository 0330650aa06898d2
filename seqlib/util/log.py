"""Plain lines on stderr."""

import logging
import sys


class _Stderr(logging.Handler):
    """Writes to the `sys.stderr` of the moment, so a progress bar or a test that replaces it sees the lines."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(self.format(record), file=sys.stderr, flush=True)
        except Exception:
            self.handleError(record)


def get_logger() -> logging.Logger:
    """The library's logger: information and above, one plain line a message, on stderr."""
    logger = logging.getLogger("seqlib")
    if not any(isinstance(handler, _Stderr) for handler in logger.handlers):
        logger.addHandler(_Stderr())
        logger.propagate = False
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.INFO)
    return logger
