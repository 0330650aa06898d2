"""Relative-position bias (Raffel et al. 2020, "T5"): what is added to attention scores, by the bucket of the distance.

T query and S key positions, H heads. Short distances have a bucket each, longer ones share buckets of
logarithmically growing width, and all beyond the longest share the last.
"""

import math

from seqlib.core import ops
from seqlib.core.tensor import Parameter, Tensor
from seqlib.nn import init
from seqlib.nn.module import Module
from seqlib.util.errors import UsageError


def relative_buckets(
    queries: Tensor, keys: Tensor, *, buckets: int = 32, longest: int = 128, bidirectional: bool = True
) -> Tensor:
    """The bucket of the distance key - query, for positions `queries` int32 [T] and `keys` int32 [S] → int32 [T,S].

    With `bidirectional` the upper half of the buckets is for keys behind the query; without, these count as distance
    0. Distances from `longest` on share the last bucket. Raises UsageError for fewer than 4 buckets (2 without
    `bidirectional`) or a `longest` that is not above the distances with a bucket of their own.
    """
    side = buckets // 2 if bidirectional else buckets
    exact = side // 2
    if exact < 1 or longest <= exact:
        raise UsageError(
            f"relative positions: {buckets} buckets have {exact} distances of their own, expected at least 1, "
            f"and longest above them, got {longest}"
        )
    distance = ops.reshape(keys, (1, keys.size)) - ops.reshape(queries, (queries.size, 1))
    n = ops.abs(distance) if bidirectional else ops.maximum(-distance, 0)
    # In float32, where T5's checkpoints have their boundaries.
    ratio = ops.log(ops.maximum(n, 1) / float(exact)) / math.log(longest / exact)
    far = ops.cast(ratio * float(side - exact), "int32") + exact
    found = ops.where(ops.less(n, exact), n, ops.minimum(far, side - 1))
    return ops.where(ops.greater(distance, 0), side, 0) + found if bidirectional else found


class RelativeBias(Module):
    """A number for each head and bucket of distances, added to the scores of all layers of a stack.

    `weight` [buckets, H], H `heads`, drawn from N(0, 1/D) for a model of width D = `features`; `bidirectional` is False
    in a causal decoder. Distances from `longest` on share a bucket, see `relative_buckets`.
    """

    def __init__(self, heads: int, features: int, bidirectional: bool, buckets: int = 32, longest: int = 128):
        self.bidirectional, self.longest = bidirectional, longest
        self.weight = Parameter(init.normal((buckets, heads), std=features**-0.5))

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Positions int32 [T] and [S] → bias [H,T,S]."""
        ids = relative_buckets(
            queries, keys, buckets=self.weight.shape[0], longest=self.longest, bidirectional=self.bidirectional
        )
        return ops.transpose(ops.embedding(ids, self.weight), (2, 0, 1))
