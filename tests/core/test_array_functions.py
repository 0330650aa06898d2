"""clip, prod, Fourier transforms and multinomial against NumPy."""

from typing import Any

import numpy as np
import pytest

import seqlib
from seqlib.core import ops
from seqlib.core.compile import compile
from seqlib.core.grad import grad
from seqlib.core.rng import Generator, use_generator
from seqlib.core.tensor import Tensor, tensor
from seqlib.util.errors import DtypeError, ShapeError, UsageError
from tests.core.slopes import along, draw

Array = Any


# -- clip ----------------------------------------------------------------------------------------------------


def test_clip_equals_numpy() -> None:
    x = draw(4, 5)
    for bounds in ((-0.5, 0.5), (None, 0.1), (0.1, None), (None, None), (draw(5), 1.0), (1.0, -1.0)):
        given = x if bounds[0] is bounds[1] else np.clip(x, *bounds)
        np.testing.assert_array_equal(seqlib.clip(x, *bounds).numpy(), given)
    ids = np.arange(-3, 4, dtype=np.int32)
    got = seqlib.clip(ids, 0, 2)
    assert got.dtype == np.int32 and got.tolist() == [0, 0, 0, 0, 1, 2, 2]
    assert seqlib.clip(ids, a_max=1).tolist() == [-3, -2, -1, 0, 1, 1, 1]


def test_clip_gradient_goes_through_within_the_bounds() -> None:
    x = np.array([-2.0, -1.0, 0.5, 1.0, 2.0], np.float32)
    assert grad(lambda t: ops.clip(t, -1, 1).sum())(x).tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]
    low = grad(lambda t: ops.clip(x, t, 1).sum())(np.float32(-1))
    assert low.item() == 1.0


# -- prod ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [None, 0, -1, (0, 2), ()])
def test_prod_equals_numpy(axis: Any) -> None:
    x = draw(3, 5, 7).astype(np.float64)
    for keepdims in (False, True):
        expected = np.prod(x, axis=axis, keepdims=keepdims)
        got = seqlib.prod(tensor(x), axis, keepdims).numpy()
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=1e-12)
    assert seqlib.prod(np.array([], np.float32)).item() == 1.0
    assert seqlib.prod(np.array([[2, 3], [4, 5]], np.int32), axis=1).tolist() == [6, 20]


@pytest.mark.parametrize("zeros", [0, 1, 2])
def test_prod_gradients_at_zeros(zeros: int) -> None:
    x = np.array([2.0, 3.0, 5.0, 7.0, 0.5])
    x[:zeros] = 0.0

    def others(*left_out: int) -> float:
        return float(np.prod(np.delete(x, left_out)))

    first = grad(lambda t: ops.prod(t))(x).numpy()
    np.testing.assert_allclose(first, [others(i) for i in range(5)])
    weights = np.arange(1.0, 6.0)
    second = grad(lambda t: (grad(ops.prod, create_graph=True)(t) * weights).sum())(x).numpy()
    expected = [sum(weights[j] * others(i, j) for j in range(5) if j != i) for i in range(5)]
    np.testing.assert_allclose(second, expected)


# -- Fourier transforms --------------------------------------------------------------------------------------


def _pair(z: Array) -> Array:
    return np.stack([z.real, z.imag], axis=-1)


@pytest.mark.parametrize("norm", ["backward", "ortho", "forward"])
@pytest.mark.parametrize("n", [None, 5, 9])
@pytest.mark.parametrize("axis", [-1, 0])
def test_fft_equals_numpy(axis: int, n: int | None, norm: Any) -> None:
    x = draw(7, 6, 2)
    z = x[..., 0].astype(np.float64) + 1j * x[..., 1]
    close = {"rtol": 1e-4, "atol": 1e-5}
    np.testing.assert_allclose(seqlib.fft(x, n, axis, norm).numpy(), _pair(np.fft.fft(z, n, axis, norm)), **close)
    np.testing.assert_allclose(seqlib.ifft(x, n, axis, norm).numpy(), _pair(np.fft.ifft(z, n, axis, norm)), **close)
    real = x[..., 0]
    half = seqlib.rfft(real, n, axis, norm)
    np.testing.assert_allclose(half.numpy(), _pair(np.fft.rfft(real, n, axis, norm)), **close)
    np.testing.assert_allclose(seqlib.irfft(x, n, axis, norm).numpy(), np.fft.irfft(z, n, axis, norm), **close)
    back = seqlib.irfft(half, n or real.shape[axis], axis, norm).numpy()
    same = real if n is None else np.fft.irfft(np.fft.rfft(real, n, axis), n, axis)
    np.testing.assert_allclose(back, same, **close)


