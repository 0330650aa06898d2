"""Times of kernels at the shapes of training steps, against floors: the second part of gpu_ops.py.

Each is captured as a CUDA graph of 100 launches that take turns with enough buffers to defeat the cache. A floor is the
larger of two times: every input read once and every output written once at the bandwidth of a large copy, and the
floating-point operations at the rate of a large product, both measured here first.

W1: Transformer-base, 256 sentences of 64 tokens a side (16,384 rows of 512, 8 heads, vocabulary 32,768). W2: GPT-2,
16 rows of 1,024 tokens (16,384 rows of 768, 12 heads, vocabulary 50,304).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from statistics import median
from typing import Any, NamedTuple

import numpy as np

LAUNCHES = 100
CACHE = 160 << 20  # bytes that buffers together should exceed
ROWS = 16384
_STATE = np.array([5, 9], np.int64)


class Random(NamedTuple):
    """Normal values of a shape, or whole numbers below `high`."""

    dtype: str
    shape: tuple[int, ...]
    high: int = 0

    def make(self, xp: Any) -> Any:
        from seqlib.core import dtypes

        if self.high:
            return xp.random.randint(0, self.high, self.shape).astype(self.dtype)
        return xp.random.standard_normal(self.shape, dtype=np.float32).astype(dtypes.canonical(self.dtype))


def half(*shape: int) -> Random:
    return Random("bfloat16", shape)


def full(*shape: int) -> Random:
    return Random("float32", shape)


def ids(high: int, *shape: int) -> Random:
    return Random("int32", shape, high)


class Timed(NamedTuple):
    """A launch to be timed: an op's kernel on these inputs; `unwanted` outputs are passed as None."""

    label: str
    op: str
    inputs: tuple[Any, ...]
    attrs: dict[str, Any] = {}
    flops: int = 0
    unwanted: tuple[int, ...] = ()
    nbytes: int = 0  # moved, where that is not every input and output once


def _rows_of(width: int, heads: int, vocabulary: int) -> Iterator[Timed]:
    """What a model with 16,384 rows of some width runs between its products."""
    x, w = half(ROWS, width), full(width)
    statistics = (full(ROWS), full(ROWS))
    inner, label, grads = half(ROWS, 4 * width), f"16384x{width}", (x, x, x, w, *statistics, _STATE)
    p, plan = {"p": 0.1, "draw": 3}, {"base": 1e4, "inverse": False, "heads": heads}
    tokens, table = ids(vocabulary, ROWS), half(vocabulary, width)
    yield Timed(f"layer_norm {label}", "layer_norm", (x, w, w), {"eps": 1e-5})
    yield Timed(f"layer_norm_bwd {label}", "layer_norm_bwd", (x, x, w, *statistics))
    yield Timed(f"add_dropout_layer_norm {label}", "add_dropout_layer_norm", (x, x, _STATE, w, w), {**p, "eps": 1e-5})
    yield Timed(f"add_dropout_layer_norm_bwd {label}", "add_dropout_layer_norm_bwd", grads, p)
    yield Timed(f"rms_norm {label}", "rms_norm", (x, w), {"eps": 1e-5})
    yield Timed(f"rms_norm_bwd {label}", "rms_norm_bwd", (x, x, w, full(ROWS)))
    yield Timed(f"dropout {label}", "dropout", (x, _STATE), p)
    yield Timed(f"add {label}", "add", (x, x))
    yield Timed(f"bias {label}", "add", (inner, half(4 * width)))
    yield Timed(f"gelu_tanh 16384x{4 * width}", "gelu_tanh", (inner,))
    yield Timed(f"gelu_tanh_bwd 16384x{4 * width}", "gelu_tanh_bwd", (inner, inner))
    yield Timed(f"dropout_relu_bwd 16384x{4 * width}", "dropout_relu_bwd", (inner, _STATE, inner), p)
    yield Timed(f"add_layer_norm {label}", "add_layer_norm", (x, x, w, w), {"eps": 1e-5})
    yield Timed(f"add_layer_norm_bwd {label}", "add_layer_norm_bwd", (x, x, x, w, *statistics))
    for columns in (width, 4 * width):
        sums = {"axis": (0,), "keepdims": False, "wide": True}
        yield Timed(f"bias gradient 16384x{columns}", "sum", (half(ROWS, columns),), sums)
    parts = tuple(half(width, width) for _ in range(3))
    yield Timed(f"concatenate 3 of {width}x{width}", "concatenate", parts, {"axis": 0})
    yield Timed(f"embedding {label}", "embedding", (tokens, table), nbytes=ROWS * width * 4)
    yield Timed(f"embedding_grad {label}", "embedding_grad", (x, tokens), {"size": vocabulary})
    small = {"smoothing": 0.1, "ignore_index": -1}
    logits = (half(4096, vocabulary), ids(vocabulary, 4096), None)
    yield Timed(f"cross_entropy 4096x{vocabulary}", "cross_entropy", logits, small)
    for classes in sorted({vocabulary, min(vocabulary, 50257)}):
        yield Timed(
            f"linear_cross_entropy {ROWS}x{width}x{classes}",
            "linear_cross_entropy",
            (x, half(classes, width), ids(classes, ROWS), None),
            {**small, "want_x": True, "want_w": True},
            flops=6 * ROWS * width * classes,
        )
    yield Timed(f"rotary {label}", "rotary", (half(16, 1024, heads, 64), ids(1024, 1024)), plan)


