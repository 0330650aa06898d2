"""Training on one GPU: is it right, how fast is it beside PyTorch and JAX, and where does the time go.

    python benchmarks/gpu_train.py                      # everything
    python benchmarks/gpu_train.py parity               # losses against a float64 run on the CPU; twice the same bits
    python benchmarks/gpu_train.py w2 --peers torch     # the named peers alone
    python benchmarks/gpu_train.py w1 --peers jax --attention-dropout 0 --no-profile

W1: Transformer-base, 6+6 layers, width 512, 8 heads, feed-forward 2048, one vocabulary of 32768, 256 sentences of 64
tokens a side, all full; Adam, label smoothing 0.1, dropout 0.1 everywhere. JAX's fused attention has none: for a
comparison with it, `--attention-dropout 0`. W2: GPT-2 with 124 million parameters, 16 texts of 1024 tokens, a
vocabulary of 50304, AdamW, no dropout. W3: a language model of 2 LSTM layers, 1500 wide (Zaremba et al.'s
large one), a vocabulary of 10000, 20 rows of 35 tokens, dropout 0.5, SGD, gradients clipped to a norm of 5. A
measurement is of ten steps and a wait for the GPU.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import numpy as np  # noqa: E402
from c1_train_step import Sizes, product_flops  # noqa: E402

W1 = Sizes(vocab=32768, width=512, heads=8, hidden=2048, layers=6, rows=256, length=64)
W2 = {"vocab": 50304, "d_model": 768, "heads": 12, "layers": 12}
W2_SHAPE = 16, 1024
W3 = {"vocab": 10000, "d_model": 1500, "hidden": 1500, "layers": 2}
W3_SHAPE = 20, 35
SMALL_W3 = {"vocab": 500, "d_model": 96, "hidden": 96, "layers": 2}
SMALL = Sizes(vocab=1000, width=128, heads=4, hidden=256, layers=2, rows=16, length=24)
STEPS = 10
SMOOTHING = 0.1
KINDS = {
    "products, with what they take along": ("matmul",),
    "output layer and loss": ("linear_cross_entropy", "cross_entropy"),
    "attention": ("attention",),
    "norms, with residual sums and dropout": ("layer_norm", "rms_norm", "add_"),
    "optimizer and the norm of gradients": ("adamw", "global_norm"),
    "other dropout": ("dropout",),
    "sums for biases": ("sum",),
    "recurrent layers": ("lstm", "gru"),
    "embeddings and positions": ("embedding", "rotary"),
}
"""Ops by how their names begin; the rest is copies and elementwise."""
PEERS = {"torch": "torch_gpu.py", "jax": "jax_gpu.py"}


class Ours:
    """A training step of ours over batches of one shape."""

    def __init__(
        self,
        sizes: Sizes,
        device: str = "cuda",
        dtype: Any = np.float32,
        attention: float = 0.1,
        compute: str = "float32",
        lr: float = 1e-3,
    ):
        from seqlib.core.rng import Generator
        from seqlib.models.transformer import TransformerConfig, build
        from seqlib.optim import AdamW
        from seqlib.problems.spec import ProblemSpec
        from seqlib.train.step import CompiledStep

        config = TransformerConfig(
            encoder_layers=sizes.layers, decoder_layers=sizes.layers, d_model=sizes.width, d_ff=sizes.hidden,
            heads=sizes.heads, attention_bias=True, attention_dropout=attention,
        )  # fmt: skip
        self.sizes = sizes
        self.model = build(config, ProblemSpec(source_vocab=sizes.vocab, target_vocab=sizes.vocab), Generator(0))
        for parameter in self.model.train().parameters():
            parameter.data = parameter.data.astype(dtype)
        if compute != "float32":
            self.model.compute_in(compute)
        self.model.to(device)
        optimizer = AdamW(self.model.trainable_parameters(), lr=lr, betas=(0.9, 0.98), clip_norm=1.0).to(device)
        self.step: Any = CompiledStep(self.model, optimizer, Generator(1).to(device), SMOOTHING)

    def batch(self, seed: int, ragged: bool = False) -> Any:
        """A batch of random tokens; `ragged`: of sentences of half to full length."""
        from seqlib.data.batch import Batch

        s, rng = self.sizes, np.random.default_rng(seed)
        src, tgt_in, tgt_out = (rng.integers(3, s.vocab, (s.rows, s.length)).astype(np.int32) for _ in range(3))
        lengths = rng.integers(s.length // 2 if ragged else s.length, s.length + 1, s.rows).astype(np.int32)
        tgt_out[np.arange(s.length) >= lengths[:, None]] = -1
        return Batch(src, lengths, tgt_in, tgt_out, lengths)

    def losses(self, steps: int) -> np.ndarray:
        """The mean losses of `steps` steps over different batches, float64 [steps]."""
        found = [self.step([self.batch(n, True)])[:2] for n in range(steps)]
        return np.array([float(total.item()) / float(weight.item()) for total, weight in found])

    @property
    def program(self) -> Any:
        """The one program that the steps run."""
        ((program, _),) = self.step.built
        return program

    @property
    def tokens(self) -> int:
        """Of a step, both sides."""
        return 2 * self.sizes.rows * self.sizes.length

    @property
    def flops(self) -> int:
        """Of a step's matrix products."""
        return product_flops(self.sizes)


