"""Relative-position bias (Raffel et al. 2020, "T5"): what is added to attention scores, by the bucket of the distance.

T query and S key positions, H heads. Short distances have a bucket each, longer ones share buckets of
logarithmically growing width, and all beyond the longest share the last.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from seqlib.core import dtypes
from seqlib.core.op import Meta, Sample, need_float, need_int, primitive, shape_error
from seqlib.core.ops.embedding import embedding
from seqlib.core.ops.shape import transpose
from seqlib.core.tensor import Tensor, as_tensor


@primitive(differentiable=False)
def relative_buckets(
    xp: Any, queries: Any, keys: Any, *, buckets: int, longest: int, bidirectional: bool
) -> Any:
    """int32 [T,S]: the bucket of the distance key - query, for positions int [T] and [S].

    With `bidirectional` the upper half of the buckets is for keys behind the query; without, such keys count as
    distance 0.
    """
    distance = (keys[None, :] - queries[:, None]).astype(xp.int32)
    side = buckets // 2 if bidirectional else buckets
    first = xp.where(distance > 0, side, 0) if bidirectional else 0
    n = xp.abs(distance) if bidirectional else xp.maximum(-distance, 0)
    exact = side // 2
    # In float32, where T5's checkpoints have their boundaries.
    ratio = xp.log(xp.maximum(n, 1).astype(xp.float32) / xp.float32(exact)) / xp.float32(
        math.log(longest / exact)
    )
    far = exact + (ratio * xp.float32(side - exact)).astype(xp.int32)
    return (first + xp.where(n < exact, n, xp.minimum(far, side - 1))).astype(xp.int32)


@relative_buckets.infer
def _(queries: Meta, keys: Meta, *, buckets: int, longest: int, bidirectional: bool) -> list[Meta]:
    for name, m in (("queries", queries), ("keys", keys)):
        need_int("relative_bias", name, m)
        if len(m.shape) != 1:
            raise shape_error("relative_bias", name, "1-d, positions", m.shape)
    exact = (buckets // 2 if bidirectional else buckets) // 2
    if exact < 1 or longest <= exact:
        needed = 4 if bidirectional else 2
        expected = f"at least {needed} buckets, and longest above the {exact} exact distances"
        raise shape_error("relative_bias", "table", expected, f"{buckets} buckets and longest {longest}")
    return [Meta((queries.shape[0], keys.shape[0]), dtypes.int32)]


@relative_buckets.samples
def _() -> Iterable[Sample]:
    attrs = {"buckets": 32, "longest": 128, "bidirectional": True}
    yield Sample((np.arange(5, dtype=np.int32), np.arange(1023, dtype=np.int32)), attrs)
    yield Sample((np.array([700, 3]), np.arange(9, dtype=np.int32)), {**attrs, "bidirectional": False})
    yield Sample((np.arange(0, dtype=np.int32), np.arange(3, dtype=np.int32)), {**attrs, "buckets": 8})


def relative_bias(
    table: Tensor, queries: Tensor, keys: Tensor, *, bidirectional: bool, longest: int = 128
) -> Tensor:
    """The bias [H,T,S] of attention scores that T5 learns (Raffel et al. 2020, section 2.1).

    table floating [buckets, H]; `queries` int [T] and `keys` int [S] are positions. A causal decoder has
    bidirectional=False; `longest` is the distance from which on all share the last bucket. Raises ShapeError and
    DtypeError that name the argument.
    """
    table = as_tensor(table)
    if table.ndim != 2:
        raise shape_error("relative_bias", "table", "[buckets, H]", table.shape)
    need_float("relative_bias", "table", Meta(table.shape, table.dtype))
    ids = relative_buckets(
        queries,
        keys,
        buckets=table.shape[0],
        longest=int(longest),
        bidirectional=bool(bidirectional),
    )
    return transpose(embedding(ids, table), (2, 0, 1))
