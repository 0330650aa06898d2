"""Every op on the GPU: is it right, and how fast are the kernels of training steps?

    python benchmarks/gpu_ops.py                      # checks, then times; minutes on one GPU
    python benchmarks/gpu_ops.py --ops attention,sum --no-times
    python benchmarks/gpu_ops.py --no-checks          # times alone, attention beside PyTorch's where torch is installed

Checks: each op over its samples and further sizes, in float32, bfloat16, float16 and float64, values and gradients,
against the float64 reference under the 2x rule, twice with the same bits. Exits 1 when one fails.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from _gpu_cases import FLOATS  # noqa: E402
from _gpu_checks import Result, Task, run, run_all, tasks  # noqa: E402

SMOKE = ("add", "sum", "layer_norm", "glu", "full")
SHOWN = 6  # failures printed in full for an op and dtype


def _report(found: list[tuple[Task, Result]]) -> int:
    """Print the failures and what was checked; the number of failures."""
    failures = [f for _, result in found for f in result.failures]
    counts = Counter((f.op, f.dtype) for f in failures)
    shown: Counter[tuple[str, str]] = Counter()
    for f in sorted(failures):
        shown[f.op, f.dtype] += 1
        if shown[f.op, f.dtype] <= SHOWN:
            print(f"FAIL {f.op} {f.dtype} {f.case}\n     {f.what}")
    if counts:
        print(f"\n{'op':28s} {'dtype':10s} failures")
        for (op, dtype), count in sorted(counts.items()):
            print(f"{op:28s} {dtype:10s} {count}")
    served = {task.op for task, result in found if result.by_kernel}
    without = sorted({task.op for task, _ in found} - served)
    print(f"\nops that no CUDA kernel served: {', '.join(without) or 'none'}")
    print(f"{sum(result.checks for _, result in found)} results compared, {len(failures)} failures")
    return len(failures)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ops", help="comma-separated; default: all")
    parser.add_argument("--no-checks", action="store_true")
    parser.add_argument("--no-times", action="store_true")
    parser.add_argument("--no-peer", action="store_true", help="leave PyTorch out")
    parser.add_argument("--jobs", type=int, default=min(12, len(os.sched_getaffinity(0))), help="processes for checks")
    parser.add_argument("--smoke", action="store_true", help="a few checks on the CPU: does the script run?")
    options = parser.parse_args(arguments)
    import seqlib.core.ops  # noqa: F401  (declares the ops)
    from seqlib.core.op import OPS

    chosen = options.ops.split(",") if options.ops else list(SMOKE if options.smoke else OPS)
    if unknown := set(chosen) - set(OPS):
        parser.error(f"--ops: {', '.join(sorted(unknown))}: no such op")
    failures = 0
    if not options.no_checks:
        start = time.perf_counter()
        if options.smoke:
            todo = tasks(chosen, FLOATS[:2])
            failures = _report([(task, run(task, "cpu")) for task in todo])
        else:
            failures = _report(run_all(tasks(chosen), options.jobs))
        print(f"checked in {time.perf_counter() - start:.0f} s", flush=True)
    if not options.no_times and not options.smoke:
        from _gpu_times import times

        times(peer=not options.no_peer, ops=chosen if options.ops else ())
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
