"""The CUDA kernels under compute-sanitizer: small cases of every op, values and gradients, nothing compared.

    python benchmarks/gpu_sanitize.py                             # memcheck, racecheck, synccheck
    python benchmarks/gpu_sanitize.py --tools racecheck --ops attention,sum

Every array is an allocation of its own, so that memcheck sees accesses beyond it. Exits 1 when a tool reports an error.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from _gpu_cases import Case  # noqa: E402
from _gpu_checks import Runner, arrays_of, cases_of  # noqa: E402

TOOLS = ("memcheck", "racecheck", "synccheck")
DTYPES = ("float32", "bfloat16")
SMALL = 120_000  # values in a case: larger ones take the tools too long
SHOWN = 40  # lines of a report


def _cases(op: Any, dtype: str) -> list[tuple[Case, list[Any]]]:
    pairs = [(case, arrays_of(case, dtype)) for case in cases_of(op) if dtype in case.dtypes]
    return [(c, a) for c, a in pairs if sum(x.size for x in a if x is not None) <= SMALL]


def _child(ops: Sequence[str], shard: int, shards: int) -> None:
    """Run the cases number `shard`, `shard + shards`, ..."""
    import seqlib.core.ops  # noqa: F401  (declares the ops)
    from seqlib.core.backends.cuda import cuda
    from seqlib.core.op import OPS
    from seqlib.util.errors import DtypeError

    cuda().xp.cuda.set_allocator(None)
    todo = [(OPS[name], dtype, *pair) for name in ops for dtype in DTYPES for pair in _cases(OPS[name], dtype)]
    done = 0
    for op, dtype, case, arrays in todo[shard::shards]:
        runner = Runner(op, case, "cuda")
        try:
            runner.values(arrays)
            if runner.wanted(arrays):
                runner.gradients(arrays)
        except DtypeError:
            continue  # the op refuses this dtype
        except Exception as error:
            print(f"{op.name} {dtype} {case.attrs}: {type(error).__name__}: {error}", flush=True)
            raise
        done += 1
    cuda().synchronize()
    print(f"{done} cases", flush=True)


def _check(tool: str, ops: Sequence[str], jobs: int, seconds: float) -> bool:
    """Whether the tool, or no tool, ends without errors; prints what it says."""
    start, clean = time.perf_counter(), True
    script = [sys.executable, __file__, "--ops", ",".join(ops)]
    command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9", "--print-limit", "8"] if tool else []
    children = [
        subprocess.Popen(
            [*command, *script, "--shard", f"{i}/{jobs}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        for i in range(jobs)
    ]
    for i, child in enumerate(children):
        try:
            text = child.communicate(timeout=max(1.0, start + seconds - time.perf_counter()))[0]
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            text = f"{child.communicate()[0]}\nstopped after {seconds:.0f} s"
        clean &= child.returncode == 0
        lines = text.splitlines()
        shown = lines[-2:] if child.returncode == 0 else lines[:SHOWN]
        print(f"{tool or 'without a tool'} {i}/{jobs}: exit {child.returncode}\n  " + "\n  ".join(shown), flush=True)
    verdict = "clean" if clean else "ERRORS"
    print(f"{tool or 'without a tool'}: {verdict}, {time.perf_counter() - start:.0f} s\n", flush=True)
    return clean


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tools", default=",".join(TOOLS))
    parser.add_argument("--ops", help="comma-separated; default: all")
    parser.add_argument("--jobs", type=int, default=min(8, len(os.sched_getaffinity(0))), help="processes")
    parser.add_argument("--seconds", type=float, default=600.0, help="that one tool may take")
    parser.add_argument("--shard", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    import seqlib.core.ops  # noqa: F401  (declares the ops)
    from seqlib.core.op import OPS

    ops = options.ops.split(",") if options.ops else list(OPS)
    if unknown := set(ops) - set(OPS):
        parser.error(f"--ops: {', '.join(sorted(unknown))}: no such op")
    if options.shard:
        _child(ops, *map(int, options.shard.split("/")))
        return 0
    if shutil.which("compute-sanitizer") is None:
        parser.error("compute-sanitizer is not on the PATH; it comes with the CUDA toolkit")
    tools = options.tools.split(",")
    clean = [_check(tool, ops, options.jobs, options.seconds) for tool in ("", *tools)]  # "": compiles all kernels
    return int(not all(clean))


if __name__ == "__main__":
    sys.exit(main())
