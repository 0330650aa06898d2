"""Expressions: random ones give what NumPy gives, in blocks, with broadcasting, and over their own inputs."""

import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqlib.core.ops.expression import compile_expression
from seqlib.core.ops.expression_numpy import BLOCK, numpy_kernel
from seqlib.core.ops.special_numpy import erf

NAMES = ("a", "b", "c")
_leaves = st.sampled_from([*NAMES, "0.5", "2.0", "3"])
_expressions = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*"), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        inner.map(lambda e: f"-({e})"),
        st.tuples(st.sampled_from(["tanh", "sin", "abs", "floor", "sign"]), inner).map(lambda t: f"{t[0]}({t[1]})"),
        st.tuples(st.sampled_from(["maximum", "minimum"]), inner, inner).map(lambda t: f"{t[0]}({t[1]}, {t[2]})"),
        st.tuples(st.sampled_from(["less", "greater_equal", "equal"]), inner, inner, inner, inner).map(
            lambda t: f"where({t[0]}({t[1]}, {t[2]}), {t[3]}, {t[4]})"
        ),
    ),
    max_leaves=8,
)
_NUMPY = {
    name: getattr(np, name)
    for name in "tanh sin abs floor sign maximum minimum less greater greater_equal equal where".split()
}


def _computes(expression: str) -> bool:
    return expression not in NAMES and re.search(r"\b[abc]\b", expression) is not None


def _arrays(shapes: list[tuple[int, ...]]) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {n: rng.normal(size=s).astype(np.float64) for n, s in zip(NAMES, shapes, strict=True)}


def _expected(expression: str, arrays: dict[str, Any], shape: tuple[int, ...]) -> Any:
    # A number alone is weak and an array of it is not; both are float64 here.
    return np.broadcast_to(np.asarray(eval(expression, {**_NUMPY, **arrays}), np.float64), shape)


@settings(max_examples=200, deadline=None)
@given(
    _expressions.filter(_computes),
    st.sampled_from([[(7,)] * 3, [(3, 1), (1, 5), ()], [(0,)] * 3, [(2, 3, 4), (4,), (3, 1)]]),
)
def test_random_expressions_equal_numpy(expression: str, shapes: list[tuple[int, ...]]) -> None:
    arrays = _arrays(shapes)
    out = np.empty(np.broadcast_shapes(*shapes))
    numpy_kernel(compile_expression(expression, NAMES))([out], list(arrays.values()), ())
    assert np.array_equal(out, _expected(expression, arrays, out.shape))


@settings(max_examples=150, deadline=None)
@given(_expressions.filter(_computes))
def test_inputs_that_may_be_overwritten(expression: str) -> None:
    arrays = _arrays([(33,)] * 3)
    plan = compile_expression(expression, NAMES)
    expected = _expected(expression, arrays, (33,))
    for _, i in plan.overlap:
        ins = [a.copy() for a in arrays.values()]
        numpy_kernel(plan)([ins[i]], ins, ())
        assert np.array_equal(ins[i], expected), f"{expression} over {NAMES[i]}"


@pytest.mark.parametrize("expression", ["a * b + c", "where(greater(a, b), tanh(a * c), b - 1.0)"])
@pytest.mark.parametrize(
    "shapes",
    [
        [(BLOCK + 7,)] * 3,
        [(3, BLOCK - 1)] * 3,
        [(3, BLOCK), (1, BLOCK), ()],
        [(BLOCK, 5), (BLOCK, 1), (5,)],
        [(2, 3, BLOCK), (3, 1), (2, 1, 1)],
    ],
)
def test_blocks_cover_the_whole(expression: str, shapes: list[tuple[int, ...]]) -> None:
    arrays = _arrays(shapes)
    shape = np.broadcast_shapes(*shapes)
    kernel = numpy_kernel(compile_expression(expression, NAMES))
    out = np.full(shape, np.nan)
    kernel([out], list(arrays.values()), ())
    assert np.array_equal(out, _expected(expression, arrays, shape))
    wide = np.full((*shape, 2), np.nan)[..., 0]
    kernel([wide], list(arrays.values()), ())
    assert np.array_equal(wide, out)


@pytest.mark.parametrize("bad", ["a", "a if b else c", "a and b", "a[0]", "x.y"])
def test_what_expressions_do_not_have(bad: str) -> None:
    with pytest.raises(ValueError, match="expression"):
        compile_expression(bad, NAMES)


def test_erf_in_float32_is_within_three_units_in_the_last_place() -> None:
    x = np.concatenate([np.linspace(-6, 6, 20_001), np.geomspace(1e-37, 0.1, 2001), [0, np.inf, -np.inf]])
    x = x.astype(np.float32)
    wanted = np.array([math.erf(value) for value in x])
    error = np.abs(erf(x) - wanted) / np.spacing(np.abs(wanted).astype(np.float32))
    assert error.max() < 3
    assert np.abs(erf(x)).max() == 1 and np.isnan(erf(np.float32([np.nan]))).all()
    assert np.array_equal(erf(x, out=(again := x.copy())), again) and np.array_equal(erf(x), again)
