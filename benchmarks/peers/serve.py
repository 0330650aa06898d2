"""The peer's side of a comparison: answers `run NAME` on stdin with the time of one run, a line each.

It knows nothing of what it times and needs the standard library alone, so any Python can be the peer. Replies are
JSON objects of one line; what a peer's own libraries print goes to stderr.

    run NAME   ->  {"wall": 0.5, "cpu": 0.9, "value": 9.1}  or  {"error": "..."}     (seconds; cpu: of all threads)
    about      ->  {"about": "PyTorch 2.13.0, 2 threads", "names": ["eager fp32", ...]}
    quit, or the end of stdin, ends the process.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable

Run = Callable[[], float]


def serve(about: str, cases: dict[str, Callable[[], Run]]) -> None:
    """Serve until stdin ends. `cases` maps a name to what builds its run; a run returns a value to check (a loss).

    A case is built at its first `run`; an exception of a build or a run is that call's answer, and the next call
    tries again.
    """
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # compilers and libraries may print; replies stay apart
    built: dict[str, Run] = {}
    for line in sys.stdin:
        command, _, name = line.strip().partition(" ")
        if command == "quit":
            return
        try:
            reply = {"about": about, "names": list(cases)} if command == "about" else _run(name, cases, built)
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        replies.write(json.dumps(reply) + "\n")


def _run(name: str, cases: dict[str, Callable[[], Run]], built: dict[str, Run]) -> dict[str, float]:
    if name not in built:
        built[name] = cases[name]()
    wall, cpu = time.perf_counter(), time.process_time()
    value = built[name]()
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "value": value}
