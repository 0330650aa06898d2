"""Compiled functions: the same bits as eager, state in place, programs by signature, clear refusals."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from seqlib.core import ops
from seqlib.core.compile import compile
from seqlib.core.grad import value_and_grad
from seqlib.core.op import Meta
from seqlib.core.rng import Generator, use_generator
from seqlib.core.tape import no_grad
from seqlib.core.tensor import Parameter, Tensor, Variable, tensor
from seqlib.util.errors import DtypeError, SeqlibError, ShapeError, TraceError


def _parameters(seed: int = 0) -> list[Parameter]:
    rng = np.random.default_rng(seed)
    return [
        Parameter(rng.normal(size=(16, 8)).astype(np.float32), "w1"),
        Parameter(rng.normal(size=(4, 16)).astype(np.float32), "w2"),
    ]


def _step(params: list[Parameter]) -> Callable[..., Tensor]:
    def step(x: Tensor, y: Tensor) -> Tensor:
        def loss() -> Tensor:
            hidden = ops.gelu(ops.matmul(x, params[0], transpose_b=True))
            difference = ops.matmul(hidden, params[1], transpose_b=True) - y
            return ops.sum(difference * difference) * 0.01

        value, grads = value_and_grad(loss, params=params)()
        for p, g in zip(params, grads, strict=True):
            p.assign(p - g * 0.01)
        return value

    return step


X = np.random.default_rng(1).normal(size=(32, 8)).astype(np.float32)
Y = np.ones((32, 4), np.float32)


def test_twenty_steps_equal_eager_to_the_bit() -> None:
    a, b = _parameters(), _parameters()
    eager, compiled = _step(a), compile(_step(b), state=b)
    for _ in range(20):
        assert eager(tensor(X), tensor(Y)).numpy() == compiled(X, Y).numpy()
    for p, q in zip(a, b, strict=True):
        assert np.array_equal(p.numpy(), q.numpy())
    (program,) = compiled.programs
    assert program.launch_count <= 29
    assert program.plan.copies == []  # the parameters are written in place
    assert 0 < program.arena_bytes < 40 * 32 * 16 * 4


def test_swap_of_two_locations() -> None:
    a, b = Variable(np.float32([1, 2]), "a"), Variable(np.float32([3, 4]), "b")

    def swap() -> Tensor:
        old = Tensor(a.data)
        a.assign(Tensor(b.data))
        b.assign(old)
        return old

    returned = compile(swap, [a, b])()
    assert returned.numpy().tolist() == [1, 2]
    assert a.numpy().tolist() == [3, 4] and b.numpy().tolist() == [1, 2]


def test_old_value_returned_and_new_value_read_back() -> None:
    a = Variable(np.float32([1, 2]), "a")

    def step() -> tuple[Tensor, Tensor]:
        old = Tensor(a.data)
        a.assign(a * 2.0)
        a.assign(a + 1.0)
        return old, a

    old, new = compile(step, a)()
    assert old.numpy().tolist() == [1, 2] and new.numpy().tolist() == [3, 5] == a.numpy().tolist()


def test_results_are_fresh() -> None:
    a = Variable(np.float32([1, 2]), "a")

    def step() -> Tensor:
        a.assign(a + 1.0)
        return a

    compiled = compile(step, a)
    first = compiled()
    compiled()
    assert first.numpy().tolist() == [2, 3]


def test_a_program_for_each_signature() -> None:
    compiled = compile(lambda x, k: x * k)
    for n in (3, 4, 3):
        compiled(np.ones(n, np.float32), 2.0)
    assert len(compiled.programs) == 2
    compiled(np.ones(3, np.float32), 3.0)
    assert len(compiled.programs) == 3
    with no_grad():
        compiled(np.ones(3, np.float32), 3.0)
    assert len(compiled.programs) == 4
    compiled.lower(Meta((5,), np.dtype(np.float32)), 2.0)
    assert len(compiled.programs) == 5


class Pair(NamedTuple):
    a: Any
    b: Any


def test_arguments_and_results_are_trees() -> None:
    compiled = compile(lambda p, d: {"sum": p.a + p.b, "rest": [d["x"], 7, None]})
    result = compiled(Pair(np.float32([1]), np.float32([2])), {"x": np.int32([5])})
    assert (
        result["sum"].numpy().tolist() == [3]
        and result["rest"][0].numpy().tolist() == [5]
        and result["rest"][1:] == [7, None]
    )


def test_views_cost_no_launch_and_in_place_chains_share_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQLIB_FUSE", "0")

    def f(x: Tensor) -> Tensor:
        y = ops.transpose(ops.reshape(x, (4, 2, 8)), (1, 0, 2))
        return ops.exp(ops.tanh(ops.sin(ops.reshape(y * 2.0, (8, 8)))))

    compiled = compile(f)
    x = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
    assert np.array_equal(compiled(x).numpy(), f(tensor(x)).numpy())
    program = compiled.programs[0]
    assert [launch.name for launch in program.plan.launches] == ["mul", "sin", "tanh", "exp"]
    assert program.arena_bytes == 2 * 256  # the input's copy and one buffer for the chain


def test_a_deep_network_reuses_its_buffers() -> None:
    def f(x: Tensor) -> Tensor:
        for _ in range(50):
            x = ops.matmul(x, x)
        return x

    compiled = compile(f)
    compiled(np.eye(64, dtype=np.float32))
    assert compiled.programs[0].arena_bytes <= 4 * 64 * 64 * 4


def test_common_subexpressions_and_dead_code_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQLIB_FUSE", "0")

    def f(x: Tensor) -> Tensor:
        ops.exp(x)
        return ops.sin(x) * ops.sin(x)

    compiled = compile(f)
    compiled(X)
    assert [launch.name for launch in compiled.programs[0].plan.launches] == ["sin", "mul"]


def test_random_draws_advance_the_generator_in_state() -> None:
    gen, twin = Generator(7), Generator(7)

    def draw(generator: Generator) -> list[Tensor]:
        with use_generator(generator):
            return [ops.dropout(tensor(np.ones(64, np.float32)), 0.5) for _ in range(3)]

    compiled = compile(lambda: draw(gen), state=gen)
    for _ in range(3):
        for a, b in zip(compiled(), draw(twin), strict=True):
            assert np.array_equal(a.numpy(), b.numpy())
    assert np.array_equal(gen.state.numpy(), twin.state.numpy()) and gen.state.numpy()[1] == 9


def test_a_larger_program_moves_the_arena_and_the_smaller_still_runs() -> None:
    small, large = compile(lambda x: ops.exp(x) * 2.0), compile(lambda x: ops.exp(x) * 2.0)
    before = small(X).numpy()
    large(np.zeros((2048, 2048), np.float32))
    assert np.array_equal(small(X).numpy(), before)


def test_compiled_inside_compiled_is_one_program() -> None:
    inner = compile(lambda x: x * 2.0)
    outer = compile(lambda x: inner(x) + 1.0)
    assert outer(np.float32([1])).numpy().tolist() == [3]
    assert inner.programs == []


@pytest.mark.parametrize(
    ("fn", "words"),
    [
        (lambda x: x if x > 0 else -x, ["if or bool()", "test_compile.py"]),
        (lambda x: x * float(x), ["float()", "test_compile.py"]),
        (lambda x: x + tensor(x.numpy()), ["numpy()"]),
        (lambda x: x + OUTSIDE, ["add", "outside", "neither an argument nor in state"]),
        (lambda x: OUTSIDE, ["made outside"]),
    ],
)
def test_refusals_name_the_op_and_the_line(fn: Callable[..., Any], words: list[str]) -> None:
    with pytest.raises(TraceError) as error:
        compile(fn)(np.array(1.0, np.float32))
    for word in words:
        assert word in str(error.value)


OUTSIDE = tensor(2.0)


def test_a_captured_variable_is_named() -> None:
    hidden = Variable(np.float32([1]), "model.bias")
    with pytest.raises(TraceError, match=r"model\.bias"):
        compile(lambda x: x + hidden)(np.float32([1]))

    def write(x: Tensor) -> None:
        hidden.assign(x)

    with pytest.raises(TraceError, match=r"model\.bias"):
        compile(write)(np.float32([1]))
    with pytest.raises(TraceError, match="list it in state"):
        compile(lambda v: v)(hidden)


def test_a_failed_trace_leaves_the_state_as_it_was() -> None:
    a = Variable(np.float32([1, 2]), "a")

    def broken(x: Tensor) -> Tensor:
        a.assign(a + x)
        return ops.matmul(x, a)

    with pytest.raises(SeqlibError):
        compile(broken, a)(np.float32([1, 2, 3]))
    assert a.numpy().tolist() == [1, 2]


def test_assign_checks_shape_and_dtype() -> None:
    a = Variable(np.float32([1, 2]), "a")
    with pytest.raises(ShapeError, match=r"a should be of shape \(2,\), got \(3,\)"):
        a.assign(np.float32([1, 2, 3]))
    with pytest.raises(DtypeError, match="should be float32"):
        a.assign(tensor(np.array([1, 2])))


def test_unhashable_static_argument() -> None:
    with pytest.raises(TraceError, match="neither a tensor nor hashable"):
        compile(lambda x: x)({1, 2})


def test_debug_prints_the_source_of_kernels(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEQLIB_DEBUG", "4")
    fn = compile(lambda x: ops.gelu(ops.matmul(x, x)) + ops.argsort(x))
    fn(np.eye(3, dtype=np.float32))
    text = capsys.readouterr().err
    assert "--- gelu_erf: expression\n0.5 * x * (1.0 + erf(" in text
    assert "--- matmul: kernel, " in text and "product_numpy.py:" in text and "transpose_a: bool" in text
    assert "--- argsort: reference, " in text and "def _argsort(" in text
    monkeypatch.setenv("SEQLIB_KERNELS", "ref")
    fn(np.eye(3, dtype=np.float32))
    assert "--- matmul: reference, " in capsys.readouterr().err


def test_debug_output(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SEQLIB_DEBUG", "3")
    compile(lambda x: ops.matmul(x, x))(np.eye(3, dtype=np.float32))
    text = capsys.readouterr().err
    for part in ("graph after trace", "eliminate_common_subexpressions", "GFLOP/s", "GB/s", "matmul", "1 launches"):
        assert part in text


@pytest.mark.parametrize(("n", "k"), [(3, 40), (12, 64), (30, 64), (40, 40)])
def test_a_product_with_itself_equals_eager_to_the_bit(n: int, k: int) -> None:
    """NumPy has an algorithm of its own for a matrix times its own transpose; which buffers are one is our business."""
    a = Variable(np.random.default_rng(n).normal(size=(n, k)).astype(np.float32), "a")

    def f(x: Tensor) -> tuple[Tensor, ...]:
        return (
            ops.matmul(ops.exp(x), ops.exp(x), transpose_b=True),  # two buffers, or one after CSE
            ops.matmul(a, ops.transpose(a)),
            ops.matmul(a, a, transpose_b=True),
            ops.matmul(ops.reshape(a, (1, n, k)), ops.reshape(a, (1, n, k)), transpose_b=True),
        )

    for eager, compiled in zip(f(tensor(a.numpy())), compile(f, a)(a.numpy()), strict=True):
        assert np.array_equal(eager.numpy(), compiled.numpy())
