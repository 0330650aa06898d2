"""The switches read from the environment, and the user's own line for messages.

SEQLIB_DEBUG=1 a summary of every program, 2 every launch with its time, 3 the graph after each pass, 4 the
kernels' source. SEQLIB_KERNELS=ref runs every op by its reference, SEQLIB_FUSE=0 switches fusion off. All are
read when they are used, so a test can set them.
"""

import os
import sys
from pathlib import Path
from types import FrameType

from seqlib.core.ambient import ambient

_CORE = str(Path(__file__).parent)
_PACKAGE = str(Path(__file__).parent.parent) + os.sep


def level() -> int:
    """SEQLIB_DEBUG as an integer, 0 when unset or not a number."""
    value = os.environ.get("SEQLIB_DEBUG", "0")
    return int(value) if value.isdigit() else 0


def references_only() -> bool:
    """True when SEQLIB_KERNELS=ref asks that no kernel be used."""
    return os.environ.get("SEQLIB_KERNELS", "") == "ref"


def switches() -> tuple[str, ...]:
    """The switches in force that change what a program does."""
    if references_only():
        return ("SEQLIB_KERNELS=ref",)
    return () if fusion() else ("SEQLIB_FUSE=0",)


def fusion() -> bool:
    """False when SEQLIB_FUSE=0 (or SEQLIB_KERNELS=ref) asks that every op stays a launch of its own."""
    return os.environ.get("SEQLIB_FUSE", "") != "0" and not references_only() and ambient.fusion


def user_line() -> str:
    """`file:line` of the innermost caller outside the core, for graph listings."""
    return _line(_outside(sys._getframe(1), _CORE))  # pyright: ignore[reportPrivateUsage]


def where() -> str:
    """`user_line()` for messages; where that is a layer of seqlib, the user's line that led there as well."""
    inner = _outside(sys._getframe(1), _CORE)  # pyright: ignore[reportPrivateUsage]
    outer = _outside(inner, _PACKAGE)
    file = outer.f_code.co_filename
    if outer is inner or file.startswith(_PACKAGE) or "site-packages" in file:
        return _line(inner)
    return f"{_line(inner)}, called from {_line(outer)}"


def _outside(frame: FrameType, folder: str) -> FrameType:
    while frame.f_back is not None and frame.f_code.co_filename.startswith(folder):
        frame = frame.f_back
    return frame


def _line(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def emit(text: str) -> None:
    """Write a debugging line to stderr."""
    sys.stderr.write(text + "\n")
