"""Every op over its samples: shapes, gradients, second gradients, kernels, layouts, repeatability, half
precision, compile.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import seqlib.core.ops  # noqa: F401  (declares the ops)
from seqlib.core import dtypes
from seqlib.core.backends.base import metas_of
from seqlib.core.backward import gradients
from seqlib.core.compile import compile
from seqlib.core.op import OPS, Op
from seqlib.core.tape import apply_all
from seqlib.core.tensor import Leaf, Tensor
from seqlib.util.errors import DtypeError
from tests.core.samples import Sample, samples

Array = Any
CASES = [pytest.param(op, sample, id=f"{op.name}-{i}") for op in OPS.values() for i, sample in enumerate(samples(op))]
every_sample = pytest.mark.parametrize(("op", "sample"), CASES)


def _floating(sample: Sample) -> tuple[int, ...]:
    """The positions of floating inputs."""
    found = enumerate(sample.inputs)
    return tuple(i for i, x in found if x is not None and dtypes.is_float(np.asarray(x).dtype))


def _grad_inputs(op: Op, sample: Sample) -> tuple[int, ...]:
    if not op.differentiable:
        return ()
    if sample.grad is not None:
        return sample.grad
    return _floating(sample)


GRAD_CASES = [c for c in CASES if _grad_inputs(*c.values)]
every_gradient = pytest.mark.parametrize(("op", "sample"), GRAD_CASES)


@contextmanager
def _references(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("SEQLIB_KERNELS", "ref")
        yield


def _arrays(sample: Sample, dtype: Any = None) -> list[Array]:
    """The inputs; floating ones in `dtype` if it is given."""
    arrays = [None if x is None else np.asarray(x) for x in sample.inputs]
    if dtype is None:
        return arrays
    with np.errstate(over="ignore"):
        return [a.astype(dtype) if a is not None and dtypes.is_float(a.dtype) else a for a in arrays]


def _run(op: Op, arrays: list[Array], attrs: dict[str, Any]) -> list[Array]:
    outs = apply_all(op, tuple(None if a is None else Tensor(a) for a in arrays), {**op.defaults, **attrs})
    return [o.numpy() for o in outs]


def _gradient(op: Op, sample: Sample, arrays: list[Array], wanted: tuple[int, ...], create_graph: bool = False) -> Any:
    """(leaves, Σ cotangent · output as a number, gradients) for fixed pseudo-random cotangents."""
    tensors = [None if a is None else Tensor(a) for a in arrays]
    leaves = [tensors[i] for i in wanted]
    for leaf in leaves:
        assert leaf is not None
        leaf.node = Leaf(leaf)
    outs = apply_all(op, tuple(tensors), {**op.defaults, **sample.attrs})[: op.visible]
    rng = np.random.default_rng(5)
    pairs = [(o, Tensor(rng.normal(size=o.shape).astype(o.dtype))) for o in outs if dtypes.is_float(o.dtype)]
    value = sum(float(np.sum(np.asarray(o.numpy() * c.numpy(), np.float64))) for o, c in pairs)
    grads = gradients([o for o, _ in pairs], [c for _, c in pairs], leaves, create_graph)  # type: ignore[arg-type]
    return leaves, value, grads


def _moved(arrays: list[Array], wanted: tuple[int, ...], directions: list[Array], step: float) -> list[Array]:
    moved = list(arrays)
    for i, v in zip(wanted, directions, strict=True):
        moved[i] = arrays[i] + step * v
    return moved


def _directions(arrays: list[Array], wanted: tuple[int, ...], seed: int) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=arrays[i].shape) for i in wanted]


def _dot(grads: list[Any], directions: list[Array]) -> tuple[float, float]:
    """Σ g · v and Σ |g · v|."""
    products = [g.numpy() * v for g, v in zip(grads, directions, strict=True) if g is not None]
    return float(sum(p.sum() for p in products)), float(sum(np.abs(p).sum() for p in products))


def _assert_twice_as_good(got: Array, reference: Array, exact: Array) -> None:
    """The rule of the house: the error to a float64 result is at most twice that of the plain reference, or
    4 roundings.
    """
    assert got.shape == exact.shape
    assert got.dtype == reference.dtype
    if not dtypes.is_float(got.dtype):
        assert np.array_equal(got, reference)
        return
    got64, reference64 = got.astype(np.float64), reference.astype(np.float64)
    finite = np.isfinite(exact)
    assert np.array_equal(got64[~finite], reference64[~finite], equal_nan=True)
    if finite.any():
        error = np.abs(got64[finite] - exact[finite]).max()
        floor = 4 * _rounding(got.dtype) * max(np.abs(exact[finite]).max(), 1e-6)
        assert error <= 2 * np.abs(reference64[finite] - exact[finite]).max() + floor


def _rounding(dtype: Any) -> float:
    return {2: 2.0**-8, 4: 2.0**-24, 8: 2.0**-53}[dtype.itemsize]


# -- declaration -----------------------------------------------------------------------------------


def _of_core(op: Op) -> bool:
    """An op of another package (the search's `advance`) has its tests there, and is there if they ran before."""
    return op.fn.__module__.startswith("seqlib.core.")


@pytest.mark.parametrize("op", [pytest.param(op, id=op.name) for op in OPS.values() if _of_core(op)])
def test_declared_in_full(op: Op) -> None:
    assert samples(op), f"{op.name} has no samples in tests/core/samples"
    assert op.infer_rule is not None, f"{op.name} has no shape rule"
    assert op.fused or op.vjp_rule is not None or not op.differentiable, f"{op.name} has no gradient rule"


@pytest.mark.parametrize("op", [pytest.param(op, id=op.name) for op in OPS.values() if op.params or op.variadic])
def test_samples_have_awkward_sizes(op: Op) -> None:
    sizes = {d for s in samples(op) for x in s.inputs if x is not None for d in np.shape(x)}
    family = op.fn.__module__.rpartition(".")[2]
    if family in ("elementwise", "reduce", "statistics", "index", "sort", "join", "softmax", "norm"):
        if not op.name.startswith("logical"):
            assert 0 in sizes, f"{op.name} has no empty sample"
        if family in ("elementwise", "reduce", "statistics", "softmax", "norm") and not op.name.startswith("logical"):
            assert 1023 in sizes, f"{op.name} has no sample of odd size 1023"


# -- values ----------------------------------------------------------------------------------------


@every_sample
def test_shape_rule_is_true(op: Op, sample: Sample) -> None:
    arrays = _arrays(sample)
    before = [None if a is None else a.copy() for a in arrays]
    attrs = {**op.defaults, **sample.attrs}
    metas = op.infer_metas(metas_of(arrays), attrs)
    outs = _run(op, arrays, sample.attrs)
    assert [(o.shape, o.dtype) for o in outs] == [(m.shape, m.dtype) for m in metas]
    for a, b in zip(arrays, before, strict=True):
        assert a is None or np.array_equal(a, b, equal_nan=a.dtype.kind == "f"), "an input was written to"


@every_sample
def test_every_kernel_equals_the_reference(op: Op, sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    with _references(monkeypatch):
        reference = _run(op, _arrays(sample), sample.attrs)
        exact = _run(op, _arrays(sample, np.float64), sample.attrs)
    for kernel in op.cpu_kernels or [None]:
        if kernel is not None:
            monkeypatch.setattr(op, "cpu_kernels", [kernel])  # the first one that serves hides the others
        got = _run(op, _arrays(sample), sample.attrs)[: op.visible]
        for g, r, e in zip(got, reference, exact, strict=False):
            _assert_twice_as_good(g, r, e)


@every_sample
def test_twice_gives_the_same_bits(op: Op, sample: Sample) -> None:
    for a, b in zip(_run(op, _arrays(sample), sample.attrs), _run(op, _arrays(sample), sample.attrs), strict=True):
        assert a.tobytes() == b.tobytes()


def _strided(array: Array) -> Array:
    """The same content with gaps between elements and a reversed axis."""
    if array is None or not array.ndim:
        return array
    room = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    view = room[..., ::2][::-1]
    view[...] = array
    return view


@every_sample
def test_layout_does_not_matter(op: Op, sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = _arrays(sample)
    got = _run(op, [_strided(a) for a in arrays], sample.attrs)[: op.visible]
    with _references(monkeypatch):
        reference = _run(op, arrays, sample.attrs)
        exact = _run(op, _arrays(sample, np.float64), sample.attrs)
    for g, r, e in zip(got, reference, exact, strict=False):
        _assert_twice_as_good(g, r, e)


@pytest.mark.parametrize("half", [dtypes.float16, dtypes.bfloat16], ids=str)
@pytest.mark.parametrize(("op", "sample"), [c for c in CASES if _floating(c.values[1])])
def test_half_is_rounded_once(op: Op, sample: Sample, half: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = _arrays(sample, half)
    try:
        metas = op.infer_metas(metas_of(arrays), {**op.defaults, **sample.attrs})
    except DtypeError:
        pytest.skip(f"{op.name} refuses {half}")
    with _references(monkeypatch):
        got = _run(op, arrays, sample.attrs)
        wide = _run(
            op, [a.astype(np.float32) if a is not None and a.dtype == half else a for a in arrays], sample.attrs
        )
    for g, w, m in zip(got[: op.visible], wide, metas, strict=False):
        assert g.dtype == m.dtype
        assert np.array_equal(g, w.astype(m.dtype), equal_nan=dtypes.is_float(m.dtype))


@every_sample
def test_compiled_equals_eager_to_the_bit(op: Op, sample: Sample) -> None:
    arrays = _arrays(sample)

    def fn(*inputs: Any) -> Any:
        return list(apply_all(op, inputs, {**op.defaults, **sample.attrs})[: op.visible])

    compiled = compile(fn)
    tensors = [None if a is None else Tensor(a) for a in arrays]
    expected = fn(*tensors)
    for _ in range(2):
        for a, b in zip(compiled(*tensors), expected, strict=True):
            assert a.dtype == b.dtype
            assert a.shape == b.shape
            assert a.numpy().tobytes() == b.numpy().tobytes()


# -- gradients -------------------------------------------------------------------------------------

STEP = 1e-5


@every_gradient
def test_gradient_is_the_derivative(op: Op, sample: Sample) -> None:
    wanted = _grad_inputs(op, sample)
    arrays = _arrays(sample, np.float64)
    directions = _directions(arrays, wanted, 1)
    leaves, value, grads = _gradient(op, sample, arrays, wanted)
    for leaf, g in zip(leaves, grads, strict=True):
        assert g is None or (g.shape, g.dtype) == (leaf.shape, leaf.dtype)
    slope, scale = _dot(grads, directions)
    up = _gradient(op, sample, _moved(arrays, wanted, directions, STEP), wanted)[1]
    down = _gradient(op, sample, _moved(arrays, wanted, directions, -STEP), wanted)[1]
    assert (up - down) / (2 * STEP) == pytest.approx(slope, rel=1e-6, abs=1e-7 * scale + 1e-9 * (1 + abs(value)))


@every_gradient
def test_second_gradient_is_the_derivative_of_the_gradient(op: Op, sample: Sample) -> None:
    wanted = _grad_inputs(op, sample)
    arrays = _arrays(sample, np.float64)
    directions, outer = _directions(arrays, wanted, 1), _directions(arrays, wanted, 2)
    leaves, _, grads = _gradient(op, sample, arrays, wanted, create_graph=True)
    pairs = [(g, Tensor(u)) for g, u in zip(grads, outer, strict=True) if g is not None and g.node is not None]
    second = gradients([g for g, _ in pairs], [u for _, u in pairs], leaves) if pairs else [None] * len(leaves)
    slope, scale = _dot(second, directions)

    def projected(step: float) -> float:
        return _dot(_gradient(op, sample, _moved(arrays, wanted, directions, step), wanted)[2], outer)[0]

    size = _dot(grads, outer)[1]
    found = (projected(STEP) - projected(-STEP)) / (2 * STEP)
    assert found == pytest.approx(slope, rel=1e-6, abs=1e-7 * scale + 1e-8 * (1 + size))


@every_gradient
def test_gradient_kernels_equal_references(op: Op, sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = _grad_inputs(op, sample)
    got = _gradient(op, sample, _arrays(sample), wanted)[2]
    with _references(monkeypatch):
        reference = _gradient(op, sample, _arrays(sample), wanted)[2]
        rounded = [None if a is None else a for a in _arrays(sample, np.float64)]
        exact = _gradient(op, sample, rounded, wanted)[2]
    for g, r, e in zip(got, reference, exact, strict=True):
        assert (g is None) == (e is None)
        if g is not None:
            _assert_twice_as_good(g.numpy(), r.numpy(), e.numpy())


@every_gradient
def test_compiled_gradient_equals_eager_to_the_bit(op: Op, sample: Sample) -> None:
    wanted = _grad_inputs(op, sample)
    arrays = _arrays(sample)
    rng = np.random.default_rng(3)
    outs = [o for o in _run(op, arrays, sample.attrs)[: op.visible] if dtypes.is_float(o.dtype)]
    cotangents = [Tensor(rng.normal(size=o.shape).astype(o.dtype)) for o in outs]

    def fn(inputs: list[Any], cotangents: list[Tensor]) -> Any:
        leaves = []
        for i in wanted:
            inputs[i] = Tensor(inputs[i].data)
            inputs[i].node = Leaf(inputs[i])
            leaves.append(inputs[i])
        outs = apply_all(op, tuple(inputs), {**op.defaults, **sample.attrs})[: op.visible]
        return gradients([o for o in outs if dtypes.is_float(o.dtype)], cotangents, leaves)

    tensors = [None if a is None else Tensor(a) for a in arrays]
    compiled = compile(fn)
    expected = fn(list(tensors), cotangents)
    for _ in range(2):
        for a, b in zip(compiled(list(tensors), cotangents), expected, strict=True):
            assert (a is None) == (b is None)
            if a is not None:
                assert a.numpy().tobytes() == b.numpy().tobytes()
