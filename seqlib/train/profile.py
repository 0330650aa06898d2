"""Where a training step's time goes: its launches by op, beside what this machine reaches just now."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import seqlib
from seqlib.core import ops
from seqlib.core.backends import place as placed
from seqlib.core.rng import Generator
from seqlib.core.tensor import Tensor
from seqlib.train.config import RunConfig
from seqlib.train.setup import place
from seqlib.train.sizing import Subject
from seqlib.train.step import step_of
from seqlib.util.table import text_table


class Row(NamedTuple):
    """All launches of one op (or of one op with inputs of the same shapes), by the least seconds of each."""

    name: str
    launches: int
    seconds: float
    flops: int
    bytes: int


class Profile(NamedTuple):
    """The launches of a step, longest first; products and copies a second are what the machine reached."""

    device: str
    shape: dict[str, int]
    rows: list[Row]
    flops_per_second: float
    bytes_per_second: float

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return self._asdict() | {"rows": [row._asdict() for row in self.rows]}

    def text(self) -> str:
        """The page."""
        total = sum(row.seconds for row in self.rows)
        lines = [
            (
                row.name,
                str(row.launches),
                f"{row.seconds * 1e6:,.0f}",
                f"{row.seconds / total:.1%}",
                f"{row.flops / row.seconds / 1e9:,.1f}" if row.flops else "",
                f"{row.bytes / row.seconds / 1e9:,.1f}",
            )
            for row in (*self.rows, Row("all", *(sum(column) for column in list(zip(*self.rows, strict=True))[1:])))
        ]
        sizes = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in self.shape.items())
        return (
            f"a step of {sizes} on {self.device}; reached now: {self.flops_per_second / 1e9:,.0f} GFLOP/s in products, "
            f"{self.bytes_per_second / 1e9:,.1f} GB/s in copies\n\n"
            + text_table(("op", "launches", "µs", "share", "GFLOP/s", "GB/s"), lines, right=range(1, 6))
        )


def launches_by_op(program: Any, arrays: Sequence[Any], repeats: int, by_shapes: bool = False) -> list[Row]:
    """Each launch's least seconds of `repeats` runs on `arrays`, summed by op (or by op and shapes of its inputs), the
    longest first. The least, since what others do on the machine only adds."""
    seconds = program.profile(arrays, repeats).min(axis=0)
    groups: defaultdict[str, list[int]] = defaultdict(list)
    launches = program.plan.launches
    for i, launch in enumerate(launches):
        shapes = [str(list(p.meta.shape)) for p in launch.ins if p is not None] if by_shapes else []
        groups[" ".join([launch.name, *shapes])].append(i)
    rows = [
        Row(
            name,
            len(some),
            float(seconds[some].sum()),
            sum(launches[i].flops for i in some),
            sum(launches[i].nbytes for i in some),
        )
        for name, some in groups.items()
    ]
    return sorted(rows, key=lambda row: -row.seconds)


def profile(subject: Subject, config: RunConfig, batch: Any, repeats: int, by_shapes: bool) -> Profile:
    """Of a training step of the subject's model over a batch as `sizing.sample_batch` gives, with random token ids.
    Raises UsageError and CudaMissing for a device or precision that can't be had."""
    generator = Generator(config.seed)
    model = subject.model.train()
    optimizer, precision = place(config, model, generator)
    step: Any = step_of(config, model, optimizer, generator, accumulate=1)
    batch = _filled(batch, min(subject.spec.source_vocab, subject.spec.target_vocab))
    for _ in range(2):
        step([batch])
    ((program, _),) = step.built
    rows = launches_by_op(program, [array for array in batch if array is not None], repeats, by_shapes)
    device = program.graph.device
    return Profile(f"{device} ({precision})", batch.sizes(), rows, *_ceilings(device, precision.compute))


def _filled(batch: Any, vocab: int) -> Any:
    rng = np.random.default_rng(0)
    ids = {"src", "tgt_in", "tgt_out", "ids", "inputs"} | ({"targets"} if hasattr(batch, "inputs") else set())
    return batch._replace(
        **{name: rng.integers(3, vocab, x.shape).astype(np.int32) for name, x in batch._asdict().items() if name in ids}
    )


def _ceilings(device: str, compute: str) -> tuple[float, float]:
    """FLOP/s of a large product and bytes a second, read and written, of a change of sign: the best of 20."""
    found: list[float] = []
    for fn, shapes, of in ((ops.matmul, [(1024, 1024)] * 2, "flops"), (lambda x: -x, [(1 << 23,)], "nbytes")):
        tensors = [Tensor(placed(np.ones(shape, np.float32), device)).astype(compute) for shape in shapes]
        compiled = seqlib.compile(fn)
        compiled(*tensors)
        program = compiled.programs[0]
        seconds = program.profile([tensor.data for tensor in tensors], 20).sum(axis=1).min()
        found.append(sum(getattr(launch, of) for launch in program.plan.launches) / float(seconds))
    return found[0], found[1]
