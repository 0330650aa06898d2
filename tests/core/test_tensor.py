"""Tensor, Variable and Parameter: making, leaving, operators, locations."""

import operator
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import seqlib
from seqlib.core import dtypes, ops
from seqlib.core.compile import compile
from seqlib.core.tensor import Parameter, Tensor, Variable, tensor
from seqlib.util.errors import DtypeError, ShapeError, TraceError


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (1, "int32"),
        (2**40, "int64"),
        (1.5, "float32"),
        (True, "bool"),
        ([1, 2], "int32"),
        ([2**40], "int64"),
        ([[1.0]], "float32"),
        (np.ones(2), "float64"),
        (np.ones(2, np.float32), "float32"),
        (np.arange(3), "int64"),
        (np.float32(2), "float32"),
    ],
)
def test_dtypes_of_new_tensors(value: Any, dtype: str) -> None:
    assert str(tensor(value).dtype) == dtype
    assert tensor(value).tolist() == np.asarray(value).tolist()


def test_a_tensor_copies() -> None:
    a = np.ones(3, np.float32)
    t = tensor(a)
    a[0] = 5
    t.numpy()[1] = 7
    assert t.tolist() == [1, 1, 1]


def test_unsupported_arrays_are_refused() -> None:
    with pytest.raises(DtypeError, match="uint8"):
        tensor(np.zeros(2, np.uint8))
    with pytest.raises(DtypeError, match="floating tensors only, got int32"):
        tensor([1], requires_grad=True)


def test_facts() -> None:
    t = tensor(np.zeros((2, 3), np.float32))
    assert (t.shape, t.ndim, t.size, len(t), t.requires_grad) == ((2, 3), 2, 6, 2, False)
    assert t.T.shape == (3, 2)
    assert "dtype=float32" in repr(t)
    with pytest.raises(TypeError, match="0-d"):
        len(tensor(1.0))


def test_one_element_as_a_python_number() -> None:
    t = tensor([[2.5]])
    assert (t.item(), float(t), int(t), bool(t)) == (2.5, 2.5, 2, True)
    assert [10, 20, 30][tensor(1)] == 20
    with pytest.raises(ShapeError, match="of one element"):
        tensor([1.0, 2.0]).item()
    with pytest.raises(TypeError, match="not an index"):
        [1, 2][tensor(1.0)]


@pytest.mark.parametrize("name", ["add", "sub", "mul", "truediv", "pow", "lt", "le", "gt", "ge", "eq", "ne"])
def test_operators(name: str) -> None:
    apply = getattr(operator, name)
    a, b = np.float32([1, 2, 3]), np.float32([3, 2, 1])
    for left, right in ((tensor(a), tensor(b)), (tensor(a), b), (a, tensor(b))):
        got = apply(left, right)
        assert isinstance(got, Tensor)
        assert np.allclose(got.numpy(), apply(a, b))
    assert np.allclose(apply(tensor(a), 2.0).numpy(), apply(a, np.float32(2)))
    assert np.allclose(apply(2.0, tensor(a)).numpy(), apply(np.float32(2), a))


def test_logic_and_signs() -> None:
    m, n = tensor([True, False]), tensor([True, True])
    assert (m & n).tolist() == [True, False]
    assert (m | n).tolist() == [True, True]
    assert (~m).tolist() == [False, True]
    assert abs(-tensor([1.0, -2.0])).tolist() == [1.0, 2.0]


def test_matmul_takes_vectors_and_arrays() -> None:
    a, b, v = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(3, 4), np.arange(3.0)
    assert np.array_equal((tensor(a) @ b).numpy(), a @ b)
    assert np.array_equal((a @ tensor(b)).numpy(), a @ b)
    assert np.array_equal((tensor(a) @ v).numpy(), a @ v)
    assert np.array_equal((v @ tensor(b)).numpy(), v @ b)
    assert (tensor(v) @ tensor(v)).item() == v @ v


def test_methods() -> None:
    x = np.random.default_rng(0).normal(size=(3, 4))
    t = tensor(x)
    assert np.allclose(t.sum(0).numpy(), x.sum(0))
    assert np.allclose(t.mean(axis=(0, 1), keepdims=True).numpy(), x.mean(keepdims=True))
    assert t.max().item() == x.max()
    assert t.min(-1).tolist() == x.min(-1).tolist()
    assert t.reshape(2, -1).shape == (2, 6)
    assert t.transpose(1, 0).shape == (4, 3)
    assert t.astype("float32").dtype == np.float32


# -- locations -------------------------------------------------------------------------------------


def test_assign_copies_into_the_same_storage() -> None:
    v = Variable(np.zeros(3, np.float32), "v")
    storage = v.data
    v.assign(tensor([1.0, 2.0, 3.0]))
    v.assign(np.float32([4, 5, 6]))
    assert v.data is storage
    assert v.tolist() == [4, 5, 6]