def test_fourier_convolution_learns() -> None:
    """A product of transforms is a circular convolution, and its gradient that of the convolution."""
    x, w = draw(8).astype(np.float64), draw(8, seed=1).astype(np.float64)

    def convolve(x: Tensor, w: Tensor) -> Tensor:
        a, b = ops.rfft(x), ops.rfft(w)
        real = a[:, 0] * b[:, 0] - a[:, 1] * b[:, 1]
        imaginary = a[:, 0] * b[:, 1] + a[:, 1] * b[:, 0]
        return ops.irfft(ops.stack([real, imaginary], axis=-1), 8)

    expected = [sum(x[j] * w[(i - j) % 8] for j in range(8)) for i in range(8)]
    np.testing.assert_allclose(convolve(tensor(x), tensor(w)).numpy(), expected)
    slope, difference = along(convolve, x, w)
    assert slope == pytest.approx(difference, rel=1e-7)


def test_fourier_messages() -> None:
    with pytest.raises(ShapeError, match=r"fft: x should be \[..., points, 2\], pairs"):
        ops.fft(draw(4, 3))
    with pytest.raises(ShapeError, match="rfft: x should be of at least one point"):
        ops.rfft(draw(4, 0))
    with pytest.raises(DtypeError, match="rfft: x should be a floating dtype"):
        ops.rfft(np.arange(4))
    with pytest.raises(UsageError, match="ortho"):
        ops.ifft(draw(4, 2), norm="orto")


# -- multinomial ---------------------------------------------------------------------------------------------


def test_multinomial_draws_with_the_probabilities() -> None:
    p = np.array([0.1, 0.0, 0.6, 0.3, 0.0])
    with np.errstate(divide="ignore"):
        logits = np.log(p).astype(np.float32) + 3
    with use_generator(Generator(4)):
        drawn = seqlib.multinomial(np.stack([logits, logits[::-1]]), 100_000)
        assert drawn.shape == (2, 100_000) and drawn.dtype == np.int32
        counts = [np.bincount(row, minlength=5) / 100_000 for row in drawn.numpy()]
        again = seqlib.multinomial(logits, 1000).numpy()
    np.testing.assert_allclose(counts, [p, p[::-1]], atol=0.006)
    assert counts[0][1] == counts[0][4] == 0.0
    assert not np.array_equal(again, drawn.numpy()[0, :1000])  # another draw of the generator
    with use_generator(Generator(4)):
        np.testing.assert_array_equal(
            seqlib.multinomial(np.stack([logits, logits[::-1]]), 100_000).numpy(), drawn.numpy()
        )


def test_multinomial_compiled_equals_eager_over_steps() -> None:
    logits = draw(6, 50)

    def step(x: Tensor) -> Tensor:
        with use_generator(generator):
            return ops.multinomial(x, 3)

    generator = Generator(3)
    eager = [step(tensor(logits)).tolist() for _ in range(3)]
    generator = Generator(3)
    compiled = compile(step, state=[generator])
    assert [compiled(tensor(logits)).tolist() for _ in range(3)] == eager
    assert eager[0] != eager[1]


@pytest.mark.parametrize("bad", [[np.nan, 0.0], [-np.inf, -np.inf], [np.inf, 0.0]])
def test_multinomial_refuses_rows_without_probabilities(bad: list[float]) -> None:
    rows = np.array([[0.0, 1.0], bad], np.float32)
    with pytest.raises(UsageError, match="multinomial: logits should be numbers or -inf"):
        ops.multinomial(rows)
    with pytest.raises(ShapeError, match="V > 0"):
        ops.multinomial(rows[:, :0])
