"""Relative-position bias against T5's definition."""

import math

import numpy as np
import pytest

from seqlib import nn
from seqlib.core.compile import compile
from seqlib.core.grad import value_and_grad
from seqlib.core.rng import Generator, use_generator
from seqlib.core.tensor import tensor
from seqlib.util.errors import UsageError


def _bucket(distance: int, buckets: int, longest: int, bidirectional: bool) -> int:
    """The definition, for one distance key - query."""
    side = buckets // 2 if bidirectional else buckets
    first = side if bidirectional and distance > 0 else 0
    n = abs(distance) if bidirectional else max(-distance, 0)
    exact = side // 2
    if n < exact:
        return first + n
    far = exact + int(math.log(n / exact) / math.log(longest / exact) * (side - exact) + 1e-9)
    return first + min(far, side - 1)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_buckets_are_those_of_the_definition(bidirectional: bool):
    queries, keys = np.array([0, 5, 200], np.int32), np.arange(300, dtype=np.int32)
    for buckets, longest in ((32, 128), (8, 20)):
        arguments = {"buckets": buckets, "longest": longest, "bidirectional": bidirectional}
        got = nn.relative_buckets(tensor(queries), tensor(keys), **arguments)
        expected = [[_bucket(int(k - q), buckets, longest, bidirectional) for k in keys] for q in queries]
        assert got.dtype == np.int32
        np.testing.assert_array_equal(got.numpy(), expected)
        compiled = compile(lambda q, k, a=arguments: nn.relative_buckets(q, k, **a))
        np.testing.assert_array_equal(compiled(queries, keys).numpy(), expected)


def test_bias_looks_the_distances_up_and_its_gradient_counts_them():
    with use_generator(Generator(0)):
        layer = nn.RelativeBias(3, 16, bidirectional=True)
    at = tensor(np.arange(20, dtype=np.int32))
    buckets = nn.relative_buckets(at, at).numpy()
    bias = layer(at, at)
    np.testing.assert_array_equal(bias.numpy(), layer.weight.numpy()[buckets].transpose(2, 0, 1))
    _, grads = value_and_grad(lambda: layer(at, at).sum(), params=layer.named_parameters())()
    np.testing.assert_array_equal(grads["weight"].numpy()[:, 0], np.bincount(buckets.reshape(-1), minlength=32))


def test_too_few_buckets_are_refused():
    at = tensor(np.arange(3, dtype=np.int32))
    with pytest.raises(UsageError, match="2 buckets have 0 distances of their own"):
        nn.relative_buckets(at, at, buckets=2)
    with pytest.raises(UsageError, match="got 8"):
        nn.relative_buckets(at, at, longest=8)