class Text(Ours):
    """A training step of GPT-2 (W2)."""

    def __init__(self, compute: str):
        from seqlib.core.rng import Generator
        from seqlib.models.gpt2 import GPT2, GPT2Config
        from seqlib.optim import AdamW
        from seqlib.train.step import CompiledStep

        self.model = GPT2(GPT2Config(**W2, dropout=0.0), Generator(0)).train()
        if compute != "float32":
            self.model.compute_in(compute)
        self.model.to("cuda")
        optimizer = AdamW(self.model.trainable_parameters(), lr=1e-4, weight_decay=0.01).to("cuda")
        self.step: Any = CompiledStep(self.model, optimizer, Generator(1).to("cuda"), 0.0)

    def batch(self, seed: int, ragged: bool = False) -> Any:
        """A batch of random tokens."""
        from seqlib.data.batch import TextBatch

        rng = np.random.default_rng(seed)
        return TextBatch(*(rng.integers(0, W2["vocab"], W2_SHAPE).astype(np.int32) for _ in range(2)))

    @property
    def tokens(self) -> int:
        """Of a step."""
        return W2_SHAPE[0] * W2_SHAPE[1]

    @property
    def flops(self) -> int:
        """Of a step's matrix products, those of attention over half of the pairs."""
        d, layers, length = W2["d_model"], W2["layers"], W2_SHAPE[1]
        return 6 * self.tokens * (layers * (12 * d * d + length * d) + W2["vocab"] * d)


class Words(Ours):
    """A training step of an LSTM language model (W3)."""

    def __init__(
        self,
        config: dict[str, int],
        device: str = "cuda",
        dtype: Any = np.float32,
        compute: str = "float32",
        shape: tuple[int, int] = W3_SHAPE,
    ):
        from seqlib.core.rng import Generator
        from seqlib.models.lstm_lm import LSTMLM, LSTMLMConfig
        from seqlib.optim import SGD
        from seqlib.train.step import CompiledStep

        self.config, self.shape = config, shape
        self.model = LSTMLM(LSTMLMConfig(**config, tie_output=False), Generator(0)).train()
        for parameter in self.model.parameters():
            parameter.data = parameter.data.astype(dtype)
        if compute != "float32":
            self.model.compute_in(compute)
        self.model.to(device)
        optimizer = SGD(self.model.trainable_parameters(), lr=0.1, clip_norm=5.0).to(device)
        self.step: Any = CompiledStep(self.model, optimizer, Generator(1).to(device), 0.0)

    def batch(self, seed: int, ragged: bool = False) -> Any:
        """A batch of random tokens."""
        from seqlib.models.gpt2 import TextBatch

        rng = np.random.default_rng(seed)
        return TextBatch(*(rng.integers(0, self.config["vocab"], self.shape).astype(np.int32) for _ in range(2)))

    @property
    def tokens(self) -> int:
        """Of a step."""
        return self.shape[0] * self.shape[1]

    @property
    def flops(self) -> int:
        """Of a step's matrix products."""
        d = self.config["hidden"]
        return 6 * self.tokens * (self.config["layers"] * 8 * d * d + self.config["vocab"] * d)


