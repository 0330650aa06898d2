"""Products by oneDNN: right, the same for any number of threads and from any of them, after a fork, and not there."""

import os
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest

import seqlib
from seqlib.core import dtypes, ops
from seqlib.core.backends import onednn_cpu as onednn
from seqlib.core.backends import onednn_library_cpu as library
from seqlib.core.backends import onednn_tiles_cpu as tiles
from seqlib.core.backends.threads import set_threads
from seqlib.core.compile import compile
from seqlib.core.grad import value_and_grad
from seqlib.core.modes import set_half_products
from seqlib.core.op import OPS, Meta
from seqlib.core.ops import product_numpy
from seqlib.core.tape import apply_all

needs_onednn = pytest.mark.skipif(not onednn.available(), reason="oneDNN is not installed (extra onednn)")
needs_avx512 = pytest.mark.skipif(not onednn.worthwhile(), reason="without oneDNN and AVX-512 BLAS has these products")
SHAPES = [(40, 70, 30), (301, 77, 333), (512, 300, 256), (1, 900, 2000), (700, 257, 900), (300, 4500, 200)]
SHAPES_IDS = ["x".join(map(str, shape)) for shape in SHAPES]


@pytest.fixture(params=[False, True], ids=["float32", "bfloat16"])
def half(request: pytest.FixtureRequest) -> bool:
    if request.param and not onednn.has_bfloat16():
        pytest.skip("this processor has no instructions for bfloat16")
    return request.param


def _operands(m: int, k: int, n: int, turned: str = "") -> tuple[Any, Any]:
    rng = np.random.default_rng(m)
    a = rng.normal(size=(k, m) if "a" in turned else (m, k)).astype(np.float32)
    b = rng.normal(size=(n, k) if "b" in turned else (k, n)).astype(np.float32)
    return a.T if "a" in turned else a, b.T if "b" in turned else b


@needs_onednn
@pytest.mark.parametrize("turned", ["", "a", "b", "ab"])
@pytest.mark.parametrize("shape", SHAPES, ids=SHAPES_IDS)
def test_right_and_the_same_for_any_number_of_threads(shape: tuple[int, int, int], turned: str, half: bool) -> None:
    a, b = _operands(*shape, turned)
    expected = a.astype(float) @ b
    rounding = 4 * 2.0**-8 if half else 40 * 2.0**-23
    bound = rounding * np.sqrt(shape[1])
    found = np.empty(expected.shape, np.float32)
    bits = set()
    try:
        for count in (1, 2, 3):
            set_threads(count)
            onednn.product(a, b, found, half)
            np.testing.assert_allclose(found, expected, atol=bound)
            bits.add(found.tobytes())
    finally:
        set_threads(None)
    assert len(bits) == 1
    onednn.product(a, b, found, half, add=True)
    np.testing.assert_allclose(found, 2 * expected, atol=2 * bound)


@needs_onednn
def test_parts_of_larger_arrays_and_any_strides(half: bool) -> None:
    a, b = (x.repeat(2, axis=1)[:, 1:301] for x in _operands(200, 300, 300))
    out = np.zeros((200, 400), np.float32)
    onednn.product(a[::2], b[:, 10:210], out[:100, 50:250], half)
    np.testing.assert_allclose(out[:100, 50:250], a[::2].astype(float) @ b[:, 10:210], atol=0.3 if half else 1e-3)
    assert not out[100:].any() and not out[:, :50].any() and not out[:, 250:].any()
    onednn.product(a[:, ::-1], b, out[:, :300], half)
    np.testing.assert_allclose(out[:, :300], a[:, ::-1].astype(float) @ b, atol=0.3 if half else 1e-3)


@needs_onednn
@pytest.mark.parametrize("turned", ["", "a", "b"])
def test_rounding_keeps_what_is_not_finite(turned: str) -> None:
    if not onednn.has_bfloat16():
        pytest.skip("this processor has no instructions for bfloat16")
    for shape in ((512, 45, 1100), (60, 33, 50)):
        a, b = _operands(*shape, turned)
        a[3, 5], a[4, 6], a[5, 7] = np.nan, np.inf, 3e38  # the last of which becomes infinite no more than in NumPy
        b[2] = 2.0**-140
        found, rounded = np.empty((len(a), b.shape[1]), np.float32), [x.astype(dtypes.bfloat16) for x in (a, b)]
        onednn.product(a, b, found, True)
        with np.errstate(all="ignore"):
            expected = np.matmul(*(x.astype(np.float64) for x in rounded))
            infinite = np.isinf(expected.astype(np.float32))
        assert np.array_equal(np.isnan(found), np.isnan(expected)) and np.array_equal(np.isinf(found), infinite)
        finite = np.isfinite(expected)
        finite[5] = False  # of 3e38
        np.testing.assert_allclose(found[finite], expected[finite], atol=1e-4)