def _others() -> Iterator[Timed]:
    big = full(32768, 512)
    one = np.array(1.0, np.float32)
    rates = {"beta1": 0.9, "beta2": 0.98, "eps": 1e-9, "weight_decay": 0.0}
    yield Timed("adamw 16.8M", "adamw", (big, big, big, Random("float32", (32768, 512), 2), one, one, one), rates)
    yield Timed("global_norm 16.8M", "global_norm", (big,))
    yield Timed("cast to bf16 16.8M", "cast", (big,), {"dtype": "bfloat16"})
    yield Timed("softmax 16384x1024", "softmax", (half(ROWS, 1024),))
    yield Timed("softmax_bwd 16384x1024", "softmax_bwd", (half(ROWS, 1024), half(ROWS, 1024)))
    yield Timed("log_softmax 4096x32768", "log_softmax", (half(4096, 32768),))
    yield Timed("glu silu 16384x4096", "glu", (half(ROWS, 4096),), {"activation": "silu"})
    yield Timed("glu_bwd silu 16384x4096", "glu_bwd", (half(ROWS, 2048), half(ROWS, 4096)), {"activation": "silu"})


PRODUCTS = (
    (512, 512), (1536, 512), (1024, 512), (2048, 512), (512, 2048), (32768, 512),
    (768, 768), (2304, 768), (3072, 768), (768, 3072), (50304, 768),
)  # fmt: skip
"""(outputs, inputs) of the linear layers of W1 and W2."""


def _products() -> Iterator[Timed]:
    for n, k in PRODUCTS:
        rows = ROWS if n < 30000 else 8192
        x, w, g = half(rows, k), half(n, k), half(rows, n)
        flops = 2 * rows * n * k
        plain = {"transpose_a": False, "transpose_b": False}
        yield Timed(f"product {rows}x{n}x{k}", "matmul", (x, w), {**plain, "transpose_b": True}, flops)
        yield Timed(f"  by x   {rows}x{n}x{k}", "matmul", (g, w), plain, flops)
        yield Timed(f"  by w   {rows}x{n}x{k}", "matmul", (g, x), {**plain, "transpose_a": True}, flops)


def _layers() -> Iterator[Timed]:
    """Products with what they take along: forward with a bias and an activation, and both gradients."""
    for n, k in PRODUCTS[:5] + PRODUCTS[6:-1]:
        x, w, b, g, h = half(ROWS, k), half(n, k), half(n), half(ROWS, n), half(ROWS, k)
        flops, label = 2 * ROWS * n * k, f"{ROWS}x{n}x{k}"
        yield Timed(f"bias {label}", "matmul_bias", (x, w, b), {}, flops)
        yield Timed("  and gelu", "matmul_bias_gelu", (x, w, b), {}, flops)
        yield Timed("  by x through gelu", "matmul_gelu_bwd", (g, w, h), {}, flops)
        yield Timed("  by w and bias", "matmul_sums", (g, x), {}, flops)


