"""Samples of attention.py."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from seqlib.core.ops.attention import _attention
from seqlib.core.tensor import as_tensor
from tests.core.samples import Sample, samples_of

_PLAIN = {"causal": False, "scale": 0.4, "dropout": 0.0, "draw": 0, "kv_heads": 0}


def _padded(b: int, t: int, s: int, h: int, own: int, k: int, seed: int = 0) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(np.float32) for shape in ((b, t, h, k), (b, s, own, k), (b, s, own, k))]


def _cases() -> Iterable[tuple[tuple[Any, ...], dict[str, Any]]]:
    rng = np.random.default_rng(7)
    state = np.array([5, 9], np.int64)

    def bias(*shape: int) -> Any:
        return rng.normal(size=shape).astype(np.float32)

    yield tuple(_padded(2, 3, 5, 4, 4, 3)), _PLAIN
    yield (*_padded(2, 5, 5, 3, 3, 7), None, np.array([3, 0], np.int32)), {**_PLAIN, "causal": True}
    yield ((*_padded(3, 2, 6, 4, 2, 3), bias(1, 4, 1, 6), np.array([6, 1, 4], np.int32)), {**_PLAIN, "causal": True})
    yield ((*_padded(2, 4, 3, 2, 1, 5), bias(4, 3), None, None, None, state), {**_PLAIN, "dropout": 0.3, "draw": 1})
    yield (*_padded(1, 3, 1023, 2, 2, 5), bias(1, 1, 3, 1023), np.array([1000], np.int32)), _PLAIN
    yield ((*_padded(1, 600, 300, 1, 1, 3), None, None, None, None, state), {**_PLAIN, "dropout": 0.1, "causal": True})
    yield tuple(_padded(0, 3, 5, 2, 2, 3)), _PLAIN
    yield tuple(_padded(2, 3, 0, 2, 2, 3)), _PLAIN
    q, k, v = (x[0] for x in _padded(1, 11, 13, 4, 2, 3))
    q_offsets, k_offsets = np.array([0, 4, 4, 7, 10], np.int32), np.array([0, 6, 8, 8, 12], np.int32)
    yield (q, k, v, None, None, q_offsets, k_offsets), _PLAIN
    yield (q, k, v, None, None, q_offsets, k_offsets, state), {**_PLAIN, "causal": True, "dropout": 0.4}


def _packed_cases() -> Iterable[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Grouped heads, with keys and values in one buffer with the queries or beside them."""
    for inputs, attrs in _cases():
        q, k, v, *rest = inputs
        if q.shape[-3] == k.shape[-3] < 600:
            packed = np.concatenate([q, k, v], axis=-2)
            yield (packed, None, None, *rest), {**attrs, "kv_heads": k.shape[-2]}
        elif k.shape[-3] < 100:
            packed = np.concatenate([k, v], axis=-2)
            yield (q, packed, None, *rest), {**attrs, "kv_heads": k.shape[-2]}


@samples_of("attention")
def _() -> Iterable[Sample]:
    for inputs, attrs in (*_cases(), *_packed_cases()):
        yield Sample((*inputs, *[None] * (8 - len(inputs))), attrs)
        if not attrs["dropout"]:
            yield Sample((*inputs, *[None] * (8 - len(inputs))), {**attrs, "independent": True})


@samples_of("attention_bwd")
def _() -> Iterable[Sample]:
    for inputs, attrs in (*_cases(), *_packed_cases()):
        with np.errstate(all="ignore"):
            given = [None if x is None else as_tensor(x) for x in inputs]
            y, lse = (t.numpy() for t in _attention.fn(*given, **attrs))
        gy = np.random.default_rng(8).normal(size=y.shape).astype(np.float32)
        rest = (*inputs[3:], *[None] * (8 - len(inputs)))
        yield Sample((gy, *inputs[:3], y, lse, *rest), {**attrs, "want_bias": rest[0] is not None})