def parity(name: str, make: Callable[..., Ours], steps: int, device: str, compute: str = "float32") -> bool:
    """Losses and weights after some steps of a small model on the GPU, against float64 on the CPU; and a second run.

    Float32 is held to twice the error of float32 on the CPU; half precision is told.
    """
    exact = make("cpu", np.float64).losses(steps)
    plain = make("cpu").losses(steps)
    runs = [make(device, compute=compute) for _ in range(2)]
    curves = [run.losses(steps) for run in runs]
    weights = [{n: p.numpy().tobytes() for n, p in run.model.named_parameters().items()} for run in runs]
    norm = float(np.linalg.norm(exact))
    here, there = (float(np.linalg.norm(c - exact)) / norm for c in (curves[0], plain))
    same = curves[0].tobytes() == curves[1].tobytes() and weights[0] == weights[1]
    first, last = (f"{curve[0]:.5f} … {curve[-1]:.5f}" for curve in (curves[0], exact))
    print(f"\nparity of {name}, {steps} steps {compute}: losses {first} (float64 on the CPU: {last})")
    print(f"  relative error: {device} {here:.2e}, float32 on the CPU {there:.2e}")
    fits = here <= 2 * there
    if compute == "float32":
        print(f"  at most 2 times that: {fits}")
    print(f"  twice the same bits, losses and weights: {same}")
    return same and (fits or compute != "float32")