class Attention(NamedTuple):
    batch: int
    heads: int
    length: int
    width: int
    causal: bool
    dropout: float

    def __str__(self) -> str:
        more = f"{' causal' if self.causal else ''}{f' dropout {self.dropout}' if self.dropout else ''}"
        return f"({self.batch},{self.heads},{self.length},{self.width}){more}"


ATTENTIONS = (
    Attention(256, 8, 64, 64, False, 0.0), Attention(256, 8, 64, 64, False, 0.1), Attention(256, 8, 64, 64, True, 0.1),
    Attention(16, 12, 1024, 64, True, 0.0), Attention(16, 12, 1024, 64, True, 0.1),
    Attention(4, 16, 4096, 128, True, 0.0), Attention(32, 12, 128, 64, False, 0.1),
)  # fmt: skip


def _attention(a: Attention) -> Iterator[Timed]:
    x, lse = half(a.batch, a.length, a.heads, a.width), full(a.batch, a.heads, a.length)
    attrs = {"causal": a.causal, "scale": a.width**-0.5, "dropout": a.dropout, "draw": 3, "kv_heads": 0}
    state = _STATE if a.dropout else None
    flops = 4 * a.batch * a.heads * a.length**2 * a.width // (2 if a.causal else 1)
    yield Timed(f"attention {a}", "attention", (x, x, x, None, None, None, None, state), attrs, flops)
    backward = (x, x, x, x, x, lse, None, None, None, None, state)
    yield Timed(f"attention_bwd {a}", "attention_bwd", backward, {**attrs, "want_bias": False}, 5 * flops // 2, (3,))


# -- measuring -------------------------------------------------------------------------------------------------


class Clock:
    """Times launches on the backend's stream in microseconds."""

    def __init__(self, backend: Any) -> None:
        self.backend, self.xp, self.stream = backend, backend.xp, backend.stream

    def graph(self, launches: list[Callable[[], None]], count: int) -> float:
        """One launch's time, the median of five replays of a graph of `count` that take turns."""
        with self.stream:
            for launch in launches:
                launch()
            self.stream.synchronize()
            self.stream.begin_capture()
            try:
                for i in range(count):
                    launches[i % len(launches)]()
            finally:
                graph = self.stream.end_capture()
            graph.launch(self.stream)
            return median(self._replay(graph) for _ in range(5)) * 1e3 / count

    def _replay(self, graph: Any) -> float:
        start, end = self.xp.cuda.Event(), self.xp.cuda.Event()
        start.record(self.stream)
        graph.launch(self.stream)
        end.record(self.stream)
        end.synchronize()
        return self.xp.cuda.get_elapsed_time(start, end)


class Ceilings(NamedTuple):
    """Bytes and floating-point operations in a microsecond."""

    copy: float
    product: float

    def floor(self, nbytes: int, flops: int) -> float:
        return max(nbytes / self.copy, flops / self.product)


def _ceilings(clock: Clock) -> Ceilings:
    from seqlib.core.backends import BACKENDS

    a = half(8192, 8192)
    product = _launches(Timed("", "matmul", (a, a), {"transpose_a": False, "transpose_b": True}), clock)[0]
    with clock.stream:
        x, y = (clock.xp.zeros(1 << 28, np.float32) for _ in range(2))
    copy = clock.graph([lambda: BACKENDS["cuda"].copy([y], [x], [])], 4)
    return Ceilings(2 * x.nbytes / copy, 2 * 8192**3 / clock.graph(product, 10))


def _launches(timed: Timed, clock: Clock) -> tuple[list[Callable[[], None]], int]:
    """Launches over buffers of their own, and the bytes that one moves. Raises LookupError without a kernel."""
    from seqlib.core.backends.base import metas_of, scratch_metas
    from seqlib.core.op import OPS

    op, xp = OPS[timed.op], clock.xp
    attrs = {**op.defaults, **timed.attrs}
    if "dtype" in attrs:
        from seqlib.core import dtypes

        attrs["dtype"] = dtypes.canonical(attrs["dtype"])
    launches: list[Callable[[], None]] = []
    while True:
        with clock.stream:
            ins = [x.make(xp) if isinstance(x, Random) else None if x is None else xp.asarray(x) for x in timed.inputs]
            metas = metas_of(ins)
            kernel = op.kernel("cuda", metas, attrs)
            if kernel is None:
                raise LookupError("no kernel serves this")
            found = enumerate(op.infer_metas(metas, attrs))
            outs = [None if i in timed.unwanted else xp.empty(m.shape, m.dtype) for i, m in found]
            scratch = [xp.empty(m.shape, m.dtype) for m in scratch_metas(kernel, metas, attrs)]
        launches.append(partial(kernel.load(), outs, ins, scratch, **attrs))
        nbytes = sum(x.nbytes for x in (*ins, *outs) if x is not None)
        if len(launches) * nbytes > CACHE or len(launches) == 16:
            return launches, timed.nbytes or nbytes


def _row(label: str, us: float, floor: float, nbytes: int, flops: int, more: str = "") -> None:
    rate = f"{flops / us / 1e6:7.0f} TFLOP/s" if flops else f"{nbytes / us / 1e3:7.0f} GB/s   "
    print(f"{label:52s} {us:9.1f} {rate} {floor:9.1f} {us / floor:6.2f} {more}", flush=True)


def _measure(timed: Timed, clock: Clock, ceilings: Ceilings, more: Callable[[float], str] = lambda us: "") -> None:
    try:
        launches, nbytes = _launches(timed, clock)
        us = clock.graph(launches, LAUNCHES)
    except Exception as error:  # the others are still worth their time
        print(
            f"{timed.label:52s}  {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}", flush=True
        )
        return
    _row(timed.label, us, ceilings.floor(nbytes, timed.flops), nbytes, timed.flops, more(us))
    launches.clear()
    clock.xp.get_default_memory_pool().free_all_blocks()


def times(peer: bool = True, ops: Sequence[str] = ()) -> None:
    """Print all times, or those of `ops`; attention beside PyTorch's, if torch is there and `peer` is."""
    from seqlib.core.backends import BACKENDS

    clock = Clock(BACKENDS["cuda"])
    ceilings = _ceilings(clock)
    print(f"\nceilings: copy {ceilings.copy / 1e3:.0f} GB/s, bf16 product 8192^3 {ceilings.product / 1e6:.0f} TFLOP/s")
    print(f"{'':52s} {'us':>9s} {'rate':>15s} {'floor us':>9s} {'/floor':>6s}")
    sdpa = _sdpa() if peer and (not ops or "attention" in ops) else {}
    for a in ATTENTIONS:
        for timed in _attention(a) if not ops or "attention" in ops else ():
            theirs = sdpa.get((a, timed.op))
            _measure(timed, clock, ceilings, lambda us, t=theirs: f"SDPA {t:.1f}, ours/SDPA {us / t:.2f}" if t else "")
    for timed in (*_products(), *_layers(), *_rows_of(512, 8, 32768), *_rows_of(768, 12, 50304), *_others()):
        if not ops or timed.op in ops:
            _measure(timed, clock, ceilings)


def _sdpa() -> dict[tuple[Attention, str], float]:
    """Microseconds of PyTorch's scaled_dot_product_attention, forward and backward, called one after the other."""
    try:
        import torch
        from torch.nn.functional import scaled_dot_product_attention
    except ImportError:
        print("torch is not installed: attention is timed alone")
        return {}

    def timed(run: Callable[[], object]) -> float:
        for _ in range(3):
            run()
        found: list[float] = []
        for _ in range(5):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            for _ in range(20):
                run()
            end.record()
            end.synchronize()
            found.append(start.elapsed_time(end) / 20 * 1e3)
        return median(found)

    times: dict[tuple[Attention, str], float] = {}
    for a in ATTENTIONS:
        shape = (a.batch, a.heads, a.length, a.width)
        q, k, v = (torch.randn(shape, device="cuda", dtype=torch.bfloat16, requires_grad=True) for _ in range(3))

        def forward(q: Any = q, k: Any = k, v: Any = v, a: Attention = a) -> Any:
            return scaled_dot_product_attention(q, k, v, is_causal=a.causal, dropout_p=a.dropout)

        y = forward()
        g = torch.randn_like(y)
        times[a, "attention"] = timed(forward)
        times[a, "attention_bwd"] = timed(lambda y=y, g=g, x=(q, k, v): torch.autograd.grad(y, x, g, retain_graph=True))
        del q, k, v, y, g
    torch.cuda.empty_cache()
    return times