def test_assign_refuses_and_writes_nothing() -> None:
    v = Variable(np.zeros(3, np.float32), "bias")
    with pytest.raises(ShapeError, match=r"assign: bias should be of shape \(3,\), got \(2,\)"):
        v.assign(tensor([1.0, 2.0]))
    with pytest.raises(DtypeError, match="assign: bias should be float32, got int32"):
        v.assign(tensor([1, 2, 3]))
    assert v.tolist() == [0, 0, 0]


def test_a_parameter_requires_a_gradient_and_is_floating() -> None:
    assert Parameter(np.zeros(2, np.float32)).requires_grad
    assert not Variable(np.zeros(2, np.float32)).requires_grad
    with pytest.raises(DtypeError, match="floating"):
        Parameter(np.zeros(2, np.int32))


# -- inside a trace --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("read", "what"),
    [
        (float, r"float\(\)"),
        (int, r"int\(\)"),
        (bool, r"if or bool\(\)"),
        (lambda t: t.numpy(), r"numpy\(\)"),
        (lambda t: t.item(), r"item\(\)"),
        (lambda t: t.tolist(), r"tolist\(\)"),
        (np.asarray, "conversion to a NumPy array"),
    ],
)
def test_reading_a_traced_tensor_names_the_user_s_line(read: Any, what: str) -> None:
    with pytest.raises(TraceError, match=what + r" needs the content.*test_tensor.py:\d+"):
        compile(lambda x: read(x))(np.float32(1))


# -- public names ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in seqlib.PUBLIC if seqlib.PUBLIC[n].startswith("seqlib.core")])
def test_public_names_exist(name: str) -> None:
    assert callable(getattr(seqlib, name))


@pytest.mark.parametrize(
    "name",
    "sum mean max min argmax argmin var cumsum sort argsort logsumexp squeeze flip softmax log_softmax transpose "
    "exp log sqrt tanh sigmoid relu gelu silu erf abs isnan isinf isfinite".split(),
)
def test_array_functions_take_arrays(name: str) -> None:
    x = np.random.default_rng(0).uniform(0.5, 2, (3, 1, 4)).astype(np.float32)
    assert isinstance(getattr(seqlib, name)(x), Tensor)


def test_constants() -> None:
    assert seqlib.zeros((2,)).tolist() == [0.0, 0.0]
    assert seqlib.ones(2, "int32").dtype == np.int32
    assert seqlib.full((2,), 3).tolist() == [3, 3]
    assert seqlib.arange(2, 8, 3).tolist() == [2, 5]
    assert seqlib.arange(0.0, 1.0, 0.25).dtype == np.float32
    assert ops.arange(3, 0, -1).tolist() == [3, 2, 1]


@pytest.mark.parametrize(
    "read",
    [
        lambda v: v[::-1],
        lambda v: v.reshape(3, 1),
        lambda v: v[:],
        lambda v: v.detach(),
        lambda v: v.T,
        lambda v: ops.broadcast_to(v, (2, 3)),
    ],
)
def test_what_was_read_from_a_location_stays(read: Any) -> None:
    a, b = (Variable(np.float32([1, 2, 3]), "v") for _ in range(2))

    def step(v: Variable, x: Tensor) -> Tensor:
        before = read(v)
        v.assign(x)
        return before * 1.0

    x = np.float32([7, 8, 9])
    expected = read(tensor([1.0, 2.0, 3.0])).numpy()
    assert np.array_equal(step(a, tensor(x)).numpy(), expected)
    assert np.array_equal(compile(lambda x: step(b, x), state=[b])(x).numpy(), expected)


@pytest.mark.parametrize("make", ["tensor([1.0])", "Tensor(numpy.ones(1))", "compile(lambda x: x)(numpy.ones(1))"])
def test_operators_work_in_a_fresh_process(make: str) -> None:
    code = f"import numpy, seqlib; print((seqlib.{make} * 2.0).tolist())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "[2.0]\n", done.stderr


@pytest.mark.parametrize("shape", [(), (5,), (3, 7), (0, 4), (300, 500)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int64", "bool"])
def test_variables_lie_at_a_cache_line(shape: tuple[int, ...], dtype: str) -> None:
    given = np.ones(shape, dtypes.canonical(dtype), order="F")
    stored = Variable(given).data
    assert stored.__array_interface__["data"][0] % 64 == 0 or not stored.size
    assert stored.flags.c_contiguous and stored.shape == shape and stored.dtype == given.dtype
    np.testing.assert_array_equal(stored, given)
    given[...] = 0
    assert stored.all()
