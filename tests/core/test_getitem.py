"""Indexing equals NumPy's for every kind of index, and its gradient goes where the elements came from."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqlib.core import ops
from seqlib.core.compile import compile
from seqlib.core.grad import grad
from seqlib.core.ops import IndexRangeError
from seqlib.core.tensor import Tensor, tensor
from seqlib.util.errors import DtypeError, SeqlibError, ShapeError, TraceError


@st.composite
def _slices(draw: Any) -> slice:
    bound = st.one_of(st.none(), st.integers(-6, 6))
    return slice(draw(bound), draw(bound), draw(st.one_of(st.none(), st.sampled_from([-3, -2, -1, 1, 2, 3]))))


@st.composite
def _basic_cases(draw: Any) -> tuple[tuple[int, ...], tuple[Any, ...]]:
    shape = tuple(draw(st.lists(st.integers(0, 5), max_size=4)))
    index: list[Any] = []
    for d in shape[: draw(st.integers(0, len(shape)))]:
        kinds = [_slices()] + ([st.integers(-d, d - 1)] if d else [])
        index.append(draw(st.one_of(kinds)))
    for _ in range(draw(st.integers(0, 2))):
        index.insert(draw(st.integers(0, len(index))), None)
    if draw(st.booleans()):
        # Everything after the Ellipsis indexes the last axes, so it takes the sizes from there.
        return shape, (*index, ...)
    return shape, tuple(index)


@st.composite
def _advanced_cases(draw: Any) -> tuple[tuple[int, ...], tuple[Any, ...]]:
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)))
    picked = draw(st.sampled_from([(), (1,), (3,), (2, 3), (2, 1), (0,)]))
    index: list[Any] = []
    for d in shape[: draw(st.integers(1, len(shape)))]:
        kind = draw(st.sampled_from(["array", "array", "scalar", "int", "slice"]))
        if kind in ("array", "scalar"):
            array = np.random.default_rng(draw(st.integers(0, 99))).integers(-d, d, picked)
            index.append(np.asarray(array if kind == "array" else -1, np.int32))
        elif kind == "int":
            index.append(draw(st.integers(-d, d - 1)))
        else:
            index.append(draw(_slices()))
    for _ in range(draw(st.integers(0, 1))):
        index.insert(draw(st.integers(0, len(index))), None)
    if draw(st.booleans()):
        index.append(...)
    return shape, tuple(index)


def _check(shape: tuple[int, ...], index: tuple[Any, ...]) -> None:
    x = np.arange(np.prod(shape, dtype=int), dtype=np.float64).reshape(shape)
    expected = x[index]
    got = tensor(x)[index]
    assert got.shape == expected.shape
    assert np.array_equal(got.numpy(), expected)
    weights = np.arange(expected.size, dtype=np.float64).reshape(expected.shape) + 1.0
    wanted = np.zeros_like(x)
    np.add.at(wanted, index, weights)
    assert np.array_equal(grad(lambda t: (t[index] * weights).sum())(tensor(x)).numpy(), wanted)


@settings(max_examples=150, deadline=None)
@given(_basic_cases())
def test_basic_indices_equal_numpy(case: tuple[tuple[int, ...], tuple[Any, ...]]) -> None:
    _check(*case)


@settings(max_examples=150, deadline=None)
@given(_advanced_cases())
def test_index_arrays_equal_numpy(case: tuple[tuple[int, ...], tuple[Any, ...]]) -> None:
    _check(*case)


X = np.arange(60, dtype=np.float32).reshape(3, 4, 5)


@pytest.mark.parametrize(
    "index",
    [
        (..., 2),
        (1, ..., None, slice(None, None, -2)),
        ([0, 2], slice(None), [1, 1]),
        (slice(None), [[0], [3]], [1, 4]),
        (0, slice(None), [0, 1]),
        (slice(None), 0, [0, 1]),
        ([[0, 1], [2, 2]],),
        (X > 30,),
        (np.array([True, False, True]),),
        (slice(None), np.array([True, False, True, True]), 1),
        (np.array([True, False, True]), [0, 1]),
        (np.zeros((3, 4), bool),),
        ([],),
        (np.int64(1), np.int32(-1)),
    ],
)
def test_by_hand(index: tuple[Any, ...]) -> None:
    expected = X[index]
    got = tensor(X)[index]
    assert got.shape == expected.shape
    assert np.array_equal(got.numpy(), expected)


def test_tensors_as_indices() -> None:
    x, i = tensor(X), tensor([2, 0])
    assert np.array_equal(x[i].numpy(), X[[2, 0]])
    assert np.array_equal(x[:, i, tensor(1)].numpy(), X[:, [2, 0], 1])
    assert np.array_equal(x[x > 30.0].numpy(), X[X > 30])
    assert np.array_equal(x[: tensor(2)].numpy(), X[:2])


def test_basic_indices_are_views_and_cost_no_launch() -> None:
    program = compile(lambda x: x[1:, ::-2, None, 3] * 2.0).lower(X)
    assert program.launch_count == 1


def test_compiled() -> None:
    def fn(x: Tensor, i: Tensor) -> Tensor:
        return x[i, :, 1:] + x[0, i[:, None, None], [[1, 2, 3, 4]]]

    i = np.array([2, -1, 0], np.int32)
    assert np.array_equal(compile(fn)(X, i).numpy(), fn(tensor(X), tensor(i)).numpy())


@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        (3, IndexRangeError, r"getitem: index should be in \[-3, 3\), got 3 \(at .*test_getitem.py:\d+\)"),
        ((0, -5), IndexRangeError, r"\[-4, 4\), got -5"),
        (([0, 3],), IndexRangeError, r"take: indices should be in \[-3, 3\), got 3"),
        (([0, 1], [0, 4]), IndexRangeError, r"getitem: index array 1 should be in \[-4, 4\), got 4"),
        ((0, 0, 0, 0), ShapeError, "at most 3 indices"),
        ((..., 0, ...), ShapeError, "at most one Ellipsis"),
        ("name", DtypeError, "getitem: index should be int, slice.*got str 'name'"),
        (1.5, DtypeError, "got float 1.5"),
        (True, DtypeError, "got bool True"),
        ([0.5], DtypeError, "integers or a bool mask, got float32"),
        (([0, 1], [0, 1, 2]), ShapeError, "getitem: arguments should be broadcastable"),
    ],
)
def test_errors(index: Any, error: type[SeqlibError], message: str) -> None:
    with pytest.raises(error, match=message):
        tensor(X)[index]


def test_an_index_error_is_python_s_too() -> None:
    with pytest.raises(IndexError):
        tensor(X)[7]


def test_errors_in_a_compiled_function() -> None:
    masked = compile(lambda x: x[x > 1.0])
    with pytest.raises(TraceError, match=r"mask inside a compiled function.*test_getitem.py"):
        masked(X)
    picked = compile(lambda x, i: x[i])
    assert picked(X, np.array([1], np.int32)).shape == (1, 4, 5)
    with pytest.raises(IndexRangeError, match=r"\[-3, 3\), got 9"):
        picked(X, np.array([9], np.int32))
    assert np.array_equal(compile(lambda x: x[np.array([True, False, True])])(X).numpy(), X[[0, 2]])
    with pytest.raises(TraceError, match="use as an index"):
        compile(lambda x, i: x[:i])(X, np.int32(2))


def test_take_gather_and_one_hot_refuse_what_does_not_fit() -> None:
    x = tensor(X)
    with pytest.raises(DtypeError, match="take: indices should be int32 or int64, got float32"):
        ops.take(x, tensor([0.0]), axis=0)
    with pytest.raises(ShapeError, match="gather: indices should be of the shape of x"):
        ops.gather(x, tensor([[1]]), axis=0)
    with pytest.raises(IndexRangeError, match=r"one_hot: ids should be in \[0, 3\), got -1"):
        ops.one_hot(tensor([0, -1]), 3)
    with pytest.raises(ShapeError, match=r"scatter_add: updates should be of shape \(2, 4, 5\), got \(2,\)"):
        ops.scatter_add(x, tensor([0, 1]), tensor([1.0, 2.0]))
    with pytest.raises(ShapeError, match=r"take: axis should be in \[-3, 3\), got 3"):
        ops.take(x, tensor([0]), axis=3)
