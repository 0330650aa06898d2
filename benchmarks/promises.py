"""What the promises of docs/promises.md cost: each pair of runs alternates, and the ratio is with / without.

OPENBLAS_NUM_THREADS=1 python benchmarks/promises.py --rounds 9
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from unittest import mock

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import numpy as np  # noqa: E402
from _compare import Measure, Measures, Spread, alternate, processor  # noqa: E402

from seqlib.core.ops import product_numpy  # noqa: E402
from seqlib.core.rng import Generator  # noqa: E402
from seqlib.data.batch import Batch  # noqa: E402
from seqlib.decode.engine import Engine  # noqa: E402
from seqlib.models.transformer import Transformer, TransformerConfig, build  # noqa: E402
from seqlib.optim import AdamW  # noqa: E402
from seqlib.problems.spec import ProblemSpec  # noqa: E402
from seqlib.train import checkpoint  # noqa: E402
from seqlib.train.step import CompiledStep  # noqa: E402
from seqlib.util import manifest  # noqa: E402


def model_of(smoke: bool) -> tuple[Transformer, ProblemSpec]:
    """The multi30k shape without dropout."""
    sizes = {"encoder_layers": 1 if smoke else 4, "decoder_layers": 1 if smoke else 4, "d_model": 128, "d_ff": 256}
    drop = {"dropout": 0.0, "attention_dropout": 0.0, "ff_dropout": 0.0}
    vocabulary = 400 if smoke else 4000
    spec = ProblemSpec(source_vocab=vocabulary, target_vocab=vocabulary)
    return build(TransformerConfig(heads=4, **sizes, **drop), spec, Generator(1)), spec


def step(smoke: bool, rows: int, parts: int = 1) -> tuple[CompiledStep, list[Batch]]:
    """A training step of the multi30k shape without dropout, and its batches: `rows` sentences of 24 tokens."""
    model, spec = model_of(smoke)
    optimizer = AdamW(model.trainable_parameters(), lr=1e-3)
    drawn = np.random.default_rng(0).integers(4, spec.source_vocab, (rows, 24)).astype(np.int32)
    lengths = np.full(rows // parts, 24, np.int32)
    batches = [Batch(part, lengths, part, part, lengths) for part in np.split(drawn, parts)]
    return CompiledStep(model, optimizer, Generator(1), 0.1, accumulate=parts), batches


def fusion(smoke: bool) -> dict[str, Callable[[], object]]:
    """Compiled = eager to the bit holds with SEQLIB_FUSE=0; a program keeps the passes that it was built with."""
    rows = 8 if smoke else 64
    runs: dict[str, Callable[[], object]] = {}
    for name, setting in (("SEQLIB_FUSE=0", "0"), ("fusion", "")):
        with mock.patch.dict(os.environ, {"SEQLIB_FUSE": setting}):
            compiled, batches = step(smoke, rows)
            compiled(batches)
        runs[name] = lambda s=setting, c=compiled, b=batches: with_fusion(s, lambda: c(b))
    return runs


def with_fusion(setting: str, run: Callable[[], object]) -> None:
    with mock.patch.dict(os.environ, {"SEQLIB_FUSE": setting}):
        run()


def accumulation(smoke: bool) -> dict[str, Callable[[], object]]:
    """A step in four micro-batches and the same step undivided."""
    rows, runs = 8 if smoke else 64, {}
    for name, parts in (("4 micro-batches", 4), ("undivided", 1)):
        compiled, batches = step(smoke, rows, parts)
        compiled(batches)
        runs[name] = lambda c=compiled, b=batches: c(b)
    return runs


def invariance(smoke: bool, batch: int, beam: int) -> dict[str, Callable[[], object]]:
    """Decoding with products whose rows don't depend on each other, and with plain ones; 32 tokens a sentence."""
    model, spec = model_of(smoke)
    engine = Engine(model.eval(), spec)
    rng = np.random.default_rng(0)
    count, length = (2, 4) if smoke else (max(batch, 8), 32)
    sources = [rng.integers(4, spec.source_vocab, n).tolist() for n in rng.integers(6, 20, count)]

    def decode() -> None:
        for start in range(0, count, batch):
            engine.decode(sources[start : start + batch], beam=beam, max_length=length, min_length=length)

    def plain() -> None:
        with mock.patch("seqlib.core.ops.product_numpy.row_product", product_numpy.product):
            decode()

    decode()
    return {"independent rows": decode, "plain products": plain}


def saving(smoke: bool, folder: Path) -> dict[str, Callable[[], object]]:
    """A checkpoint (weights and two slots) with digests, synced and renamed, and the bare writing of its files."""
    rng, count = np.random.default_rng(0), 10_000 if smoke else 1_800_000
    model = {"w": rng.normal(size=count).astype(np.float32)}
    slots = {"m": model["w"] + 1, "v": model["w"] + 2}
    state = {"step": 1}

    def bare() -> None:
        with (
            mock.patch("seqlib.util.atomic._fsync", lambda path: None),
            mock.patch("seqlib.train.checkpoint.write_manifest", lambda path, version: None),
        ):
            checkpoint.save(folder / "bare", 1, model, slots, state)

    return {"safe checkpoint": lambda: checkpoint.save(folder / "safe", 1, model, slots, state), "bare files": bare}


def checking(smoke: bool, folder: Path) -> dict[str, Callable[[], object]]:
    """Reading 200 MB of prepared data against their manifest, and reading them."""
    place = folder / "prepared"
    place.mkdir()
    for number in range(4):
        (place / f"tokens{number}.bin").write_bytes(os.urandom(10_000 if smoke else 50_000_000))
    manifest.write_manifest(place, 1)
    return {
        "checked against the manifest": lambda: manifest.check_manifest(place, 1),
        "read": lambda: [path.read_bytes() for path in place.iterdir()],
    }


def show(title: str, found: Measures) -> None:
    """Median times of both runs and the spread of their ratio, pair by pair, on both clocks."""
    (one, with_), (two, without) = found.items()
    print(f"\n{title}")
    for clock in Measure._fields:
        first, second = ([getattr(measure, clock) for measure in runs] for runs in (with_, without))
        s = Spread.of([a / b for a, b in zip(first, second, strict=True)])
        print(
            f"  {clock:5s} {one} {1e3 * median(first):.1f} ms, {two} {1e3 * median(second):.1f} ms, "
            f"ratio {s.median:.2f} ({s.lower:.2f} … {s.upper:.2f})"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--smoke", action="store_true", help="tiny shapes, one round")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="seqlib-promises-"))
    print(f"{processor()}, {os.environ.get('OPENBLAS_NUM_THREADS', 'all')} BLAS threads")
    try:
        for title, runs in (
            ("compiled = eager to the bit: without fusion / with", fusion(given.smoke)),
            ("accumulation = the big batch", accumulation(given.smoke)),
            *(
                (
                    f"a sentence alone = in any batch: {batch} at a time, beam {beam}",
                    invariance(given.smoke, batch, beam),
                )
                for batch in (32, 7, 1)
                for beam in (1, 4)
            ),
            ("a kill at any moment: a checkpoint", saving(given.smoke, folder)),
            ("damage is found: prepared data at the start of a run", checking(given.smoke, folder)),
        ):
            timed = {name: lambda run=run: Measure.of(run) for name, run in runs.items()}
            show(title, alternate(timed, 1 if given.smoke else given.rounds))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
