"""Views, joins and cuts against NumPy, the rule for views above all."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from seqlib.core import ops
from seqlib.core.op import Layout
from seqlib.core.ops.shape import reshaped_layout
from seqlib.core.tensor import tensor
from seqlib.util.errors import SeqlibError, ShapeError


@st.composite
def _reshapes(draw: Any) -> tuple[Any, tuple[int, ...]]:
    """An array in some view and another shape of its size."""
    factors = draw(st.lists(st.sampled_from([1, 2, 3, 4]), min_size=0, max_size=5))
    x = np.arange(np.prod(factors, dtype=int) * 8, dtype=np.int64)

    def group(parts: list[int]) -> tuple[int, ...]:
        shape: list[int] = []
        for f in parts:
            if shape and draw(st.booleans()):
                shape[-1] *= f
            else:
                shape.append(f)
        return tuple(shape)

    shape = group(factors)
    full = tuple(2 * d if draw(st.booleans()) else d for d in shape)
    assume(np.prod(full, dtype=int) <= x.size)
    x = x[: np.prod(full, dtype=int)].reshape(full)
    x = x[tuple(slice(None, None, full[i] // max(d, 1)) if full[i] != d else slice(None) for i, d in enumerate(shape))]
    x = x[tuple(slice(None, None, draw(st.sampled_from([1, -1]))) for _ in shape)]
    x = x.transpose(draw(st.permutations(range(x.ndim))))
    if draw(st.booleans()) and x.ndim:
        x = x[..., None]
    return np.asarray(x), group(list(draw(st.permutations(factors))))


def _layout(x: Any, base: int) -> Layout:
    start = (x.__array_interface__["data"][0] - base) // 8
    return Layout(x.shape, tuple(s // 8 for s in x.strides), start)


@settings(max_examples=150, deadline=None)
@given(_reshapes())
def test_reshaped_layout_is_numpy_s_view(case: tuple[Any, tuple[int, ...]]) -> None:
    x, shape = case
    root = x
    while root.base is not None:
        root = root.base
    layout = reshaped_layout(_layout(x, root.__array_interface__["data"][0]), shape)
    try:
        x.view().shape = shape
        possible = True
    except AttributeError:
        possible = False
    assert (layout is not None) == possible
    if layout is not None:
        assert layout.shape == shape
        strides = [s * 8 for s in layout.strides]
        view = np.ndarray(shape, np.int64, root.reshape(-1).view(np.uint8), layout.offset * 8, strides)
        assert np.array_equal(view, x.reshape(shape))


def test_reshape_of_nothing() -> None:
    layout = reshaped_layout(Layout((3, 0), (1, 1), 0), (0, 7))
    assert layout is not None
    assert layout.shape == (0, 7)


X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


@pytest.mark.parametrize(
    ("ours", "numpys"),
    [
        (lambda x: x.reshape(4, -1), X.reshape(4, -1)),
        (lambda x: x.reshape((24,)), X.reshape(24)),
        (lambda x: x.T, X.T),
        (lambda x: x.transpose(1, 0, 2), X.transpose(1, 0, 2)),
        (lambda x: ops.swapaxes(x, 0, -1), X.swapaxes(0, -1)),
        (lambda x: ops.flip(x), np.flip(X)),
        (lambda x: ops.flip(x, (0, -1)), np.flip(X, (0, -1))),
        (lambda x: ops.expand_dims(x, (0, -1)), np.expand_dims(X, (0, -1))),
        (lambda x: ops.squeeze(x[:1, :, :1]), X[0, :, 0]),
        (lambda x: ops.squeeze(x[:1, :, :1], axis=-1), X[:1, :, 0]),
        (lambda x: ops.broadcast_to(x[:, :1], (5, 2, 3, 4)), np.broadcast_to(X[:, :1], (5, 2, 3, 4))),
        (lambda x: ops.pad(x, (1, 2), 7.0), np.pad(X, (1, 2), constant_values=7)),
        (lambda x: ops.pad(x, ((0, 0), (1, 0), (0, 2))), np.pad(X, ((0, 0), (1, 0), (0, 2)))),
        (lambda x: ops.concatenate([x, x[:, :0], x[:, 1:]], axis=1), np.concatenate([X, X[:, 1:]], axis=1)),
        (lambda x: ops.stack([x, x * 2.0], axis=-1), np.stack([X, X * 2], axis=-1)),
        (lambda x: ops.split(x, [1, -1], axis=1)[1], X[:, 1:]),
        (lambda x: ops.split(x, 2, axis=-1)[0], X[..., :2]),
        (lambda x: ops.cumsum(x), X.cumsum()),
        (lambda x: ops.argmax(x), X.argmax()),
        (lambda x: ops.argmax(-x, axis=1, keepdims=True), (-X).argmax(1, keepdims=True)),
        (lambda x: ops.var(x, axis=(0, 2), ddof=1), X.var((0, 2), ddof=1)),
        (lambda x: x.max(), X.max()),
        (lambda x: x.min(axis=-1), X.min(-1)),
        (lambda x: x.mean(axis=(0, 1), keepdims=True), X.mean((0, 1), keepdims=True)),
        (lambda x: ops.sort(-x, axis=0), np.sort(-X, 0)),
        (lambda x: ops.sort(x, descending=True), -np.sort(-X)),
        (lambda x: ops.any(x > 22.0, axis=2), (X > 22).any(2)),
        (lambda x: ops.all(x < 22.0), (X < 22).all()),
        (lambda x: ops.take(x, tensor([[3, -1]])), X.take([[3, -1]])),
    ],
)
def test_equal_to_numpy(ours: Callable[[Any], Any], numpys: Any) -> None:
    got = ours(tensor(X))
    assert got.shape == numpys.shape
    assert np.allclose(got.numpy(), numpys, rtol=1e-6)


def test_ties_go_to_the_lower_index() -> None:
    x = tensor([3, 1, 3, 2, 1, 3])
    assert ops.argsort(x).tolist() == [1, 4, 3, 0, 2, 5]
    assert ops.argsort(x, descending=True).tolist() == [0, 2, 5, 3, 1, 4]
    assert ops.argmax(x).item() == 0
    many = np.zeros(1000, np.float32)
    many[[700, 20]] = 5.0
    values, indices = ops.top_k(tensor(many), 4)
    assert indices.tolist() == [20, 700, 0, 1]
    assert values.tolist() == [5.0, 5.0, 0.0, 0.0]
    many[500] = np.nan
    assert ops.top_k(tensor(many), 2)[1].tolist() == [500, 20]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda x: x.reshape(5, 5),
            r"reshape: shape should be of 24 elements \(the input is \(2, 3, 4\)\), got \(5, 5\)",
        ),
        (lambda x: x.reshape(-1, -1), "at most one -1"),
        (lambda x: x.reshape(7, -1), "a divisor of 24 elements"),
        (lambda x: x.transpose(0, 0, 1), "transpose: axes should be a permutation"),
        (lambda x: x.sum(axis=3), r"sum: axis should be in \[-3, 3\), got 3"),
        (lambda x: x.sum(axis=(0, -3)), "sum: axis should be of different axes"),
        (lambda x: x[:, :0].max(axis=1), r"max: x should be non-empty along axis"),
        (lambda x: ops.argmin(x[:0]), "argmin: x should be non-empty"),
        (lambda x: ops.squeeze(x, 1), "squeeze: axis should be an axis of size 1"),
        (
            lambda x: ops.concatenate([x, x[:1]], axis=1),
            r"concatenate: xs\[1\] should be of shape \(2, 3, 4\) except along axis 1",
        ),
        (lambda x: ops.concatenate([]), "at least one tensor"),
        (lambda x: ops.stack([x, x[0]]), r"stack: xs\[1\] should be of shape \(2, 3, 4\), got \(3, 4\)"),
        (lambda x: ops.split(x, 2, axis=1), "split: sections should be a divisor of 3"),
        (lambda x: ops.split(x, [1, 1], axis=1), "add up to 3"),
        (lambda x: ops.pad(x, ((0, -1), (0, 0), (0, 0))), "pad: widths should be 3 pairs"),
        (lambda x: ops.top_k(x, 5), r"top_k: k should be in \[0, 4\]"),
        (
            lambda x: ops.broadcast_to(x, (2, 3, 5)),
            r"broadcast_to: x should be broadcastable to \(2, 3, 5\), got \(2, 3, 4\)",
        ),
        (
            lambda x: x + tensor([1.0, 2.0]),
            r"add: arguments should be broadcastable together, got \(2, 3, 4\) and \(2,\)",
        ),
        (lambda x: x @ x, r"matmul: b should be of inner size 4 \(a is \(2, 3, 4\)\), got \(2, 3, 4\)"),
        (
            lambda x: ops.update_slice(x, x[:, :2, :3], tensor(0), axis=1),
            "update_slice: x should be of the cache's shape",
        ),
        (
            lambda x: ops.update_slice(x, x[:, :2], tensor(2), axis=1),
            r"update_slice: index should be in \[0, 2\), got 2",
        ),
        (lambda x: ops.update_slice(x, x[:, :2], tensor([0]), axis=1), "index should be a 0-d int32"),
        (lambda x: ops.logsumexp(x > 1.0), "logsumexp: x should be a floating dtype, got bool"),
    ],
)
def test_errors_say_op_argument_expected_and_got(call: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(SeqlibError, match=message) as caught:
        call(tensor(X))
    assert "test_shape.py:" in str(caught.value)  # the user's own line


def test_shape_errors_are_value_errors() -> None:
    with pytest.raises(ValueError, match="reshape"):
        tensor(X).reshape(5)
    assert issubclass(ShapeError, ValueError)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
@pytest.mark.parametrize("size", [5, 127, 700, 1023, 5000])
def test_top_k_is_the_head_of_a_stable_sort(size: int, dtype: Any) -> None:
    rng = np.random.default_rng(size)
    x = np.round(rng.normal(size=(7, size)) * 3).astype(dtype)
    x[1] = 2
    if dtype == np.float32:
        x[2, size // 2] = np.nan
        x[3] = -np.inf
        x[4] = rng.normal(size=size)
    expected = np.argsort(-x.astype(np.float64), axis=-1, kind="stable")
    if dtype == np.float32:
        nan = size // 2
        expected[2] = [nan, *(i for i in expected[2] if i != nan)]  # NaN counts as the greatest
    for k in (1, 3, 5):
        values, indices = ops.top_k(tensor(x), k)
        assert np.array_equal(indices.numpy(), expected[:, :k])
        assert np.array_equal(values.numpy(), np.take_along_axis(x, expected[:, :k], -1), equal_nan=dtype == np.float32)
