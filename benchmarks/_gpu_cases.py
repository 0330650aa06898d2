"""Cases for gpu_ops.py beyond the ops' samples: the sizes of models, odd ones among them, and the layouts that kernels
take in place. Letters as in the ops' files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

HALF = ("bfloat16", "float16")
FLOATS = ("float32", *HALF, "float64")


class Case(NamedTuple):
    """Arrays (float32 where floating) and attributes; `keep` numbers the inputs that stay float32 beside 16-bit ones,
    `grad` those to differentiate by (None: all that float)."""

    inputs: tuple[Any, ...]
    attrs: dict[str, Any]
    grad: tuple[int, ...] | None = None
    keep: tuple[int, ...] = ()
    dtypes: tuple[str, ...] = FLOATS


class _Draw:
    """float32 arrays from a standard normal distribution."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def __call__(self, *shape: int) -> Any:
        return self.rng.normal(size=shape).astype(np.float32)

    def ids(self, high: int, *shape: int) -> Any:
        return self.rng.integers(0, high, shape).astype(np.int32)


_STATE = np.array([5, 9], np.int64)


def _attention() -> Iterator[Case]:
    draw, number = _Draw(1), 0

    def case(b: int, t: int, s: int, h: int, own: int, k: int, packed: int = 0, **facts: Any) -> Case:
        lengths = draw.ids(s + 1, b) if facts.pop("lengths", False) else None
        attrs = {"causal": False, "scale": k**-0.5, "dropout": 0.0, "draw": number, "kv_heads": 0, **facts}
        q, key, v = draw(b, t, h, k), draw(b, s, own, k), draw(b, s, own, k)
        given: tuple[Any, ...] = (q, key, v)
        grad: tuple[int, ...] = (0, 1, 2)
        if packed == 2:
            given, grad, attrs["kv_heads"] = (np.concatenate([q, key, v], -2), None, None), (0,), own
        elif packed == 1:
            given, grad, attrs["kv_heads"] = (q, np.concatenate([key, v], -2), None), (0, 1), own
        state = _STATE if attrs["dropout"] else None
        return Case((*given, None, lengths, None, None, state), attrs, grad, dtypes=HALF)

    for k in (32, 64, 128):
        yield case(2, 64, 64, 4, 4, k)
        yield case(2, 64, 64, 2, 2, k, causal=True, dropout=0.1)
        yield case(3, 50, 37, 4, 2, k, causal=True, dropout=0.1, lengths=True)
        yield case(2, 63, 63, 2, 2, k, packed=2, dropout=0.1)
        yield case(2, 33, 64, 4, 2, k, packed=1, lengths=True)
        yield case(2, 200, 130, 4, 2, k, dropout=0.1, lengths=True)
        yield case(1, 150, 300, 2, 1, k, causal=True)
        yield case(1, 300, 150, 2, 2, k, causal=True, dropout=0.2)
        yield case(1, 257, 257, 2, 2, k, causal=True, packed=2)
        number += 1
    for k in (16, 48, 80, 96, 112):
        yield case(2, 70, 130, 4, 2, k, causal=True, dropout=0.1)
        yield case(3, 50, 37, 2, 2, k, lengths=True)
        number += 1
    yield case(2, 300, 300, 2, 1, 64, lengths=True)
    yield case(2, 300, 500, 2, 2, 128, causal=True, lengths=True)
    yield from _packed_attention(draw)
    yield from _long_packed_attention(draw)


