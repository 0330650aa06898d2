"""Our ops against PyTorch's answers (make_answers.py): outputs, gradients, second gradients, in both precisions."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqlib.core import ops
from seqlib.core.backward import gradients
from seqlib.core.compile import compile
from seqlib.core.tensor import Leaf, Parameter, Tensor
from seqlib.optim import AdamW

ANSWERS = Path(__file__).parent / "answers"
Arrays = dict[str, Any]
Fn = Callable[..., Any]


def _matmul(ta: bool, tb: bool) -> Fn:
    return lambda a, b: ops.matmul(a, b, transpose_a=ta, transpose_b=tb)


def _packed(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    q_offsets, k_offsets = Tensor(np.int32([0, 3, 5])), Tensor(np.int32([0, 4, 6]))
    return ops.attention(q, k, v, q_offsets=q_offsets, k_offsets=k_offsets, causal=causal)


_SAME = (
    "exp tanh sigmoid relu sin cos erf neg abs square floor sign log sqrt rsqrt gelu silu add sub mul div power "
    "maximum minimum where less greater_equal equal not_equal isnan isinf isfinite"
).split()
OURS: dict[str, dict[str, Fn]] = {
    "elementwise": {
        **{name: getattr(ops, name) for name in _SAME},
        "gelu_tanh": lambda x: ops.gelu(x, approximate="tanh"),
        "maximum_ties": ops.maximum,
    },
    "reduce": {
        "sum": lambda x: ops.sum(x, axis=(0, 2)),
        "mean": lambda x: ops.mean(x, axis=1, keepdims=True),
        "max": lambda x: ops.max(x, axis=(0, 1)),
        "min": lambda x: ops.min(x, axis=-1),
        "max_ties": lambda x: ops.max(x, axis=-1),
        "var": lambda x: ops.var(x, axis=(0, 2)),
        "var_ddof1": lambda x: ops.var(x, axis=1, ddof=1),
        "logsumexp": lambda x: ops.logsumexp(x, axis=(0, 2)),
        "cumsum": lambda x: ops.cumsum(x, axis=1),
        "argmax": lambda x: ops.argmax(x, axis=1),
        "argmin": ops.argmin,
        "any": lambda m: ops.any(m, axis=0),
        "all": lambda m: ops.all(m, axis=1),
    },
    "shape": {
        "reshape": lambda x: x.T.reshape(2, -1),
        "transpose": lambda x: x.transpose(2, 0, 1),
        "concatenate": lambda a, b: ops.concatenate([a, b], axis=1),
        "stack": lambda a, b: ops.stack([a, b], axis=-1),
        "split": lambda x: ops.split(x, [1, 3], axis=1),
        "slice": lambda x: x[1:, ::2, -2:],
        "flip": lambda x: ops.flip(x, (0, 2)),
        "pad": lambda x: ops.pad(x, ((1, 3), (0, 2)), -1.5),
        "broadcast_to": lambda x: ops.broadcast_to(x, (2, 3, 5)),
        "take": lambda x, i: ops.take(x, i, axis=1),
        "gather": lambda x, i: ops.gather(x, i, axis=1),
        "scatter_add": lambda x, i, u: ops.scatter_add(x, i, u),
        "index_neighbours": lambda x, i, j: x[:, i, j],
        "index_apart": lambda x, i, j: x[i, :, j],
        "index_mask": lambda x, m: x[m],
        "sort": lambda x: ops.sort(x, axis=0),
        "sort_descending": lambda x: ops.sort(x, descending=True),
        "argsort": lambda x: ops.argsort(x, axis=1),
        "top_k": lambda x: ops.top_k(x, 3),
        "one_hot": lambda i: ops.one_hot(i, 6, "int32"),
    },
    "matmul": {
        **{f"matmul_{ta:d}{tb:d}": _matmul(ta, tb) for ta in (False, True) for tb in (False, True)},
        **{f"matmul_{name}": ops.matmul for name in ("batched", "shared", "vector")},
    },
    "fused": {
        "softmax": ops.softmax,
        "softmax_axis0": lambda x: ops.softmax(x, axis=0),
        "log_softmax": ops.log_softmax,
        "layer_norm": ops.layer_norm,
        "embedding": ops.embedding,
        "cross_entropy": ops.cross_entropy,
        "cross_entropy_smoothed": lambda x, t: ops.cross_entropy(x, t, smoothing=0.1),
        "linear_cross_entropy": ops.linear_cross_entropy,
        "linear_cross_entropy_smoothed": lambda x, w, t: ops.linear_cross_entropy(x, w, t, smoothing=0.1),
        "attention": ops.attention,
        "attention_causal": lambda q, k, v: ops.attention(q, k, v, causal=True),
        "attention_causal_longer": lambda q, k, v: ops.attention(q, k, v, causal=True),
        "attention_causal_shorter": lambda q, k, v: ops.attention(q, k, v, causal=True),
        "attention_lengths": lambda q, k, v, n: ops.attention(q, k, v, lengths=n),
        "attention_grouped": ops.attention,
        "attention_bias": ops.attention,
        "attention_packed": lambda q, k, v: _packed(q, k, v, False),
        "attention_packed_causal": lambda q, k, v: _packed(q, k, v, True),
    },
    "recurrent": {
        "lstm": ops.lstm,
        "lstm_reverse": partial(ops.lstm, reverse=True),
        "gru": ops.gru,
        "gru_reverse": partial(ops.gru, reverse=True),
    },
}
CASES = [
    pytest.param(family, name, fn, id=name) for family, functions in OURS.items() for name, fn in functions.items()
]
TOLERANCE = {np.float64: 1e-9, np.float32: 3e-5}
both_precisions = pytest.mark.parametrize("dtype", list(TOLERANCE), ids=["float64", "float32"])


def _load(family: str) -> Arrays:
    with np.load(ANSWERS / f"{family}.npz") as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def answers() -> dict[str, dict[str, Arrays]]:
    found: dict[str, dict[str, Arrays]] = {}
    for family in OURS:
        for key, array in _load(family).items():
            name, part = key.split("/")
            found.setdefault(family, {}).setdefault(name, {})[part] = array
    return found


def _numbered(case: Arrays, part: str) -> dict[int, Any]:
    return {int(k[len(part) :]): v for k, v in case.items() if k.startswith(part)}


def _assert_close(got: Tensor, expected: Any, tolerance: float) -> None:
    assert got.shape == expected.shape
    array = got.numpy()
    if array.dtype.kind != "f":
        assert np.array_equal(array, expected)
        return
    scale = np.abs(expected[np.isfinite(expected)]).max(initial=1.0)
    np.testing.assert_allclose(array, expected, rtol=tolerance, atol=tolerance * scale)


def test_every_answer_is_checked(answers: dict[str, dict[str, Arrays]]) -> None:
    assert {family: set(cases) for family, cases in answers.items()} == {f: set(c) for f, c in OURS.items()}
    assert sum(f.stat().st_size for f in ANSWERS.iterdir()) < 2 * 2**20


@both_precisions
@pytest.mark.parametrize(("family", "name", "fn"), CASES)
def test_outputs_and_gradients(
    family: str, name: str, fn: Fn, dtype: Any, answers: dict[str, dict[str, Arrays]]
) -> None:
    case, tolerance = answers[family][name], TOLERANCE[dtype]
    inputs = [Tensor(x.astype(dtype) if x.dtype.kind == "f" else x) for _, x in sorted(_numbered(case, "in").items())]
    wanted = _numbered(case, "grad")
    for i in wanted:
        inputs[i].node = Leaf(inputs[i])
    result = fn(*inputs)
    outs = list(result) if isinstance(result, (tuple, list)) else [result]
    for i, expected in _numbered(case, "out").items():
        _assert_close(outs[i], expected, tolerance)
    if not wanted:
        return
    cotangents = _numbered(case, "cotangent")
    if not outs[0].requires_grad:  # floor and sign: no gradient here, zeros there
        assert not any(g.any() for g in wanted.values())
        return
    tracked, leaves = [outs[i] for i in cotangents], [inputs[i] for i in wanted]
    given = [Tensor(c.astype(o.dtype)) for c, o in zip(cotangents.values(), tracked, strict=True)]
    for g, expected in zip(gradients(tracked, given, leaves), wanted.values(), strict=True):
        assert g is not None
        _assert_close(g, expected, tolerance)
    second = _numbered(case, "second")
    if second:
        grads = gradients(tracked, given, leaves, create_graph=True)
        pairs = [(g, Tensor(t.data)) for g, t in zip(grads, leaves, strict=True) if g is not None and g.requires_grad]
        found = gradients([g for g, _ in pairs], [u for _, u in pairs], leaves)
        for g, expected in zip(found, second.values(), strict=True):
            if g is None:
                assert not expected.any()
            else:
                _assert_close(g, expected, 10 * tolerance)


@both_precisions
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_adamw_with_clipping(dtype: Any, compiled: bool) -> None:
    a = _load("adamw")
    params = {"w": Parameter(a["w"].astype(dtype), "w"), "b": Parameter(a["b"].astype(dtype), "b")}
    optimizer = AdamW(params, betas=(0.9, 0.98), eps=1e-9, weight_decay=0.1, clip_norm=1.0)

    def update(gw: Tensor, gb: Tensor) -> Tensor:
        return optimizer.update({"w": gw, "b": gb})

    step = compile(update, state=[list(params.values()), optimizer]) if compiled else update
    for t, g in enumerate(a["grads"].astype(dtype)):
        optimizer.lr.assign(np.float32(0.01 * (t + 1)))
        norm = step(Tensor(g[:12].reshape(4, 3)), Tensor(g[12:]))
        # PyTorch adds 1e-6 to the norm before it divides; the rate and the factor are float32 here.
        assert norm.item() == pytest.approx(a["norms"][t], rel=1e-6)
        np.testing.assert_allclose(params["w"].numpy(), a["after_w"][t], rtol=1e-5, atol=2e-6)
        np.testing.assert_allclose(params["b"].numpy(), a["after_b"][t], rtol=1e-5, atol=2e-6)
