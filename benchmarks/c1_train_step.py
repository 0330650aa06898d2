"""C1: a train step of a small translation Transformer on the CPU, ours and PyTorch's, alternating in one run.

3+3 layers, width 256, 4 heads, feed-forward 1024, one vocabulary of 8000 tied three ways, 64 sentences of 24 tokens
a side, all full; float32, Adam, label smoothing 0.1, dropout 0.1 everywhere. The same threads for both.

    python benchmarks/c1_train_step.py --peer-python PATH_OF_A_PYTHON_WITH_TORCH
    python benchmarks/c1_train_step.py --profile        # where our step's time goes
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

OURS = "seqlib compiled fp32"
DROPOUT, SMOOTHING = 0.1, 0.1


class Sizes(NamedTuple):
    """The workload's shape."""

    vocab: int = 8000
    width: int = 256
    heads: int = 4
    hidden: int = 1024
    layers: int = 3
    rows: int = 64
    length: int = 24


SMOKE = Sizes(vocab=50, width=16, heads=2, hidden=32, layers=1, rows=3, length=5)


def product_flops(s: Sizes) -> int:
    """Floating-point operations of all matrix products of one step: forward and twice that backward."""
    tokens = s.rows * s.length
    encoder = 4 * s.width**2 + 2 * s.width * s.hidden
    decoder = 8 * s.width**2 + 2 * s.width * s.hidden
    scores = 3 * 2 * s.layers * tokens * s.length * s.width  # three attentions a layer pair, two products each
    return 6 * (tokens * (s.layers * (encoder + decoder) + s.vocab * s.width) + scores)


class Ours:
    """Our compiled train step over one batch."""

    def __init__(self, sizes: Sizes):
        import numpy as np

        from seqlib.core.rng import Generator
        from seqlib.data.batch import Batch
        from seqlib.models.transformer import TransformerConfig, build
        from seqlib.optim import AdamW
        from seqlib.problems.spec import ProblemSpec
        from seqlib.train.step import CompiledStep

        config = TransformerConfig(
            encoder_layers=sizes.layers,
            decoder_layers=sizes.layers,
            d_model=sizes.width,
            d_ff=sizes.hidden,
            heads=sizes.heads,
            attention_bias=True,
            dropout=DROPOUT,
            attention_dropout=DROPOUT,
            ff_dropout=DROPOUT,
        )
        spec = ProblemSpec(source_vocab=sizes.vocab, target_vocab=sizes.vocab)
        model = build(config, spec, Generator(0)).train()
        optimizer = AdamW(model.trainable_parameters(), lr=1e-4, betas=(0.9, 0.98), eps=1e-9)
        self.step: Any = CompiledStep(model, optimizer, Generator(1), SMOOTHING)
        rng, shape = np.random.default_rng(0), (sizes.rows, sizes.length)
        src, tgt_in, tgt_out = (rng.integers(3, sizes.vocab, shape).astype(np.int32) for _ in range(3))
        lengths = np.full(sizes.rows, sizes.length, np.int32)
        self.batch = Batch(src, lengths, tgt_in, tgt_out, lengths)

    def run(self) -> None:
        """One step; its loss is read and looked at."""
        total, weight, _ = self.step([self.batch])
        loss = total.item() / weight.item()
        if not 0.0 < loss < 100.0:
            raise SystemExit(f"the loss is {loss}: the step is broken, its time means nothing")

    @property
    def program(self) -> Any:
        """The one program that the steps run."""
        return self.step.lower([self.batch])[0]


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--peer-python",
        default=os.environ.get("SEQLIB_PEER_PYTHON"),
        help="a Python that imports torch; also SEQLIB_PEER_PYTHON",
    )
    parser.add_argument("--peers", help="comma-separated: only these of the peer's cases")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="for both sides")
    parser.add_argument("--rounds", type=int, default=9, help="measurements of each side")
    parser.add_argument("--profile", action="store_true", help="also our step by op, against the machine's ceilings")
    parser.add_argument("--detail", action="store_true", help="with --profile: by op and shapes")
    parser.add_argument("--csv", type=Path, default=HERE / "results" / "c1_train_step.csv")
    parser.add_argument("--smoke", action="store_true", help="a tiny shape, ours alone: does the script run?")
    options = parser.parse_args(arguments)
    if options.threads < 1 or options.rounds < 1:
        parser.error("--threads and --rounds should be at least 1")
    if options.smoke:
        options.peer_python, options.rounds = None, 2
    return options


def start_peer(options: argparse.Namespace, sizes: Sizes) -> Any:
    """The peer's process, or None with a line that says why there is none."""
    from _compare import Peer, PeerError

    if not options.peer_python:
        print("no peer: give --peer-python (or SEQLIB_PEER_PYTHON) a Python that has torch; ours is measured alone")
        return None
    arguments = [f"--{name}={value}" for name, value in sizes._asdict().items()]
    arguments += [f"--threads={options.threads}", f"--dropout={DROPOUT}", f"--smoothing={SMOOTHING}"]
    try:
        return Peer(options.peer_python, "torch_translation.py", arguments, dict(os.environ))
    except PeerError as error:
        print(f"no peer: {error}; ours is measured alone")
        return None


def choose(peer: Any, wanted: str | None) -> list[str]:
    """The peer's cases to run."""
    if wanted is None:
        return peer.names
    names = [name.strip() for name in wanted.split(",")]
    if unknown := [name for name in names if name not in peer.names]:
        raise SystemExit(f"--peers: {', '.join(unknown)}: expected some of {', '.join(peer.names)}")
    return names


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = str(options.threads)  # read when NumPy and Numba are first imported
    import _compare
    import _profile

    import seqlib
    from seqlib.train.profile import launches_by_op

    sizes = SMOKE if options.smoke else Sizes()
    peer = start_peer(options, sizes)
    ours = Ours(sizes)
    runs: dict[str, Callable[[], _compare.Measure]] = {OURS: lambda: _compare.Measure.of(ours.run)}
    versions = {OURS: f"seqlib {seqlib.__version__}"}
    if peer is not None:
        for case in choose(peer, options.peers):
            name = f"torch {case}"
            runs[name], versions[name] = (lambda case=case: peer.run(case)), peer.about.partition(" (")[0]
    if peer is not None:
        print(f"peer: {peer.about}")
    _compare.alternate(runs, 2)  # compiles and warms both sides
    print(f"{ours.program.summary()}; {options.threads} threads; {_compare.processor()}")
    found = _compare.alternate(runs, options.rounds)
    _compare.report(found, OURS)
    if peer is not None:
        peer.close()
        _compare.write_csv(options.csv, found, versions, options.threads)
    if options.profile:
        top = _profile.ceilings(size=64, megabytes=1) if options.smoke else _profile.ceilings()
        table = launches_by_op(ours.program, [a for a in ours.batch if a is not None], options.rounds, options.detail)
        step = min(m.wall for m in found[OURS])
        _profile.report(table, top, product_flops(sizes), step)


if __name__ == "__main__":
    main()
