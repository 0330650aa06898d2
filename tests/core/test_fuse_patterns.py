"""Pattern fusion: a fused op declared with `fuse=True` is found in plain ops that do what it does, and nowhere else."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from seqlib.core import ops
from seqlib.core.backends import onednn_cpu
from seqlib.core.backends.base import metas_of
from seqlib.core.compile import compile
from seqlib.core.op import OPS, Op
from seqlib.core.tape import apply_all
from seqlib.core.tensor import Tensor, tensor
from tests.core.samples import samples


def _draw(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


X, W, B = _draw(6, 5, 32), _draw(32, seed=1), _draw(32, seed=2)


def _launches(compiled: Any) -> list[str]:
    return [launch.name for launch in compiled.programs[-1].plan.launches]


def softmax(x: Tensor) -> Tensor:
    e = ops.exp(x - ops.max(x, axis=-1, keepdims=True))
    return e / ops.sum(e, axis=-1, keepdims=True)


def log_softmax(x: Tensor) -> Tensor:
    x = x - ops.max(x, axis=-1, keepdims=True)
    return x - ops.log(ops.sum(ops.exp(x), axis=-1, keepdims=True))


def layer_norm(x: Tensor, w: Tensor, b: Tensor, eps: float = 1e-3) -> Tensor:
    centered = x - ops.mean(x, axis=-1, keepdims=True)
    variance = ops.mean(centered * centered, axis=-1, keepdims=True)
    return b + w * (centered * ops.rsqrt(eps + variance))  # sums and products turned round


def rms_norm(x: Tensor, w: Tensor, eps: float = 1e-3) -> Tensor:
    return x * ops.rsqrt(ops.mean(x * x, axis=-1, keepdims=True) + eps) * w


HAND_WRITTEN: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "softmax": lambda x, w, b: softmax(x * 2.0),
    "log_softmax": lambda x, w, b: log_softmax(x + b),
    "layer_norm": lambda x, w, b: layer_norm(x, w, b),
    "rms_norm": lambda x, w, b: rms_norm(x, w),
}
NEAR_MISSES: dict[str, Callable[[Tensor, Tensor, Tensor], Any]] = {
    "another axis": lambda x, w, b: (
        (e := ops.exp(x - ops.max(x, axis=1, keepdims=True))) / ops.sum(e, axis=1, keepdims=True)
    ),
    "the axes of maximum and sum differ": lambda x, w, b: (
        (e := ops.exp(x - ops.max(x, axis=1, keepdims=True))) / ops.sum(e, axis=-1, keepdims=True)
    ),
    "another reader": lambda x, w, b: (
        (e := ops.exp(x - ops.max(x, axis=-1, keepdims=True))) / ops.sum(e, axis=-1, keepdims=True),
        ops.sin(e),
    ),
    "another array is normalised": lambda x, w, b: (
        ops.exp(x - ops.max(x * 2.0, axis=-1, keepdims=True)) / ops.sum(ops.exp(x), axis=-1, keepdims=True)
    ),
    "the variance of another array": lambda x, w, b: (
        (x - ops.mean(x, axis=-1, keepdims=True)) * ops.rsqrt(ops.mean(x * x, axis=-1, keepdims=True) + 1e-5) * w + b
    ),
    "a weight for each row": lambda x, w, b: rms_norm(x, tensor(_draw(5, 32))),
    "eps that differs by row": lambda x, w, b: (
        x * ops.rsqrt(ops.mean(x * x, axis=-1, keepdims=True) + ops.mean(x, axis=-1, keepdims=True)) * w
    ),
}


@pytest.mark.parametrize("name", HAND_WRITTEN)
def test_a_hand_written_op_is_replaced(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fn = HAND_WRITTEN[name]
    compiled = compile(fn)
    got = compiled(X, W, B).numpy()
    assert name in _launches(compiled) and len(_launches(compiled)) <= 2
    monkeypatch.setenv("SEQLIB_FUSE", "0")
    plain = compiled(X, W, B).numpy()
    assert name not in _launches(compiled)
    assert compiled.programs[1].launch_count >= 5
    exact = compiled(*(a.astype(np.float64) for a in (X, W, B))).numpy()
    floor = 4 * 2.0**-24 * np.abs(exact).max()
    assert np.abs(got - exact).max() <= 2 * np.abs(plain - exact).max() + floor


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_near_misses_stay_as_they_are(name: str) -> None:
    compiled = compile(NEAR_MISSES[name])
    got = compiled(X, W, B)
    assert not {"softmax", "log_softmax", "layer_norm", "rms_norm"} & set(_launches(compiled))
    expected = NEAR_MISSES[name](tensor(X), tensor(W), tensor(B))
    for a, b in zip(*(r if isinstance(r, tuple) else (r,) for r in (got, expected)), strict=True):
        assert a.numpy().tobytes() == b.numpy().tobytes()


def test_attributes_are_read_off_the_place() -> None:
    compiled = compile(lambda x, w, b: layer_norm(x, w, b, 0.25) + rms_norm(x, w, 0.5))
    compiled(X, W, B)
    found = {launch.name: launch.attrs.get("eps") for launch in compiled.programs[0].plan.launches}
    assert found["layer_norm"] == 0.25 and found["rms_norm"] == 0.5


@pytest.mark.parametrize("op", [pytest.param(op, id=op.name) for op in OPS.values() if op.fuse and op.cpu_kernels])
def test_every_composition_becomes_its_op(op: Op) -> None:
    """On every sample that a kernel serves: the visible results of the composition are one launch."""
    served = 0
    for sample in samples(op):
        attrs = {**op.defaults, **sample.attrs}
        arrays = [np.asarray(x) for x in sample.inputs]
        if any(a.size == 0 or 1 in a.shape for a in arrays):
            continue  # a reshape or a sum over one element is another composition
        if op.kernel("cpu", metas_of(arrays), attrs) is None:
            continue  # too small, or without what computes it

        def composed(*inputs: Tensor, attrs: dict[str, Any] = attrs) -> Any:
            results = op.fn(*inputs, **attrs)
            return results[: op.visible] if isinstance(results, tuple) else results

        compiled = compile(composed)
        got = compiled(*arrays)
        assert _launches(compiled) == [op.name], sample
        expected = apply_all(op, tuple(map(tensor, arrays)), attrs)[: op.visible]
        for a, b in zip(got if isinstance(got, tuple) else (got,), expected, strict=True):
            assert a.numpy().tobytes() == b.numpy().tobytes()
        served += 1
    if not served and op.name.startswith("matmul") and not onednn_cpu.worthwhile():
        pytest.skip("oneDNN (extra onednn) has no float32 products here")
    assert served
