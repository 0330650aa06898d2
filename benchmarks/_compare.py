"""What every comparison shares: the peer's process, alternating measurements, their statistics, the CSV file."""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent


class PeerError(Exception):
    """The peer could not be started or could not run a case; the message is the peer's own."""


class Measure(NamedTuple):
    """Seconds of one run: on the clock, and of all threads of its process on a processor.

    On a machine that others use too, the second is the steadier one.
    """

    wall: float
    cpu: float

    @classmethod
    def of(cls, run: Callable[[], object]) -> Measure:
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        return cls(time.perf_counter() - wall, time.process_time() - cpu)


def model_options(
    parser: argparse.ArgumentParser, models: Sequence[str], csv_name: str, arguments: list[str] | None
) -> argparse.Namespace:
    """The options of a script that measures models of ours, its own included; kernels get `--threads`."""
    parser.add_argument("--models", default=",".join(models), help=f"comma-separated, of {', '.join(models)}")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=15, help="measurements of each side")
    parser.add_argument("--csv", type=Path, default=HERE / "results" / csv_name)
    parser.add_argument("--smoke", action="store_true", help="tiny shapes: does the script run?")
    options = parser.parse_args(arguments)
    if unknown := set(options.models.split(",")) - set(models):
        parser.error(f"--models: {', '.join(unknown)}: expected some of {', '.join(models)}")
    os.environ["SEQLIB_THREADS"] = str(options.threads)
    return options


class Peer:
    """A process under another Python that runs cases on request; see peers/serve.py for what is said."""

    def __init__(self, python: str, script: str, arguments: Sequence[str], environment: dict[str, str]):
        command = [python, str(HERE / "peers" / script), *arguments]
        try:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
            )
        except OSError as error:
            raise PeerError(f"{python}: {error.strerror}") from None
        reply = self.ask("about")
        self.about: str = reply["about"]
        self.names: list[str] = reply["names"]

    def ask(self, command: str) -> dict[str, Any]:
        """Send a command and wait for its answer. Raises PeerError."""
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None and stdout is not None
        try:
            stdin.write(command + "\n")
            stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise PeerError(f"the peer ended with exit code {self.process.wait()}")
        reply = json.loads(line)
        if "error" in reply:
            raise PeerError(reply["error"])
        return reply

    def run(self, name: str) -> Measure:
        """One run of a case, timed by the peer."""
        reply = self.ask(f"run {name}")
        return Measure(reply["wall"], reply["cpu"])

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Spread(NamedTuple):
    """Smallest value, quartiles and median of some measurements."""

    least: float
    lower: float
    median: float
    upper: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        ordered = sorted(values)
        half = len(ordered) // 2
        if not half:
            return cls(ordered[0], ordered[0], ordered[0], ordered[0])
        return cls(ordered[0], median(ordered[:half]), median(ordered), median(ordered[-half:]))


Measures = dict[str, list[Measure]]


def alternate(runs: dict[str, Callable[[], Measure]], rounds: int) -> Measures:
    """Measurements of each run, in every round one after another, in turned order in every second round.

    A run that raises PeerError is left out from then on, with a line that says so.
    """
    found: Measures = {name: [] for name in runs}
    for number in range(rounds):
        names = list(found)
        for name in names if number % 2 == 0 else reversed(names):
            try:
                found[name].append(runs[name]())
            except PeerError as error:
                print(f"{name} is left out: {error}")
                del found[name]
    return found


def report(found: Measures, ours: str) -> None:
    """Print each run's times, and the ratio of ours to it round by round."""
    head = f"{'median':>9s} {'least':>9s} {'quartiles':>19s}"
    print(f"\n{'ms':34s} {head}")
    for name, measures in found.items():
        for clock in Measure._fields:
            _line(f"{name} {clock}", [1e3 * getattr(m, clock) for m in measures], 1)
    others = [name for name in found if name != ours]
    if others:
        print(f"\n{'ours / peer, pair by pair':34s} {head}")
    for name in others:
        for clock in Measure._fields:
            pairs = zip(found[ours], found[name], strict=True)
            _line(f"{name} {clock}", [getattr(a, clock) / getattr(b, clock) for a, b in pairs], 3)


def _line(name: str, values: Sequence[float], digits: int) -> None:
    s = Spread.of(values)
    numbers = (f"{x:9.{digits}f}" for x in (s.median, s.least, s.lower, s.upper))
    print(f"{name:34s} {' '.join(numbers)}")


def write_csv(path: Path, found: Measures, versions: dict[str, str], threads: int) -> None:
    """One line a measurement, with the processor, versions and threads that it is of."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["round", "run", "version", "wall_s", "cpu_s", "threads", "processor"])
        for number in range(max(map(len, found.values()))):
            for name, measures in found.items():
                times = [f"{x:.6f}" for x in measures[number]]
                writer.writerow([number, name, versions[name], *times, threads, processor()])
    print(f"\nmeasurements: {path}")


def processor() -> str:
    """The processor's name."""
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