class Speed:
    """Our step on the GPU, measured."""

    def __init__(self, make: Callable[[], Ours]):
        from seqlib.core.backends.cuda import cuda

        self.cuda = cuda()
        start = time.perf_counter()
        self.ours = make()
        self.batches = [self.ours.batch(n) for n in range(4)]
        built = time.perf_counter()
        self._loss(0)
        first = time.perf_counter()
        self._loss(1)
        print(
            f"  model {built - start:.1f} s, first step {first - built:.1f} s, second (captured) "
            f"{time.perf_counter() - first:.1f} s; {self.ours.program.summary()}"
        )

    def _loss(self, number: int) -> float:
        total, weight, _ = self.ours.step([self.batches[number % 4]])
        return float(total.item()) / float(weight.item())

    def run(self) -> None:
        """STEPS steps, the last one's loss looked at, which waits for the GPU."""
        for n in range(STEPS - 1):
            self.ours.step([self.batches[n % 4]])
        loss = self._loss(STEPS)
        if not 0.0 < loss < 100.0:
            raise SystemExit(f"the loss is {loss}: the step is broken, its time means nothing")

    def host(self) -> tuple[float, float]:
        """Seconds that the host needs for a step, medians of 20: of one that is launched while the GPU is at the one
        before, and of one that is launched while the GPU is idle (the host has waited, its caches are cold)."""
        found: list[tuple[float, float]] = []
        for n in range(20):
            self.cuda.synchronize()
            times = [time.perf_counter()]
            for _ in range(2):
                self.ours.step([self.batches[n % 4]])
                times.append(time.perf_counter())
            found.append((times[2] - times[1], times[1] - times[0]))
        return float(np.median([f[0] for f in found])), float(np.median([f[1] for f in found]))

    def host_profile(self, steps: int = 50) -> None:
        """Where the host's time of steps goes, by function."""
        import cProfile
        import pstats

        profile = cProfile.Profile()
        for n in range(steps):
            self.cuda.synchronize()
            profile.enable()
            self.ours.step([self.batches[n % 4]])
            profile.disable()
        print(f"\nthe host's time of {steps} steps:")
        pstats.Stats(profile, stream=sys.stdout).sort_stats("tottime").print_stats(14)

    def memory(self) -> float:
        """Bytes that CuPy's pool took from the device."""
        return float(self.cuda.xp.get_default_memory_pool().total_bytes())

    def profile(self, repeats: int = 5) -> None:
        """The launches by op against their floors: at the measured rates, the slower of arithmetic and memory."""
        from seqlib.train.profile import launches_by_op

        flops, copy = ceilings(self.cuda)
        arrays = [array for array in self.batches[0] if array is not None]
        table = launches_by_op(self.ours.program, arrays, repeats)
        named = ", ".join(f"{name} {rate / 1e12:.0f} TFLOP/s" for name, rate in flops.items())
        print(f"\nceilings now: {named} in products; {copy / 1e12:.2f} TB/s in copies")
        print(f"{'op':30s} {'launches':>8s} {'ms':>8s} {'floor':>8s} {'× floor':>7s} {'share':>6s}")
        floors = self._floors(flops, copy)
        total, least = sum(r.seconds for r in table), sum(floors.values())
        for row in table:
            floor = floors[row.name]
            print(
                f"{row.name[:30]:30s} {row.launches:8d} {row.seconds * 1e3:8.3f} {floor * 1e3:8.3f} "
                f"{row.seconds / max(floor, 1e-9):7.1f} {row.seconds / total:6.1%}"
            )
        print(f"{'all':30s} {sum(r.launches for r in table):8d} {total * 1e3:8.3f} {least * 1e3:8.3f}")
        self._by_kind(table, floors)
        detailed = launches_by_op(self.ours.program, arrays, 1, True)[:25]
        print("\nthe slowest by shapes, ms of all launches:")
        for row in detailed:
            rate = f"{row.flops / row.seconds / 1e12:7.1f} TFLOP/s" if row.flops else " " * 15
            memory = f"{row.bytes / row.seconds / 1e12:6.2f} TB/s"
            print(f"{row.seconds * 1e3:8.3f} {row.launches:4d} {rate} {memory}  {row.name[:150]}")

    def _by_kind(self, table: list[Any], floors: dict[str, float]) -> None:
        """The same by kind of work, and what is left of the step as a graph."""
        kinds: dict[str, list[Any]] = {}
        for row in table:
            found = (kind for kind, starts in KINDS.items() if row.name.startswith(starts))
            kinds.setdefault(next(found, "copies and elementwise"), []).append(row)
        print("\n| | launches | ms | floor |\n|---|---|---|---|")
        for kind, rows in sorted(kinds.items(), key=lambda item: -sum(r.seconds for r in item[1])):
            seconds, floor = sum(r.seconds for r in rows), sum(floors[r.name] for r in rows)
            print(f"| {kind} | {sum(r.launches for r in rows)} | {seconds * 1e3:.2f} | {floor * 1e3:.2f} |")
        print(
            f"launches one by one {sum(r.seconds for r in table) * 1e3:.2f} ms, "
            f"the step as a graph {self.graph_seconds() * 1e3:.2f} ms"
        )

    def graph_seconds(self, repeats: int = 20) -> float:
        """Seconds of the GPU for a step that was captured, least of some."""
        events = [self.cuda.xp.cuda.Event() for _ in range(2)]
        found: list[float] = []
        for n in range(repeats):
            events[0].record(self.cuda.stream)
            self.ours.step([self.batches[n % 4]])
            events[1].record(self.cuda.stream)
            events[1].synchronize()
            found.append(self.cuda.xp.cuda.get_elapsed_time(*events) / 1e3)
        return min(found)

    def _floors(self, flops: dict[str, float], copy: float) -> dict[str, float]:
        """Seconds by op below which its launches can't be."""
        found: dict[str, float] = {}
        for launch in self.ours.program.plan.launches:
            dtype = next((str(p.meta.dtype) for p in launch.ins if p is not None and p.meta.size > 1), "float32")
            rate = flops.get(dtype, flops["float32"])
            found[launch.name] = found.get(launch.name, 0.0) + max(launch.flops / rate, launch.nbytes / copy)
        return found


def ceilings(cuda: Any) -> tuple[dict[str, float], float]:
    """FLOP/s of large products by dtype, and bytes/s of a large copy (read plus written), best of several."""
    from seqlib.core.ops.product_cuda import product

    xp, rates, size = cuda.xp, {}, 8192

    def best(run: Callable[[], None]) -> float:
        return min(cuda.timed([(lambda *_: run(), None, None, None, {}, False)] * 12)[2:])

    with cuda.stream:
        for dtype in ("float32", "bfloat16"):
            a, b = (xp.random.standard_normal((size, size), xp.float32).astype(_dtype(dtype)) for _ in range(2))
            out = xp.empty_like(a)
            rates[dtype] = 2 * size**3 / best(lambda a=a, b=b, out=out: product(a, b, out))
        source = xp.ones(1 << 28, xp.float32)
        target = xp.empty_like(source)
        return rates, 2 * source.nbytes / best(lambda: xp.copyto(target, source))


def _dtype(name: str) -> Any:
    from seqlib.core import dtypes

    return dtypes.canonical(name)


