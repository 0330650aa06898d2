"""The run's log: lines for people on stderr, and `log.jsonl` for curves."""

import os
from pathlib import Path
from typing import Any

import msgspec

from seqlib.util.atomic import write_bytes
from seqlib.util.errors import SeqlibError
from seqlib.util.log import get_logger
from seqlib.util.memory import resident_bytes, size_text


def duration(seconds: float) -> str:
    """`1:02:03` or `02:03`."""
    whole = max(0, round(seconds))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes:02}:{whole % 60:02}"


class RunLog:
    """Appends records (dictionaries with a `step` and a `kind`) to a JSON-lines file; None keeps no file."""

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def rewind(self, step: int) -> None:
        """Drop records after `step` and a last line that a kill cut short, before a resumed run appends."""
        if self.path is None or not self.path.exists():
            return
        kept = [line for line in self.path.read_bytes().splitlines(keepends=True) if _step(line) <= step]
        write_bytes(self.path, b"".join(kept))

    def write(self, kind: str, step: int, **values: Any) -> None:
        """Append one record; `SeqlibError` when the disk refuses it."""
        if self.path is None:
            return
        line = msgspec.json.encode({"kind": kind, "step": step, **values}) + b"\n"
        try:
            with open(self.path, "ab") as file:
                file.write(line)
        except OSError as error:
            raise SeqlibError(f"{self.path}: cannot be written ({os.strerror(error.errno or 0)})") from error

    def program(self, step: int, number: int, program: Any, sizes: dict[str, int]) -> None:
        """Record and print a program that was built for batches of these sizes."""
        words = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in sizes.items())
        get_logger().info(
            "program %d (%s): built in %.2f s, %d launches, %s planned",
            number,
            words or "accumulated gradients",
            program.build_seconds,
            program.launch_count,
            size_text(program.arena_bytes),
        )
        self.write("program", step, **sizes, seconds=program.build_seconds)

    def train(self, step: int, values: dict[str, float], last: str, eta: float) -> str:
        """Record and print one training line; `last` is the last step as it is known. Returns the line."""
        self.write("train", step, **values)
        line = (
            f"step {step:,}/{last}  loss {values['loss']:.4f}  rate {values['rate']:.3g}  "
            f"{values['target_tokens_per_second']:,.0f} target tok/s  padding {100 * values['padding']:.1f} %  "
            f"grad norm {values['gradient_norm']:.2f}  memory {size_text(resident_bytes())}  ETA {duration(eta)}"
        )
        get_logger().info("%s", line)
        return line


def _step(line: bytes) -> float:
    try:
        return float(msgspec.json.decode(line, type=dict[str, Any])["step"])
    except (ValueError, TypeError, KeyError):
        return float("inf")