def _packed_attention(draw: _Draw) -> Iterator[Case]:
    for k in (16, 32, 64, 80, 128):
        for n, m, own, facts in ((150, 140, 2, {"dropout": 0.1}), (140, 140, 4, {"causal": True})):
            q_offsets = np.array([0, 5, 5, n // 2, n - 3], np.int32)
            k_offsets = np.array([0, 9, 11, m // 2, m - 2], np.int32)
            attrs = {"causal": False, "scale": k**-0.5, "dropout": 0.0, "draw": 1, "kv_heads": 0, **facts}
            arrays = (draw(n, 4, k), draw(m, own, k), draw(m, own, k))
            state = _STATE if attrs["dropout"] else None
            yield Case((*arrays, None, None, q_offsets, k_offsets, state), attrs, (0, 1, 2), dtypes=HALF)


def _long_packed_attention(draw: _Draw) -> Iterator[Case]:
    q_offsets, k_offsets = np.array([0, 130, 420, 595], np.int32), np.array([0, 200, 390, 590], np.int32)
    for k in (64, 128):
        for causal in (False, True):
            attrs = {"causal": causal, "scale": k**-0.5, "dropout": 0.1 * causal, "draw": 1, "kv_heads": 0}
            arrays, state = (draw(600, 2, k), draw(600, 1, k), draw(600, 1, k)), _STATE if causal else None
            yield Case((*arrays, None, None, q_offsets, k_offsets, state), attrs, (0, 1, 2), dtypes=HALF)


def _matmul() -> Iterator[Case]:
    draw = _Draw(2)
    for m, n, k in ((129, 257, 513), (64, 128, 256), (1, 9, 1030), (33, 8, 1)):
        for ta, tb in ((False, False), (False, True), (True, False), (True, True)):
            a, b = draw(*((k, m) if ta else (m, k))), draw(*((n, k) if tb else (k, n)))
            yield Case((a, b), {"transpose_a": ta, "transpose_b": tb})
    yield Case((draw(6, 65, 33), draw(6, 33, 40)), {"transpose_a": False, "transpose_b": False})
    for ta, tb in ((False, True), (False, False), (True, False)):  # rows that are filled up, see uneven_cuda.py
        a, b = draw(*((1500, 260) if ta else (260, 1500))), draw(*((1052, 1500) if tb else (1500, 1052)))
        yield Case((a, b), {"transpose_a": ta, "transpose_b": tb}, dtypes=HALF)


def _matmul_bias() -> Iterator[Case]:
    draw = _Draw(18)
    yield Case((draw(260, 1500), draw(1024, 1500), draw(1024)), {}, dtypes=HALF)


_WIDTHS = ((300, 512), (77, 768), (50, 1000), (33, 1024), (9, 4096), (9, 4099), (1025, 3))


def _layer_norm() -> Iterator[Case]:
    draw = _Draw(3)
    for rows, width in _WIDTHS:
        arrays = (draw(rows, width) * 3 + 1, draw(width), draw(width))
        yield Case(arrays, {"eps": 1e-5})
        yield Case(arrays, {"eps": 1e-5}, keep=(1, 2), dtypes=HALF)


def _rms_norm() -> Iterator[Case]:
    draw = _Draw(4)
    for rows, width in _WIDTHS:
        arrays = (draw(rows, width) * 3 + 1, draw(width))
        yield Case(arrays, {"eps": 1e-5})
        yield Case(arrays, {"eps": 1e-5}, keep=(1,), dtypes=HALF)


def _add_dropout_layer_norm() -> Iterator[Case]:
    draw = _Draw(5)
    for rows, width in _WIDTHS:
        arrays = (draw(rows, width), draw(rows, width), _STATE, draw(width), draw(width))
        yield Case(arrays, {"p": 0.1, "draw": 3, "eps": 1e-5}, grad=())
        yield Case(arrays, {"p": 0.1, "draw": 3, "eps": 1e-5}, grad=(), keep=(3, 4), dtypes=HALF)


def _add_dropout_layer_norm_bwd() -> Iterator[Case]:
    draw = _Draw(6)
    for rows, width in _WIDTHS:
        g, other, total = (draw(rows, width) for _ in range(3))
        rstd = (1 / np.sqrt(total.var(-1) + 1e-5)).astype(np.float32)
        arrays = (g, other, total, draw(width), total.mean(-1), rstd, _STATE)
        yield Case(arrays, {"p": 0.1, "draw": 3}, grad=(), keep=(4, 5))
        yield Case(arrays, {"p": 0.1, "draw": 3}, grad=(), keep=(3, 4, 5), dtypes=HALF)


def _targets(draw: _Draw, rows: int, classes: int) -> Any:
    targets = draw.ids(classes, rows)
    targets[rows // 3] = -1
    return targets


def _cross_entropy() -> Iterator[Case]:
    draw = _Draw(7)
    for rows, classes, smoothing in ((37, 32768, 0.1), (5, 50304, 0.0), (64, 1001, 0.2)):
        attrs = {"smoothing": smoothing, "ignore_index": -1}
        yield Case((draw(rows, classes), _targets(draw, rows, classes), None), attrs, grad=(0,))


def _linear_cross_entropy() -> Iterator[Case]:
    draw = _Draw(8)
    for rows, width, classes in ((130, 64, 1000), (257, 96, 4001), (150, 1500, 1200)):
        attrs = {"smoothing": 0.1, "ignore_index": -1, "want_x": True, "want_w": True}
        arrays = (draw(rows, width), draw(classes, width) / np.float32(width**0.5), _targets(draw, rows, classes), None)
        yield Case(arrays, attrs, grad=(0, 1))


def _embedding() -> Iterator[Case]:
    draw = _Draw(9)
    for rows, size, width in ((5000, 50, 512), (700, 3, 65), (900, 10000, 128)):
        yield Case((draw.ids(size, rows), draw(size, width)), {}, grad=(1,))


def _sum() -> Iterator[Case]:
    draw = _Draw(10)
    for shape, axis in (((5000, 70), (0,)), ((3, 4100), (1,)), ((5, 900, 33), (1,)), ((70000,), (0,))):
        yield Case((draw(*shape),), {"axis": axis, "keepdims": False})


def _dropout() -> Iterator[Case]:
    draw = _Draw(11)
    for size in (8, 100_003):
        yield Case((draw(size), _STATE), {"p": 0.1, "draw": 3}, grad=(0,))


def _adamw() -> Iterator[Case]:
    draw = _Draw(12)
    attrs = {"beta1": 0.9, "beta2": 0.98, "eps": 1e-9, "weight_decay": 0.01}
    scalars = [np.array(s, np.float32) for s in (1e-2, 7, 0.3)]
    arrays = (draw(700, 301), draw(700, 301), draw(700, 301), np.square(draw(700, 301)))
    yield Case((*arrays, *scalars), attrs, grad=(), dtypes=("float32",))


def _global_norm() -> Iterator[Case]:
    draw = _Draw(13)
    yield Case(tuple(draw(n) for n in (*range(1, 150), 100_003)), {}, grad=())


def _softmax() -> Iterator[Case]:
    draw = _Draw(14)
    for rows, width in (*_WIDTHS, (3, 32768)):
        yield Case((draw(rows, width) * 3,), {})


def _glu() -> Iterator[Case]:
    draw = _Draw(15)
    for rows, width in ((33, 2048), (5, 1023)):
        for activation in ("silu", "gelu_tanh", "relu", "sigmoid", "gelu"):
            yield Case((draw(rows, 2 * width),), {"activation": activation})


def _rotary() -> Iterator[Case]:
    draw = _Draw(16)
    for shape, heads in (((2, 65, 6, 64), 4), ((129, 3, 128), 3), ((33, 2, 6), 1)):
        yield Case((draw(*shape), draw.ids(24, *shape[-3:-2])), {"base": 10000.0, "inverse": False, "heads": heads})


def _recurrent(gates: int) -> Iterator[Case]:
    draw = _Draw(17)
    for steps, rows, width, reverse in (
        (6, 20, 1500, False),
        (9, 3, 650, True),
        (5, 50, 257, False),
        (4, 100, 64, True),
    ):
        x, w = draw(steps, rows, gates * width), draw(gates * width, width) / np.float32(width**0.5)
        lengths = None if rows == 20 else draw.ids(steps + 1, rows)
        states = (draw(rows, width), draw(rows, width)) if gates == 4 else (draw(gates * width), draw(rows, width))
        yield Case((x, w, *states, lengths), {"reverse": reverse})


def _lstm() -> Iterator[Case]:
    return _recurrent(4)


def _gru() -> Iterator[Case]:
    return _recurrent(3)


_CASES = {
    "lstm": _lstm,
    "gru": _gru,
    "attention": _attention,
    "matmul": _matmul,
    "matmul_bias": _matmul_bias,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "add_dropout_layer_norm": _add_dropout_layer_norm,
    "add_dropout_layer_norm_bwd": _add_dropout_layer_norm_bwd,
    "cross_entropy": _cross_entropy,
    "linear_cross_entropy": _linear_cross_entropy,
    "embedding": _embedding,
    "sum": _sum,
    "dropout": _dropout,
    "adamw": _adamw,
    "global_norm": _global_norm,
    "softmax": _softmax,
    "log_softmax": _softmax,
    "glu": _glu,
    "rotary": _rotary,
}


def further_cases(op: str) -> Iterable[Case]:
    """The cases of an op beside its samples."""
    return _CASES[op]() if op in _CASES else ()