@needs_onednn
def test_threads_of_others_at_once(half: bool) -> None:
    a, b = _operands(400, 300, 500)
    expected = np.empty((400, 500), np.float32)
    onednn.product(a, b, expected, half)
    found = [np.empty_like(expected) for _ in range(4)]

    def work(out: Any) -> None:
        for _ in range(5):
            onednn.product(a, b, out, half)

    workers = [threading.Thread(target=work, args=(out,)) for out in found]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(out.tobytes() == expected.tobytes() for out in found)


@needs_onednn
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_after_a_fork(half: bool) -> None:
    a, b = _operands(400, 300, 500)
    expected = np.empty((400, 500), np.float32)
    onednn.product(a, b, expected, half)
    child = os.fork()
    if not child:
        found = np.empty_like(expected)
        onednn.product(a, b, found, half)
        os._exit(int(found.tobytes() != expected.tobytes()))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@needs_avx512
def test_large_products_of_float32_go_through_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    monkeypatch.setattr(onednn, "product", lambda a, b, out, half: seen.append(half))
    a, b = _operands(128, 128, 128)
    out = np.empty((128, 128))
    product_numpy.product(a, b, out.astype(np.float32))
    product_numpy.product(a[:8], b, out[:8].astype(np.float32))
    product_numpy.product(a.astype(float), b.astype(float), out)
    assert seen == [False]
    attrs = {"transpose_a": False, "transpose_b": False, "wide": False}
    product_numpy.matmul([out.astype(np.float32)], [a, b], [], independent=True, **attrs)
    assert seen == [False]  # rows that do not depend on each other are BLAS's
    set_half_products(True)
    try:
        product_numpy.matmul([out.astype(np.float32)], [a, b], [], independent=True, **attrs)
    finally:
        set_half_products(False)
    assert seen == [False, True]


@needs_onednn
def test_with_and_without_numbas_loop(monkeypatch: pytest.MonkeyPatch, half: bool) -> None:
    pytest.importorskip("numba")
    from seqlib.core.ops import jit_cpu  # noqa: F401  (brings the loop)

    a, b = _operands(512, 300, 256)
    found = np.empty((2, 512, 256), np.float32)
    onednn.product(a, b, found[0], half)
    monkeypatch.setattr(library, "run_rows", [library.run_rows_slowly])
    monkeypatch.setattr(onednn, "turns", [])  # which only numba's loop can do
    onednn.product(a, b, found[1], half)
    assert found[0].tobytes() == found[1].tobytes()


@needs_avx512
@pytest.mark.parametrize("name", ["matmul_bias", "matmul_bias_relu", "matmul_bias_gelu", "matmul_bias_gelu_erf"])
def test_bias_and_activation_in_the_same_pass(name: str, half: bool) -> None:
    op = OPS[name]
    for m, k, n in ((96, 70, 300), (300, 4500, 200)):  # one part, and several
        a, b = _operands(m, k, n, "b")
        bias = np.random.default_rng(1).normal(size=n).astype(np.float32)
        arrays = [a / np.float32(np.sqrt(k)), b.T, bias]
        if half:
            arrays[:2] = (x.astype(dtypes.bfloat16).astype(np.float32) for x in arrays[:2])  # rounding changes nothing
        metas = [Meta(x.shape, dtypes.float32) for x in arrays]
        set_half_products(half)
        try:
            kernel = op.kernel("cpu", metas, {"independent": half})
            assert kernel is not None and op.kernel("cpu", metas, {"independent": True}) is (kernel if half else None)
            for wanted in range(1, 1 + op.visible):
                outs: list[Any] = [np.full((m, n), -9, np.float32) for _ in range(wanted)]
                kernel.load()([*outs, *[None] * (op.visible - wanted)], arrays, (), independent=half)
                plain, exact = (
                    apply_all(op, tuple(seqlib.tensor(x.astype(dtype)) for x in arrays), {"independent": False})
                    for dtype in (np.float32, np.float64)
                )
                for got, reference, expected in zip(outs, plain, exact, strict=False):
                    error, allowed = (np.abs(x - expected.numpy()).max() for x in (got, reference.numpy()))
                    assert error <= 2 * allowed + 4 * 2.0**-24 * np.abs(expected.numpy()).max()
        finally:
            set_half_products(False)


@needs_onednn
def test_compiled_functions_round_as_they_are_told(half: bool) -> None:
    a, b = _operands(96, 128, 200, "b")
    compiled = compile(lambda x, w, bias: ops.relu(ops.matmul(x, w, transpose_b=True) + bias))
    arrays = a, np.ascontiguousarray(b.T), np.ones(200, np.float32)
    exact = np.maximum(a.astype(float) @ b + 1.0, 0.0)
    errors = []
    for mode in (False, half):
        set_half_products(mode)
        try:
            errors.append(np.abs(compiled(*arrays).numpy() - exact).max())
        finally:
            set_half_products(False)
    assert len(compiled.programs) == 1 + half
    assert errors[0] < 1e-4 and (errors[1] > 1e-3) == half


