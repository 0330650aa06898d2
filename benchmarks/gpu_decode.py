"""Translating on one GPU (W6): greedy and with a beam of 4, beside Hugging Face's Marian of the same size.

    python benchmarks/gpu_decode.py
    python benchmarks/gpu_decode.py --peers "" --profile        # ours alone, and where a step's time goes

A Transformer of 6+6 layers, width 512, 8 heads, feed-forward 2048, vocabulary 32000, random weights, in bf16; 64
sentences of 20 tokens, 32 tokens of output each. A measurement is one batch, from token ids on the host to token ids on
the host.
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

import numpy as np  # noqa: E402

SIZES = {"vocab": 32000, "width": 512, "heads": 8, "hidden": 2048, "layers": 6, "rows": 64, "source": 20, "target": 32}
SMALL = {"vocab": 100, "width": 32, "heads": 2, "hidden": 32, "layers": 1, "rows": 2, "source": 5, "target": 6}


class Ours:
    """Our engine over one batch of random sentences, none of which ends before the limit."""

    def __init__(self, sizes: dict[str, int], device: str):
        from seqlib.core.rng import Generator
        from seqlib.decode.engine import Engine
        from seqlib.models.transformer import TransformerConfig, build
        from seqlib.problems.spec import ProblemSpec

        config = TransformerConfig(
            encoder_layers=sizes["layers"], decoder_layers=sizes["layers"], d_model=sizes["width"],
            d_ff=sizes["hidden"], heads=sizes["heads"], max_length=512,
        )  # fmt: skip
        spec = ProblemSpec(source_vocab=sizes["vocab"], target_vocab=sizes["vocab"])
        model = build(config, spec, Generator(0)).eval()
        weights = model.state_dict()
        for value in weights.values():
            if value.shape == (sizes["vocab"], sizes["width"]):
                value[spec.eos_id] = 0.0  # a logit of 0: others are always more probable
        model.load(weights)
        if device == "cuda":
            model.compute_in("bfloat16")
        self.engine = Engine(model.to(device), spec)
        rng = np.random.default_rng(0)
        self.sources = rng.integers(4, sizes["vocab"], (sizes["rows"], sizes["source"])).tolist()
        self.tokens, self.target = sizes["rows"] * sizes["target"], sizes["target"]

    def run(self, beam: int, on_device: bool | None = None) -> list[tuple[int, ...]]:
        """One batch; the tokens of every sentence."""
        self.engine.search_on_device = on_device
        found = self.engine.decode(self.sources, beam=beam, max_length=self.target)
        tokens = [answer[0].tokens for answer in found]
        if sum(map(len, tokens)) != self.tokens:
            raise SystemExit(f"beam {beam}: {sum(map(len, tokens))} tokens instead of {self.tokens}")
        return tokens

    def profile(self, beam: int) -> None:
        """The launches of one step, by op."""
        from collections import defaultdict

        place = next(p for p in reversed(self.engine.programs._places.values()) if p.size.beams == beam)
        (state,) = place.searches.values()
        state.held["position"].assign(np.array(self.target // 2, np.int32))
        program = state._step.lower()
        seconds = np.median(program.profile([], repeats=min(8, self.target // 2)), axis=0)
        table: defaultdict[str, list[float]] = defaultdict(list)
        for launch, s in zip(program.plan.launches, seconds, strict=True):
            table[launch.name].append(s)
        print(f"\nbeam {beam}: {program.summary()}; {seconds.sum() * 1e3:.3f} ms, each launch by itself")
        for name, times in sorted(table.items(), key=lambda item: -sum(item[1])):
            print(f"  {name[:40]:40s} {len(times):4d} {sum(times) * 1e3:8.3f} ms")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default="hf", help="hf; empty: none")
    parser.add_argument("--peer-python", default=sys.executable, help="a Python that has PyTorch and transformers")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each")
    parser.add_argument("--profile", action="store_true", help="the launches of a step, by op")
    parser.add_argument("--csv", type=Path, default=HERE / "results" / "gpu_decode.csv")
    parser.add_argument("--smoke", action="store_true", help="a tiny model: does the script run?")
    options = parser.parse_args(arguments)

    import _compare

    import seqlib

    sizes = SMALL if options.smoke else SIZES
    ours = Ours(sizes, options.device)
    measured: _compare.Measures = {}
    versions: dict[str, str] = {}
    peer = None
    if options.peers:
        flags = [f"--{name}={value}" for name, value in sizes.items()]
        try:
            peer = _compare.Peer(options.peer_python, "hf_gpu.py", flags, dict(os.environ))
        except _compare.PeerError as error:
            print(f"{options.peers} is left out: {error}")
    for beam in (1, 4):
        same = ours.run(beam, True) == ours.run(beam, False)
        print(f"beam {beam}: the search on the device and on the host find the same tokens: {same}")
        name = f"seqlib beam {beam}"
        runs: dict[str, Callable[[], Any]] = {
            name: lambda beam=beam: _compare.Measure.of(lambda: ours.run(beam, True)),
            f"{name}, search on the host": lambda beam=beam: _compare.Measure.of(lambda: ours.run(beam, False)),
        }
        if peer is not None:
            runs[f"hf beam {beam}"] = lambda beam=beam: peer.run(f"beam {beam} bf16")
        _compare.alternate(runs, 2)
        found = _compare.alternate(runs, options.rounds)
        _compare.report(found, name)
        for run, measures in found.items():
            rate = ours.tokens / _compare.Spread.of([m.wall for m in measures]).median
            print(f"{run}: {rate:,.0f} tokens/s, {1e3 * sizes['rows'] / rate:.3f} ms a step")
            versions[run] = f"seqlib {seqlib.__version__}" if run.startswith("seqlib") or peer is None else peer.about
        measured |= found
        if options.profile:
            ours.profile(beam)
    if peer is not None:
        peer.close()
        _compare.write_csv(options.csv, measured, versions, len(os.sched_getaffinity(0)))


if __name__ == "__main__":
    main()
