"""Packing against length buckets against plain padding: train steps on Multi30k, alternating in one run.

    python benchmarks/batching.py --data FOLDER_OF_MULTI30K --threads 1
    python benchmarks/batching.py --models transformer --preset base --device cuda --tokens 8192 --steps 40

Every kind trains a model of its own, on consecutive batches of its shuffled epoch; what is compared is the time for
each 1,000 target tokens that are no padding, collating included. The Transformer and lstm_seq2seq have their Multi30k
presets (dropout and batch size as there) unless `--preset` names others; a recurrent model takes no packs. On a GPU
compute is in bf16, and the host waits for it once a measurement.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import _compare  # noqa: E402

MODELS = ("transformer", "lstm_seq2seq")


class Training:
    """A model trained on batches of one kind."""

    def __init__(self, model: str, kind: str, data: Any, options: argparse.Namespace):
        import importlib

        import msgspec
        import numpy as np

        from seqlib.core.rng import Generator
        from seqlib.data.epochs import Epochs
        from seqlib.optim import AdamW
        from seqlib.train.step import CompiledStep

        module: Any = importlib.import_module(f"seqlib.models.{model}")
        preset = getattr(module, options.preset)()
        config = preset.model
        if options.smoke:
            small = {"d_model": 16} | ({"hidden": 16} if model.startswith("lstm") else {"d_ff": 32})
            config = msgspec.structs.replace(config, **small)
        batch = preset.overrides()
        tokens, longest = (
            int(batch.get(f"batch.{name}", other)) for name, other in (("tokens", 2048), ("max_length", 128))
        )
        tokens = options.tokens or tokens
        built = module.build(config, data.spec, Generator(0)).train()
        if options.device == "cuda":
            built.compute_in("bfloat16").to("cuda")
        optimizer = AdamW(built.trainable_parameters(), lr=1e-4, clip_norm=1.0).to(options.device)
        self.step = CompiledStep(built, optimizer, Generator(1).to(options.device), 0.1)
        self.epochs = Epochs(data.train, data.digest, 1, tokens, longest, kind)
        self.plan = self.epochs.plan(0)
        self.spec, self.place, self._np = data.spec, 0, np
        seen = {batch[1:4]: number for number, batch in reversed(list(enumerate(self.plan.batches)))}
        for number in list(seen.values()) * 2:
            self._run([number])  # every shape: compiled, captured on a GPU, and touched

    def _run(self, numbers: Sequence[int]) -> int:
        """A step for each batch, and a wait for the last; the target tokens of all."""
        tokens, total, weight = 0, None, None
        for number in numbers:
            parts = self.epochs.collated(self.plan.batches[number], self.spec, 0)
            total, weight, _ = self.step(parts)
            tokens += sum(int(self._np.count_nonzero(part.tgt_out >= 0)) for part in parts)
        if total is None or weight is None or not 0.0 < total.item() / weight.item() < 100.0:
            raise SystemExit("the loss is out of bounds: the step is broken, its time means nothing")
        return tokens

    def measure(self, steps: int) -> Any:
        """The time of some steps, for each 1,000 target tokens."""
        tokens = 0

        def run() -> None:
            nonlocal tokens
            tokens = self._run([(self.place + n) % len(self.plan.batches) for n in range(steps)])
            self.place = (self.place + steps) % len(self.plan.batches)

        taken = _compare.Measure.of(run)
        return _compare.Measure(*(seconds * 1000 / tokens for seconds in taken))


def prepared(options: argparse.Namespace, folder: Path) -> Any:
    """Multi30k, or a few made-up pairs."""
    from seqlib.data.prepare import prepare
    from seqlib.problems import load_problem
    from seqlib.problems.translate_files import from_data

    if not options.smoke:
        return prepare(load_problem("translate_multi30k_ende", data_dir=options.data), folder, seed=1)
    for language, word in (("en", "a"), ("de", "x")):
        lines = (" ".join(f"{word}{k}" for k in range(n % 7 + 1)) + f" {n}\n" for n in range(300))
        (folder / f"c.{language}").write_text("".join(lines), encoding="utf-8")
    return prepare(from_data(f"{folder / 'c.en'},{folder / 'c.de'}"), folder, tokenizer="bytes")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=HERE.parent / "shared" / "data" / "multi30k")
    parser.add_argument("--steps", type=int, default=6, help="steps a measurement")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--preset", default="multi30k", help="of each model, by the name of its function")
    parser.add_argument("--tokens", type=int, default=0, help="of a batch and side, padding included; 0: the preset's")
    options = _compare.model_options(parser, MODELS, "batching.csv", arguments)

    import seqlib

    measured: _compare.Measures = {}
    with tempfile.TemporaryDirectory(prefix="seqlib-") as temporary:
        data = prepared(options, Path(temporary))
        for model in options.models.split(","):
            kinds = ("packing", "buckets", "padding") if model == "transformer" else ("buckets", "padding")
            trained = {kind: Training(model, kind, data, options) for kind in kinds}
            for kind, training in trained.items():
                plan = training.plan
                print(f"{model} {kind}: {plan.padding_share:.1%} padding, {len(plan.shapes)} shapes", flush=True)
            runs: dict[str, Callable[[], _compare.Measure]] = {
                f"{model} {kind}": lambda t=training: t.measure(1 if options.smoke else options.steps)
                for kind, training in trained.items()
            }
            found = _compare.alternate(runs, 2 if options.smoke else options.rounds)
            print("\nms for 1,000 target tokens:", end="")
            _compare.report(found, f"{model} {kinds[0]}")
            for name, measures in found.items():
                rates = _compare.Spread.of([1000 / m.wall for m in measures])
                print(f"{name}: {rates.median:,.0f} target tok/s (quartiles {rates.lower:,.0f} … {rates.upper:,.0f})")
            measured |= found
    if not options.smoke:
        _compare.write_csv(
            options.csv, measured, dict.fromkeys(measured, f"seqlib {seqlib.__version__}"), options.threads
        )


if __name__ == "__main__":
    main()
