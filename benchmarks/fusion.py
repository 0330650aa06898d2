"""Fusion on and off: launches, planned memory and time of a train step, both alternating in one run.

    python benchmarks/fusion.py --threads 1

The Transformer and lstm_seq2seq with their Multi30k presets (dropout as there), and the Transformer of C1; batches of
1,024 tokens a side (C1: 64 sentences of 24). A ratio below 1 says that fusion is faster.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import _compare  # noqa: E402

MODELS = ("transformer_multi30k", "transformer_c1", "lstm_seq2seq_multi30k")


class Step:
    """A compiled train step of a model over one batch, with fusion or without."""

    def __init__(self, name: str, smoke: bool):
        import msgspec
        import numpy as np

        from seqlib.core.rng import Generator
        from seqlib.data.batch import Batch
        from seqlib.models import lstm_seq2seq, transformer
        from seqlib.optim import AdamW
        from seqlib.problems.spec import ProblemSpec
        from seqlib.train.step import CompiledStep

        module: Any = lstm_seq2seq if name.startswith("lstm") else transformer
        rows, length, vocab = 42, 24, 4000
        if name.endswith("c1"):
            rows, vocab = 64, 8000
            config: Any = transformer.TransformerConfig(
                encoder_layers=3, decoder_layers=3, d_model=256, d_ff=1024, heads=4, attention_bias=True, ff_dropout=0.1
            )
        else:
            config = module.multi30k().model
        if smoke:
            small = {"d_model": 16} | ({"hidden": 16} if name.startswith("lstm") else {"d_ff": 32})
            config, rows, length, vocab = msgspec.structs.replace(config, **small), 3, 5, 50
        model = module.build(config, ProblemSpec(source_vocab=vocab, target_vocab=vocab), Generator(0)).train()
        optimizer = AdamW(model.trainable_parameters(), lr=1e-4, clip_norm=1.0)
        self.step = CompiledStep(model, optimizer, Generator(1), 0.1)
        rng, shape = np.random.default_rng(0), (rows, length)
        src, tgt_in, tgt_out = (rng.integers(3, vocab, shape).astype(np.int32) for _ in range(3))
        lengths = np.full(rows, length, np.int32)
        self.batch = Batch(src, lengths, tgt_in, tgt_out, lengths)
        self.programs: dict[str, Any] = {}

    def run(self, fuse: str) -> None:
        """One step with SEQLIB_FUSE=`fuse`, which is part of a program's key; its loss is looked at."""
        os.environ["SEQLIB_FUSE"] = fuse
        total, weight, _ = self.step([self.batch])
        if not 0.0 < total.item() / weight.item() < 100.0:
            raise SystemExit("the loss is out of bounds: the step is broken, its time means nothing")
        if fuse not in self.programs:
            self.programs[fuse] = self.step.built[-1][0]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options = _compare.model_options(parser, MODELS, "fusion.csv", arguments)

    import seqlib

    measured: _compare.Measures = {}
    for name in options.models.split(","):
        step = Step(name, options.smoke)
        runs: dict[str, Callable[[], _compare.Measure]] = {
            f"{name} {side}": lambda fuse=fuse, step=step: _compare.Measure.of(lambda: step.run(fuse))
            for side, fuse in (("fused", "1"), ("not fused", "0"))
        }
        _compare.alternate(runs, 2)  # compiles and warms both sides
        for side, fuse in (("fused", "1"), ("not fused", "0")):
            program = step.programs[fuse]
            print(f"{name} {side}: {program.launch_count} launches, {program.arena_bytes} bytes planned")
        found = _compare.alternate(runs, 2 if options.smoke else options.rounds)
        _compare.report(found, f"{name} fused")
        measured |= found
    if not options.smoke:
        _compare.write_csv(
            options.csv, measured, dict.fromkeys(measured, f"seqlib {seqlib.__version__}"), options.threads
        )


if __name__ == "__main__":
    main()
