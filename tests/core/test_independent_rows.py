"""Without gradients a row of a product and a sentence of attention have the same bits whatever is beside them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqlib.core import ops
from seqlib.core.backends.threads import set_threads, single_blas
from seqlib.core.compile import compile
from seqlib.core.grad import grad
from seqlib.core.op import OPS
from seqlib.core.ops import attention_rows_numpy, vectors_cpu
from seqlib.core.ops.product_numpy import row_product
from seqlib.core.tape import no_grad
from seqlib.core.tensor import tensor

Array = Any
COUNTS = (1, 2, 3, 4, 5, 8, 11, 12, 13, 23, 32, 47, 48, 49, 96, 128, 144, 191, 193, 333, 500)


def _draw(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest):
    set_threads(request.param)
    yield request.param
    set_threads(None)


# Inner size and columns: small, narrow, one column, odd, several panels.
@pytest.mark.parametrize(
    ("k", "n"),
    [(64, 64), (128, 128), (256, 128), (128, 2100), (17, 30), (64, 1), (100, 999), (3, 128), (700, 1), (1100, 20)],
)
@pytest.mark.parametrize("transposed", [True, False])
def test_a_row_does_not_depend_on_the_others(threads: int, k: int, n: int, transposed: bool) -> None:
    b = _draw(n, k).T if transposed else _draw(k, n)
    a = _draw(503, k, seed=1)
    whole = np.empty((len(a), n), np.float32)
    with single_blas():
        row_product(a, b, whole)
        np.testing.assert_allclose(whole, a.astype(float) @ b, atol=1e-4 * np.sqrt(k))
        for count in COUNTS:
            for first in (0, 1, 3):
                part = np.empty((count, n), np.float32)
                row_product(a[first : first + count], b, part)
                assert part.tobytes() == whole[first : first + count].tobytes(), (count, first)


PROBE = """
import sys
from tests.core.test_independent_rows import test_a_row_does_not_depend_on_the_others as check
for k, n in ((64, 64), (128, 300), (256, 64), (40, 999)):
    for transposed in (True, False):
        check(1, k, n, transposed)
from threadpoolctl import threadpool_info
print(next(x["architecture"] for x in threadpool_info() if x["user_api"] == "blas"))
"""


@pytest.mark.parametrize("core", ["Haswell", "Sandybridge", "SkylakeX"])
def test_nor_with_the_kernels_of_other_processors(core: str, run_python: Callable[..., str]) -> None:
    if core == "SkylakeX" and vectors_cpu.LANES < 16:
        pytest.skip("this processor has no AVX-512")
    if run_python(PROBE, OPENBLAS_CORETYPE=core).strip().lower() != core.lower():
        pytest.skip(f"this BLAS has no kernels for {core}")


OTHER = """
import llvmlite.binding as llvm
found = {name: there and not name.startswith("avx512") for name, there in llvm.get_host_cpu_features().items()}
found["fma"] = found.get("fma", False) and WITH_FMA
llvm.get_host_cpu_features = lambda: type("Features", (dict,), {"flatten": lambda self: ""})(found)
from seqlib.core.ops import vectors_cpu
assert vectors_cpu.LANES == 8 and ("fma" in vectors_cpu.FEATURES) == found["fma"]
from tests.core.test_independent_rows import test_a_row_does_not_depend_on_the_others as check
for k, n in ((64, 64), (17, 30), (1100, 20)):
    check(1, k, n, True)
from tests.core import test_independent_rows as rows
rows.test_a_sentence_does_not_depend_on_the_batch_or_its_padding(rows._numba, 2, 1)
import pytest
from tests.core import test_fused_attention as fused
check = fused.test_blocks_and_biases_equal_the_composition_for_any_number_of_threads
for sizes, bias, options in (((3, 61, 75, 4, 2, 20), (1, 4, 61, 75), {"causal": True, "dropout": 0.3}),
                             ((2, 100, 130, 2, 1, 128), (100, 1), {"causal": True})):
    with pytest.MonkeyPatch.context() as patch:
        check(patch, sizes, bias, options)
"""


@pytest.mark.parametrize("fma", [True, False])
def test_nor_with_vectors_of_other_lengths(tmp_path: Path, fma: bool, run_python: Callable[..., str]) -> None:
    pytest.importorskip("numba")
    run_python(OTHER.replace("WITH_FMA", str(fma)), SEQLIB_CACHE=str(tmp_path))


SHARED = """
import threading
import numpy as np
from seqlib.core.backends import threads
from seqlib.core.ops import rows_cpu
threads.set_threads(1)
draw = np.random.default_rng(0)
a, weights = (draw.standard_normal(shape).astype(np.float32) for shape in ((40, 600), (2, 64, 600)))
wrong = []
def run(w):
    out = np.empty((40, 64), np.float32)
    for _ in range(500):
        rows_cpu.product(a, w.T, out)
        wrong.append(not np.allclose(out, a @ w.T, atol=1e-3))