@needs_onednn
def test_batches_of_products_round_too() -> None:
    if not onednn.has_bfloat16():
        pytest.skip("this processor has no instructions for bfloat16")
    rng = np.random.default_rng(0)
    q, k = (rng.normal(size=(3, n, 4, 40)).astype(np.float32).transpose(0, 2, 1, 3)[:, :, None] for n in (50, 60))
    out, bits = np.empty((3, 4, 1, 50, 60), np.float32), set()
    set_half_products(True)
    try:
        for a, b, to in (
            (q, k.swapaxes(-1, -2), out),
            (out.swapaxes(-1, -2), q, np.empty((3, 4, 1, 60, 40), np.float32)),
        ):
            for count in (1, 2, 3):
                set_threads(count)
                product_numpy.product(a, b, to)
                bits.add(to.tobytes())
            rounded = (x.astype(dtypes.bfloat16).astype(float) for x in (a, b))
            np.testing.assert_allclose(to, np.matmul(*rounded), atol=1e-3)
            assert len(bits) == 1
            bits.clear()
        turned = k[..., ::-1, :].swapaxes(-1, -2)  # what oneDNN does not take is NumPy's
        product_numpy.product(q, turned, out)
        assert out.tobytes() == np.matmul(q, turned).tobytes()
    finally:
        set_threads(None)
        set_half_products(False)


@needs_onednn
def test_one_matrix_for_many_products() -> None:
    if not onednn.has_bfloat16():
        pytest.skip("this processor has no instructions for bfloat16")
    for turned in ("", "b"):
        a, b = _operands(23, 300, 500, turned)
        found, out = np.empty((23, 500), np.float32), np.zeros((40, 600), np.float32)
        onednn.product(a, b, found, True)
        packed = onednn.packed(b)
        onednn.product(a[:10], packed, out[:10, 50:550], True)
        onednn.product(a[10:], packed, out[10:23, 50:550], True)
        np.testing.assert_allclose(out[:23, 50:550], found, atol=1e-4)  # of the same rounded numbers
        assert not out[23:].any() and not out[:, :50].any() and not out[:, 550:].any()


def test_tiles_cover_a_product_and_are_whole_panels() -> None:
    for m, k, n in (
        (1, 1 << 20, 64),
        (1, 768, 50257),
        (100, 8192, 128),
        (127, 40000, 70),
        (4096, 384, 1536),
        (3, 5, 1),
    ):
        for bounds, step in ((tiles.bounds, 16), (tiles.packed_bounds, tiles.WIDTH)):
            rows, columns, parts = bounds(m, k, n)
            for found, total in ((rows, m), (columns, n), (parts, k)):
                assert found[0] == 0 and found[-1] == total and found == sorted(set(found))
            assert not any(row % 16 for row in rows[:-1]) and not any(column % step for column in columns[:-1])


@needs_onednn
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_recurrent_layers_round_and_do_not_depend_on_threads(kind: str, half: bool) -> None:
    rng = np.random.default_rng(0)
    gates, width = {"lstm": 4, "gru": 3}[kind], 160
    shapes = (20, 16, 40), (gates * width, 40), (gates * width, width)
    given = [rng.normal(scale=0.1, size=shape).astype(np.float32) for shape in shapes]

    def loss(*inputs: Any) -> Any:
        y, *_ = getattr(ops, kind)(*inputs)
        return seqlib.sum(y * y), y

    def run() -> list[Any]:
        (_, y), gradients = value_and_grad(loss, (0, 1, 2))(*map(seqlib.tensor, given))
        return [x.numpy() for x in (y, *gradients)]

    exact, found = run(), []
    set_half_products(half)
    try:
        for count in (1, 2, 3):
            set_threads(count)
            found.append(run())
    finally:
        set_threads(None)
        set_half_products(False)
    for a, b, c, e in zip(*found, exact, strict=True):
        assert a.tobytes() == b.tobytes() == c.tobytes()
        np.testing.assert_allclose(a, e, atol=(4 * 2.0**-8 if half else 1e-5) * np.abs(e).max())
        assert not half or a.tobytes() != e.tobytes()


@pytest.mark.parametrize(
    ("setting", "answer"),
    [("", "not installed"), ("/no/such/libdnnl.so", "SEQLIB_DNNL=/no/such/libdnnl.so: no oneDNN 3")],
)
def test_the_variable_chooses(setting: str, answer: str) -> None:
    code = "from seqlib.core.backends.onednn_cpu import about; print(about())"
    environment = {**os.environ, "SEQLIB_DNNL": setting}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert answer in found.stdout + found.stderr
