"""Elementwise fusion: fewer launches, the same values to the bit, nothing moved past a reader."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import seqlib
from seqlib.core import ops
from seqlib.core.backends.threads import set_threads
from seqlib.core.compile import compile
from seqlib.core.grad import value_and_grad
from seqlib.core.ops.expression import compile_expression
from seqlib.core.ops.expression_numpy import numpy_kernel
from seqlib.core.passes.fuse_elementwise import common_shape, split_shape
from seqlib.core.tensor import Tensor, Variable, tensor


def _draw(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _launches(compiled: Any) -> list[str]:
    return [launch.name for launch in compiled.programs[0].plan.launches]


X = _draw(240, 64)
W = _draw(64, 256, seed=1)
B = _draw(256, seed=2)

FUSED: dict[str, tuple[Callable[..., Any], list[str]]] = {
    "bias, reshape, activation": (
        lambda x, w, b: ops.relu(ops.reshape(ops.matmul(x, w) + b, (10, 24, 256))),
        ["matmul", "fused_elementwise"],
    ),
    "two results": (
        lambda x, w, b: ((h := ops.matmul(x, w) + b), ops.gelu(h, approximate="tanh")),
        ["matmul", "fused_elementwise"],
    ),
    "a mask, and numbers": (lambda x, w, b: ops.where(x > 0.0, x * 2.0, x - 1.0) / 3.0, ["fused_elementwise"]),
    "bool made a number": (lambda x, w, b: (x > 0.0).astype(np.float32) * x, ["fused_elementwise"]),
    "float64 by itself": (
        lambda x, w, b: (x.astype(np.float64) * 2.0 + 1.0).astype(np.float32),
        ["cast", "fused_elementwise", "cast"],
    ),
    "rows and columns": (
        lambda x, w, b: (w - ops.mean(w, axis=1, keepdims=True)) * b + 1.0,
        ["mean", "fused_elementwise"],
    ),
    "infinity is an input": (lambda x, w, b: ops.minimum(x + 1.0, np.inf) * 0.5, ["fused_elementwise"]),
    "a reader in between": (
        lambda x, w, b: ops.sum((y := ops.exp(x)) * 1.0) + ops.max(y) * y,
        ["fused_elementwise", "sum", "max", "fused_elementwise"],
    ),
    "sizes that differ stay apart": (
        lambda x, w, b: (b * 2.0 + 1.0) + ops.matmul(x, w),
        ["matmul", "fused_elementwise", "add"],
    ),
    "shapes without a common one stay apart": (
        lambda x, w, b: ops.reshape(ops.reshape(x, (120, 128)) * 2.0, (128, 120)) + 1.0,
        ["mul", "add"],
    ),
    "integers stay apart": (lambda x, w, b: (ops.argmax(x, axis=1) + 1) * 2, ["argmax", "add", "mul"]),
    "one op stays itself": (lambda x, w, b: x + 1.0, ["add"]),
}


@pytest.mark.parametrize("case", FUSED)
def test_groups_and_their_bits(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fn, expected = FUSED[case]
    fused = compile(fn)
    results = fused(X, W, B)
    assert sorted(_launches(fused)) == sorted(expected)
    monkeypatch.setenv("SEQLIB_FUSE", "0")
    plain = fused(X, W, B)
    assert len(fused.programs) == 2, "SEQLIB_FUSE is part of a program's key"
    assert "fused_elementwise" not in [launch.name for launch in fused.programs[1].plan.launches]
    for a, b, c in zip(
        *(r if isinstance(r, tuple) else (r,) for r in (results, plain, fn(*map(tensor, (X, W, B))))), strict=True
    ):
        assert a.dtype == b.dtype and a.shape == b.shape
        assert a.numpy().tobytes() == b.numpy().tobytes() == c.numpy().tobytes()


def test_an_expensive_producer_is_computed_once() -> None:
    fused = compile(lambda x: ((e := ops.exp(x)) * 2.0, e + 1.0, e * e))
    fused(X)
    (launch,) = fused.programs[0].plan.launches
    assert launch.op is not None and launch.op.expression is not None
    assert launch.op.expression.count("exp") == 1


def test_locations_are_updated_in_place_in_one_launch() -> None:
    """SGD with momentum: two locations, one loop, no copy."""

    def step(p: Variable, m: Variable) -> Callable[[Tensor], None]:
        def run(g: Tensor) -> None:
            m.assign(m * 0.9 + g)
            p.assign(p - m * 0.1)

        return run

    def state() -> list[Variable]:
        return [Variable(_draw(512, 128, seed=4), "p"), Variable(_draw(512, 128, seed=5), "m")]

    a, b = state(), state()
    fused, eager = compile(step(*a), state=a), step(*b)
    for seed in range(3):
        fused(g := _draw(512, 128, seed=seed))
        eager(tensor(g))
    (program,) = fused.programs
    assert program.launch_count == 1
    assert [v for v, _ in program.plan.copies] == []
    for v, w in zip(a, b, strict=True):
        assert v.numpy().tobytes() == w.numpy().tobytes()


def test_gradients_of_a_hand_written_gelu_are_fused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def loss(x: Tensor) -> Tensor:
        return ops.sum(x * 0.5 * (1.0 + ops.tanh(0.8 * (x + 0.04 * x * x * x))))

    fused = compile(lambda x: value_and_grad(loss)(x))
    value, gradient = fused(_draw(300, 256))
    monkeypatch.setenv("SEQLIB_FUSE", "0")
    plain_value, plain_gradient = fused(_draw(300, 256))
    fewer, all_ = (program.launch_count for program in fused.programs)
    assert fewer <= 6 < 20 < all_
    assert value.item() == plain_value.item()
    assert gradient.numpy().tobytes() == plain_gradient.numpy().tobytes()


def test_planned_memory_falls(monkeypatch: pytest.MonkeyPatch) -> None:
    fused = compile(lambda x: ops.sum(ops.sigmoid(x) * ops.tanh(x) + ops.sin(x) * x))
    fused(X)
    monkeypatch.setenv("SEQLIB_FUSE", "0")
    fused(X)
    assert fused.programs[0].arena_bytes < fused.programs[1].arena_bytes


def test_sources_show_the_expression() -> None:
    fused = compile(lambda x: ops.tanh(x) * 2.0)
    fused(X)
    assert "--- fused_elementwise: expression\nt0 = tanh(x0); t1 = t0 * 2.0; t1" in fused.programs[0].sources()


@pytest.mark.parametrize(
    ("shapes", "common"),
    [
        ([(6, 4)], (6, 4)),
        ([(40, 24, 8), (960, 8)], (40, 24, 8)),
        ([(2, 12), (6, 4)], (2, 3, 4)),
        ([(6, 4), (4, 6)], None),
        ([(1, 24), (24, 1), (24,)], (24,)),
        ([(), (1, 1)], ()),
    ],
)
def test_common_shape(shapes: list[tuple[int, ...]], common: tuple[int, ...] | None) -> None:
    assert common_shape(set(shapes)) == common


@pytest.mark.parametrize(
    ("shape", "result", "common", "split"),
    [
        ((8,), (960, 8), (40, 24, 8), (8,)),
        ((960, 1), (960, 8), (40, 24, 8), (40, 24, 1)),
        ((), (960, 8), (40, 24, 8), ()),
        ((1, 24), (1, 24), (2, 12), (2, 12)),
    ],
)
def test_split_shape(shape: Any, result: Any, common: Any, split: Any) -> None:
    found = split_shape(shape, result, common)
    assert np.broadcast_shapes(found, split) in (found, split) and found[-len(split) or len(found) :] == split


EXPRESSIONS = {
    "maximum(a + b, 0.0)": 1,
    "where(greater(a, 0.0), b, 0.0)": 1,
    "a / b + sqrt(abs(c)) * floor(a) - minimum(b, c) * sign(a)": 1,
    "t = less(a, b); where(logical_and(t, not_equal(a, 0.0)), a * number(t), b), t, isnan(a)": 3,
    "where(logical_or(isinf(a), logical_not(isfinite(b))), 1.0, c) + number(greater_equal(a, b)) * 2.0": 1,
    "s = 1.0 / (1.0 + exp(-a)); b * s * (1.0 + a * (1.0 - s)), s": 2,
    "n = tanh(a * b); m = n * c + 0.1; exp(m) * n - m": 1,
    "where(less_equal(a, b), maximum(a, c), equal(a, b) * c - -a)": 1,
}
LAYOUTS: dict[str, Callable[[], list[Any]]] = {
    "flat": lambda: [_draw(70_001, seed=s) for s in range(3)],
    "row and column": lambda: [_draw(301, 300), _draw(300, seed=1), _draw(301, 1, seed=2)],
    "a number": lambda: [_draw(301, 300), _draw(301, 300, seed=1), _draw(seed=2)],
    "slices": lambda: [_draw(256, 900)[:, k * 300 : (k + 1) * 300] for k in range(3)],
    "transposed": lambda: [_draw(300, 301).T, _draw(301, 300, seed=1), _draw(300, seed=2)],
    "three axes": lambda: [_draw(64, 1, 130), _draw(8, 1, seed=1), _draw(64, 8, 130, seed=2)],
    "reversed": lambda: [_draw(301, 300)[::-1], _draw(301, 300, seed=1), _draw(300, seed=2)],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_compiled_loops_equal_numpy_to_the_bit(expression: str, layout: str) -> None:
    pytest.importorskip("numba")
    from seqlib.core.ops.expression_cpu import Loops

    plan = compile_expression(expression, ("a", "b", "c"))
    arrays = LAYOUTS[layout]()
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-42], np.float32)
    if arrays[0].base is None:
        arrays[0].reshape(-1)[:6] = special
    shape = np.broadcast_shapes(*(a.shape for a in arrays))
    found: list[Any] = []
    for kernel in (lambda o, i: numpy_kernel(plan)(o, i, ()), Loops(plan), Loops(plan)):
        outs = [np.empty(shape, np.bool_ if o in plan.masks else np.float32) for o in range(EXPRESSIONS[expression])]
        set_threads(1 if len(found) == 2 else None)
        with np.errstate(all="ignore"):
            kernel(outs, arrays)
        for o in outs:
            o[o != o] = np.nan  # a NaN's sign and payload are nobody's promise
        found.append([o.tobytes() for o in outs])
    set_threads(None)
    assert found[0] == found[1] == found[2]


def test_a_row_has_the_same_bits_wherever_it_lies() -> None:
    """With 3 rows ufuncs run, with 300 a loop: a sentence alone is what it is in a batch."""
    fn = compile(lambda x, b: ops.gelu(x + b, approximate="tanh") * ops.sigmoid(x))
    x, b = _draw(300, 257), _draw(257, seed=1)
    whole = fn(x, b).numpy()
    for rows in (slice(0, 3), slice(7, 8), slice(100, 300)):
        assert fn(x[rows], b).numpy().tobytes() == whole[rows].tobytes()


def test_an_output_may_lie_where_an_input_lies() -> None:
    pytest.importorskip("numba")
    from seqlib.core.ops.expression_cpu import Loops

    for expression, outputs in EXPRESSIONS.items():
        plan = compile_expression(expression, ("a", "b", "c"))
        expected = [np.empty((301, 300), np.bool_ if o in plan.masks else np.float32) for o in range(outputs)]
        arrays = [_draw(301, 300, seed=s) for s in range(3)]
        with np.errstate(all="ignore"):
            numpy_kernel(plan)(expected, arrays, ())
            for o, i in plan.overlap:
                if o in plan.masks:
                    continue
                for kernel in (lambda o, i, plan=plan: numpy_kernel(plan)(o, i, ()), Loops(plan)):
                    ins, outs = [a.copy() for a in arrays], [np.empty_like(e) for e in expected]
                    outs[o] = ins[i]
                    kernel(outs, ins)
                    assert all(map(np.array_equal, outs, expected)), (expression, o, i)


def test_public_compile_fuses_by_default() -> None:
    assert seqlib.compile(lambda x: ops.tanh(x) * 2.0).lower(X).launch_count == 1