found = [threading.Thread(target=run, args=(weights[i % 2],)) for i in range(3)]
[thread.start() for thread in found]
[thread.join() for thread in found]
assert len(wrong) == 1500 and not any(wrong), sum(wrong)
"""


def test_threads_that_take_memory_from_one_place_do_not_share_it(run_python: Callable[..., str]) -> None:
    pytest.importorskip("numba")
    run_python(SHARED, MALLOC_ARENA_MAX="1")  # glibc gives freed memory to any thread


def test_matmul_with_and_without_gradients() -> None:
    x, w = _draw(7, 128), _draw(96, 128, seed=1)
    with no_grad():
        whole = ops.matmul(x, w, transpose_b=True).numpy()
        one = ops.matmul(x[3:4], w, transpose_b=True).numpy()
        deep = ops.matmul(x[None, 2:5], w, transpose_b=True).numpy()
    assert one.tobytes() == whole[3:4].tobytes() and deep[0].tobytes() == whole[2:5].tobytes()
    np.testing.assert_allclose(whole, ops.matmul(x, w, transpose_b=True).numpy(), atol=1e-4)


def test_gradients_do_not_pay_for_it() -> None:
    x, w = tensor(_draw(7, 128)), tensor(_draw(96, 128, seed=1))
    step = compile(grad(lambda x, w: (ops.matmul(x, w, transpose_b=True) ** 2.0).sum(), argnums=(0, 1)))
    step(x, w)
    launches = [launch for launch in step.programs[0].plan.launches if launch.name == "matmul"]
    assert [launch.attrs["independent"] for launch in launches] == [False] * 3


def _numba(*inputs: Array, **attrs: Any) -> tuple[Array, Array]:
    pytest.importorskip("numba")
    from seqlib.core.ops import attention_rows_cpu

    return _run(attention_rows_cpu.forward, *inputs, **attrs)


def _numpy(*inputs: Array, **attrs: Any) -> tuple[Array, Array]:
    return _run(attention_rows_numpy.forward, *inputs, **attrs)


def _run(forward: Any, *inputs: Array, **attrs: Any) -> tuple[Array, Array]:
    q = inputs[0]
    y, lse = np.empty_like(q), np.empty((q.shape[0], q.shape[2], q.shape[1]), q.dtype)
    forward([y, lse], [*inputs, *[None] * (8 - len(inputs))], [], **attrs)
    return y, lse


@pytest.mark.parametrize("kernel", [_numba, _numpy])
@pytest.mark.parametrize("own", [4, 2])
def test_a_sentence_does_not_depend_on_the_batch_or_its_padding(kernel: Any, own: int, threads: int) -> None:
    lengths = np.array([1, 5, 9, 31, 33, 50, 5, 70], np.int32)
    q, k, v = _draw(8, 72, 4, 32), _draw(8, 72, own, 32, seed=1), _draw(8, 72, own, 32, seed=2)
    bias = _draw(8, 1, 72, 72, seed=3)
    attrs = {"causal": False, "scale": 0.2}
    y, lse = kernel(q, k, v, bias, lengths, **attrs)
    for i, n in enumerate(lengths.tolist()):
        for room in (n, n + 1, 72):
            one = slice(i, i + 1)
            inputs = q[one, :room], k[one, :room], v[one, :room], bias[one, :, :room, :room], lengths[one]
            alone, alone_lse = kernel(*(np.ascontiguousarray(x) for x in inputs), **attrs)
            assert alone[0, :n].tobytes() == y[i, :n].tobytes(), (i, room)
            assert np.array_equal(alone_lse[0, :, :n], lse[i, :, :n]), (i, room)


@pytest.mark.parametrize("kernel", [_numba, _numpy])
def test_a_step_does_not_depend_on_the_size_of_the_cache(kernel: Any) -> None:
    q, k, v = _draw(5, 3, 4, 16), _draw(5, 96, 4, 16, seed=1), _draw(5, 96, 4, 16, seed=2)
    bias = np.where(_draw(5, 1, 3, 96, seed=3) > 0, 0, -np.inf).astype(np.float32)
    bias[..., 0] = 0
    lengths = np.full(5, 21, np.int32)
    y, _ = kernel(q, k, v, bias, lengths, causal=False, scale=0.25)
    for room in (21, 32, 48):
        shorter = (np.ascontiguousarray(x) for x in (k[2:4, :room], v[2:4, :room], bias[2:4, ..., :room]))
        some, _ = kernel(q[2:4].copy(), *shorter, lengths[2:4], causal=False, scale=0.25)
        assert some.tobytes() == y[2:4].tobytes()


@pytest.mark.parametrize("kernel", [_numba, _numpy])
def test_lengths_of_nothing_and_causal(kernel: Any) -> None:
    q, k, v = _draw(2, 6, 2, 4), _draw(2, 4, 2, 4, seed=1), _draw(2, 4, 2, 4, seed=2)
    lengths = np.array([0, 3], np.int32)
    y, lse = kernel(q, k, v, None, lengths, causal=True, scale=0.5)
    attrs = {"causal": True, "scale": 0.5, "dropout": 0.0, "draw": 0}
    with np.errstate(all="ignore"):
        expected = OPS["attention"].fn(tensor(q), tensor(k), tensor(v), lengths=tensor(lengths), **attrs)
    np.testing.assert_allclose(y, expected[0].numpy(), atol=1e-6)
    np.testing.assert_allclose(lse, expected[1].numpy(), atol=1e-6)
    assert not y[0].any() and not y[1, :2].any()
