"""Where a program's time goes: its launches summed by op, against this machine's own ceilings."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from seqlib.train.profile import Row


class Ceilings(NamedTuple):
    """What the machine reached just now: products, and a copy (read plus write)."""

    flops: float  # a second
    bytes: float  # a second


def ceilings(size: int = 512, megabytes: int = 32, repeats: int = 60, half: bool = False) -> Ceilings:
    """Measure them, products in float32 or with `half` of bfloat16 by oneDNN; the best of many short runs, some of
    which no one else on the machine disturbs."""
    rng = np.random.default_rng(0)
    a, b = (rng.random((size, size), dtype=np.float32) for _ in range(2))
    product = np.empty_like(a)
    source = np.ones(megabytes << 18, np.float32)
    target = np.zeros_like(source)
    if half:
        from seqlib.core.backends import onednn_cpu

        gemm = min(_seconds(lambda: onednn_cpu.product(a, b, product, True)) for _ in range(repeats))
    else:
        gemm = min(_seconds(lambda: np.matmul(a, b, out=product)) for _ in range(repeats))
    copy = min(_seconds(lambda: np.copyto(target, source)) for _ in range(repeats))
    return Ceilings(2 * size**3 / gemm, 2 * source.nbytes / copy)


def _seconds(run: Any) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def report(table: list[Row], top: Ceilings, floor_flops: int, step_seconds: float) -> None:
    """Print the table, the ceilings and the floor of `floor_flops` of products."""
    total = sum(row.seconds for row in table)
    print(f"\nceilings now: {top.flops / 1e9:.0f} GFLOP/s in products, {top.bytes / 1e9:.1f} GB/s in copies")
    print(f"{'op':40s} {'launches':>8s} {'µs':>10s} {'share':>6s} {'GFLOP/s':>8s} {'GB/s':>6s}")
    for row in table:
        rate = f"{row.flops / row.seconds / 1e9:8.1f}" if row.flops else " " * 8
        print(
            f"{row.name[:40]:40s} {row.launches:8d} {row.seconds * 1e6:10.0f} {row.seconds / total:6.1%} {rate} "
            f"{row.bytes / row.seconds / 1e9:6.1f}"
        )
    floor = floor_flops / top.flops
    print(
        f"{'all launches':40s} {sum(row.launches for row in table):8d} {total * 1e6:10.0f}\n"
        f"floor: {floor_flops / 1e9:.1f} GFLOP of products, {floor * 1e3:.0f} ms at the measured rate; "
        f"the fastest step took {step_seconds / floor:.2f} times that"
    )