def start_peers(names: list[str], python: str) -> Iterator[tuple[str, Any]]:
    """The peers' processes, which build their cases at once; a line for one that can't be started."""
    from _compare import Peer, PeerError

    arguments = [f"--{name}={value}" for name, value in W1._asdict().items()] + [f"--steps={STEPS}"]
    arguments.append(f"--text={','.join(map(str, (*W2.values(), *W2_SHAPE)))}")
    arguments.append(f"--words={','.join(map(str, (W3['vocab'], W3['hidden'], W3['layers'], *W3_SHAPE)))}")
    for name in names:
        try:
            yield name, Peer(python, PEERS[name], arguments, dict(os.environ))
        except PeerError as error:
            print(f"{name} is left out: {error}")


def compare(workload: str, make: Callable[[], Ours], options: argparse.Namespace) -> None:
    """A workload ("w1", "w2", "w3") beside its peers, in turn."""
    import _compare

    dropout = f", attention dropout {options.attention_dropout}" if workload == "w1" else ""
    print(f"\n{workload.upper()}, ours {options.compute}{dropout}")
    speed = Speed(make)
    runs: dict[str, Callable[[], _compare.Measure]] = {"seqlib": lambda: _compare.Measure.of(speed.run)}
    peers = dict(start_peers([p for p in options.peers.split(",") if p], options.peer_python))
    for name, peer in peers.items():
        print(f"peer: {peer.about}")
        for case in (name for name in peer.names if name.startswith(workload)):
            runs[f"{name} {case}"] = lambda peer=peer, case=case: peer.run(case)
    start = time.perf_counter()
    _compare.alternate(runs, 2)  # compiles and warms all sides
    print(f"  all warm after {time.perf_counter() - start:.0f} s; {STEPS} steps a measurement")
    found = _compare.alternate(runs, options.rounds)
    _compare.report(found, "seqlib")
    for peer in peers.values():
        peer.close()
    step, (host, cold) = min(m.wall for m in found["seqlib"]) / STEPS, speed.host()
    print(
        f"\nours: {step * 1e3:.2f} ms a step ({speed.ours.tokens / step:,.0f} tokens/s, "
        f"{speed.ours.flops / step / 1e12:.1f} TFLOP/s of products), host {host * 1e3:.3f} ms a step "
        f"({cold * 1e3:.3f} after a wait), "
        f"{speed.memory() / 2**30:.2f} GiB"
    )
    if options.profile:
        speed.profile()
        speed.host_profile()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "parts", nargs="*", default=["parity", "w1", "w2", "w3"], help="parity, w1, w2, w3 (default: all)"
    )
    parser.add_argument("--peers", default="torch,jax", help="comma-separated: torch, jax; empty: none")
    parser.add_argument("--compute", default="bfloat16", help="ours: float32, bfloat16 or float16")
    parser.add_argument("--attention-dropout", type=float, default=0.1, help="ours in w1")
    parser.add_argument("--peer-python", default=os.environ.get("SEQLIB_PEER_PYTHON", sys.executable))
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each side")
    parser.add_argument("--steps", type=int, default=50, help="of the parity run")
    parser.add_argument("--parity", default="float32,bfloat16,float16", help="what the parity runs compute in")
    parser.add_argument("--device", default="cuda", help="of the parity run: cpu shows that the script runs")
    parser.add_argument("--profile", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args(arguments)
    if wrong := set(options.parts) - {"parity", "w1", "w2", "w3"}:
        parser.error(f"parts: expected parity, w1, w2 or w3, got {', '.join(wrong)}")
    right = True
    small = {"a Transformer": partial(Ours, SMALL), "an LSTM": partial(Words, SMALL_W3, shape=(16, 24))}
    for compute in options.parity.split(",") if "parity" in options.parts else ():
        for name, make in small.items():
            right = parity(name, make, options.steps, options.device, compute) and right
    if "w1" in options.parts:
        rate, compute = options.attention_dropout, options.compute
        compare("w1", lambda: Ours(W1, attention=rate, compute=compute, lr=1e-4), options)
    if "w2" in options.parts:
        compare("w2", lambda: Text(options.compute), options)
    if "w3" in options.parts:
        compare("w3", lambda: Words(W3, compute=options.compute), options)
    if not right:
        raise SystemExit("parity fails")


if __name__ == "__main__":
    main()
