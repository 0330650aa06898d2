"""Generators: streams by seed and offset, ambient generators, and draws inside a compiled function."""

from typing import Any

import numpy as np
import pytest

from seqlib.core import ops
from seqlib.core.compile import compile
from seqlib.core.rng import Generator, current_generator, default_generator, seed, use_generator
from seqlib.core.tensor import Tensor, tensor
from seqlib.util.errors import TraceError


def test_the_same_seed_gives_the_same_stream() -> None:
    a, b, c = Generator(5), Generator(5), Generator(6)
    x, y, z = a.normal((33,)), b.normal((33,)), c.normal((33,))
    assert np.array_equal(x, y)
    assert not np.array_equal(x, z)
    assert not np.array_equal(a.normal((33,)), x)
    a.reseed(5)
    assert np.array_equal(a.normal((33,)), x)


def test_every_draw_moves_the_offset_by_one() -> None:
    g = Generator(2**64 - 1)
    g.uniform((1000,))
    g.normal((3,))
    g.integers(0, 9, (2, 2))
    assert g.state.numpy().view(np.uint64).tolist() == [2**64 - 1, 3]


def test_state_can_be_put_back() -> None:
    g = Generator(1)
    g.uniform((4,))
    kept = g.state.numpy()
    x = g.uniform((4,))
    g.state.assign(kept)
    assert np.array_equal(g.uniform((4,)), x)


def test_distributions() -> None:
    g = Generator(0)
    x = g.normal((200_000,), mean=2.0, std=3.0)
    assert x.dtype == np.float32
    assert x.mean() == pytest.approx(2, abs=0.03)
    assert x.std() == pytest.approx(3, abs=0.03)
    assert np.isfinite(x).all()
    u = g.uniform((100_000,), -1.0, 3.0)
    assert u.min() >= -1
    assert u.max() <= 3
    assert u.mean() == pytest.approx(1, abs=0.02)
    i = g.integers(-2, 3, (50_000,))
    assert i.dtype == np.int32
    assert np.bincount(i + 2).min() > 9_500
    assert set(np.unique(i)) == {-2, -1, 0, 1, 2}


@pytest.mark.parametrize("bad", [-1, 2**64])
def test_seeds_out_of_range(bad: int) -> None:
    with pytest.raises(ValueError, match="seed should be in"):
        Generator(bad)


def test_integers_out_of_range() -> None:
    with pytest.raises(ValueError, match="low < high"):
        Generator(0).integers(3, 3)


def test_ambient_generators_nest() -> None:
    outer, inner = Generator(1), Generator(2)
    assert current_generator() is default_generator()
    with use_generator(outer):
        with use_generator(inner):
            assert current_generator() is inner
        assert current_generator() is outer
    seed(9)
    x = default_generator().uniform((3,))
    seed(9)
    assert np.array_equal(default_generator().uniform((3,)), x)


X = np.ones((64, 33), np.float32)


def _drop(x: Any) -> Tensor:
    return ops.dropout(x, p=0.3) + ops.dropout(x, p=0.3)


def test_compiled_draws_are_the_eager_ones_and_move_on() -> None:
    a, b = Generator(4), Generator(4)

    def step(x: Tensor) -> Tensor:
        with use_generator(b):
            return _drop(x)

    compiled = compile(step, state=[b])
    results = []
    for _ in range(3):
        with use_generator(a):
            expected = _drop(tensor(X)).numpy()
        results.append(compiled(X).numpy())
        assert np.array_equal(results[-1], expected)
        assert np.array_equal(a.state.numpy(), b.state.numpy())
    assert not np.array_equal(results[0], results[1])


def test_a_generator_outside_the_state_is_refused() -> None:
    g = Generator(4)

    def step(x: Tensor) -> Tensor:
        with use_generator(g):
            return _drop(x)

    before = g.state.numpy()
    with pytest.raises(TraceError):
        compile(step)(X)
    assert np.array_equal(g.state.numpy(), before)
