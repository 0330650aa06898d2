"""Random programs over values, views and locations: compiled equals eager to the bit, outputs and state."""

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from seqlib.core import ops
from seqlib.core.backward import gradients
from seqlib.core.compile import compile
from seqlib.core.op import OPS
from seqlib.core.tensor import Leaf, Tensor, Variable, tensor

N = 6  # every value is float32 [N, N]
ROW = np.array([3, 1, 5, 1, 0, 2], np.int32)

UNARY: list[Callable[[Any], Any]] = [
    ops.tanh,
    ops.relu,
    ops.gelu,
    ops.silu,
    lambda x: -x,
    lambda x: x * 0.5,
    lambda x: x.T,
    lambda x: x[::-1],
    lambda x: x[:, ::-1] + x,
    lambda x: x.reshape(4, 9).T.reshape(N, N),
    lambda x: ops.identity(x),
    lambda x: ops.softmax(x),
    lambda x: ops.log_softmax(x, axis=0),
    lambda x: ops.layer_norm(x, x[0], x[:, 1]),
    lambda x: ops.cumsum(x, axis=1),
    lambda x: ops.broadcast_to(x.mean(axis=0), (N, N)),
    lambda x: x - x.max(axis=1, keepdims=True),
    lambda x: ops.take(x, tensor(ROW), axis=0),
    lambda x: x[ROW, ::-1],
    lambda x: ops.concatenate([x[2:], x[:2]], axis=0),
    lambda x: ops.pad(x[1:-1, 1:-1], (1, 1), 0.25),
    lambda x: ops.sort(x, axis=0),
    lambda x: ops.where(x > 0.0, x, 0.1),
]
BINARY: list[Callable[[Any, Any], Any]] = [
    lambda a, b: a + b,
    lambda a, b: a * b,
    lambda a, b: a - b,
    lambda a, b: ops.maximum(a, b),
    lambda a, b: ops.where(a > b, a, b * 0.5),
    lambda a, b: a @ b,
    lambda a, b: ops.matmul(a, b, transpose_a=True),
    lambda a, b: OPS["softmax_bwd"](a, b),
    lambda a, b: OPS["relu_bwd"](a, b),
    lambda a, b: ops.scatter_add(a, tensor(ROW), b),
    lambda a, b: ops.concatenate([a[:, :3], b[:, 3:]], axis=1),
]
# (kind, which function, operands: positions counted from the newest value, location)
STEP = st.tuples(
    st.sampled_from(["unary", "unary", "binary", "binary", "use", "write", "update", "grad"]),
    st.integers(0, 99),
    st.integers(0, 6),
    st.integers(0, 6),
    st.integers(0, 1),
)


def _program(steps: list[Any], locations: list[Variable], returned: list[int]) -> Callable[[Any, Any], Any]:
    def run(x: Tensor, y: Tensor) -> list[Tensor]:
        values: list[Tensor] = [x, y]
        for kind, which, i, j, place in steps:
            a, b = values[-1 - i % len(values)], values[-1 - j % len(values)]
            if kind == "unary":
                values.append(UNARY[which % len(UNARY)](a))
            elif kind == "binary":
                values.append(BINARY[which % len(BINARY)](a, b))
            elif kind == "use":
                values.append(BINARY[which % len(BINARY)](locations[place], a))
            elif kind == "write":
                locations[place].assign(a)
            elif kind == "update":
                at = tensor(np.int32(which % (N - 1)))
                locations[place].assign(ops.update_slice(locations[place], a[:2], at, axis=0))
            else:
                leaf = Tensor(a.data)
                leaf.node = Leaf(leaf)
                out = BINARY[which % 7](UNARY[which % 8](leaf), Tensor(b.data))
                (g,) = gradients([out.sum()], None, [leaf])
                values.append(a if g is None else g)
        return [values[-1 - r % len(values)] for r in returned]

    return run


def _locations() -> list[Variable]:
    rng = np.random.default_rng(3)
    return [Variable(rng.normal(size=(N, N)).astype(np.float32), name) for name in ("p", "q")]


@settings(max_examples=200, deadline=None)
@given(st.lists(STEP, min_size=1, max_size=14), st.lists(st.integers(0, 9), min_size=1, max_size=3))
def test_compiled_equals_eager(steps: list[Any], returned: list[int]) -> None:
    rng = np.random.default_rng(5)
    eager_state, compiled_state = _locations(), _locations()
    eager = _program(steps, eager_state, returned)
    compiled = compile(_program(steps, compiled_state, returned), state=compiled_state)
    for _ in range(2):
        x, y = (rng.normal(size=(N, N)).astype(np.float32) for _ in range(2))
        expected = [np.array(t.numpy()) for t in eager(tensor(x), tensor(y))]
        kept = x.copy()
        got = compiled(x, y)
        assert np.array_equal(x, kept)
        for g, e in zip(got, expected, strict=True):
            assert np.array_equal(g.numpy(), e, equal_nan=True)
        for a, b in zip(eager_state, compiled_state, strict=True):
            assert np.array_equal(a.numpy(), b.numpy(), equal_nan=True)
