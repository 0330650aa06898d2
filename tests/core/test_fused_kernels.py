"""Every CPU kernel of every op, not only the one that is chosen; and that threads do not change bits."""

import ast
import platform
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import seqlib
import seqlib.core.ops
from seqlib.core.backends import base, threads
from seqlib.core.op import OPS, Kernel, Op, installed
from seqlib.core.tape import apply_all
from seqlib.core.tensor import Tensor
from tests.core.samples import Sample, samples

CASES = [
    pytest.param(op, kernel, sample, id=f"{op.name}-{k}-{i}")
    for op in OPS.values()
    if len(op.cpu_kernels) > 1
    for k, kernel in enumerate(op.cpu_kernels)
    for i, sample in enumerate(samples(op))
]


def _launch(op: Op, kernel: Kernel, sample: Sample) -> list[Any]:
    arrays = [None if x is None else np.ascontiguousarray(x).reshape(np.shape(x)) for x in sample.inputs]
    attrs = {**op.defaults, **sample.attrs}
    metas = base.metas_of(arrays)
    if kernel.needs is not None and not installed(kernel.needs):
        pytest.skip(f"{kernel.needs} is not installed")
    if kernel.when is not None and not kernel.when(metas, attrs):
        pytest.skip("the kernel does not serve this sample")
    outs = [np.full(m.shape, -9, m.dtype) for m in op.infer_metas(metas, attrs)]
    scratch = [np.full(m.shape, -9, m.dtype) for m in base.scratch_metas(kernel, metas, attrs)]
    with np.errstate(all="ignore"):
        kernel.load()(outs, arrays, scratch, **attrs)
    return outs


def _reference(op: Op, sample: Sample, dtype: Any) -> list[Any]:
    arrays = [None if x is None else np.asarray(x) for x in sample.inputs]
    wide = [a.astype(dtype) if a is not None and a.dtype == np.float32 else a for a in arrays]
    outs = apply_all(op, tuple(None if a is None else Tensor(a) for a in wide), {**op.defaults, **sample.attrs})
    return [o.numpy() for o in outs]


@pytest.mark.parametrize(("op", "kernel", "sample"), CASES)
def test_kernel_is_as_good_as_the_reference(op: Op, kernel: Kernel, sample: Sample, monkeypatch: Any) -> None:
    got = _launch(op, kernel, sample)
    monkeypatch.setenv("SEQLIB_KERNELS", "ref")
    for g, r, e in zip(got, _reference(op, sample, np.float32), _reference(op, sample, np.float64), strict=True):
        finite = np.isfinite(e)
        assert np.array_equal(np.isfinite(g), finite)
        if finite.any():
            error, allowed = (np.abs(np.float64(x)[finite] - e[finite]).max() for x in (g, r))
            assert error <= 2 * allowed + 4 * 2.0**-24 * max(np.abs(e[finite]).max(), 1e-6)


@pytest.mark.parametrize(("op", "kernel", "sample"), [c for c in CASES if c.values[1].needs == "numba"])
def test_bits_do_not_depend_on_threads(op: Op, kernel: Kernel, sample: Sample, monkeypatch: Any) -> None:
    pytest.importorskip("numba")
    monkeypatch.setattr(threads, "INLINE", 0)
    found = []
    for n in (1, 2, 5):
        threads.set_threads(n)
        found.append([o.tobytes() for o in _launch(op, kernel, sample)])
    threads.set_threads(None)
    assert found[0] == found[1] == found[2]


def test_importing_the_ops_imports_no_compiler() -> None:
    import subprocess
    import sys

    code = "import sys, seqlib.core.ops; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _is_count(value: ast.expr) -> bool:
    values = [value.body, value.orelse] if isinstance(value, ast.IfExp) else [value]
    return all(isinstance(v, ast.Constant) and isinstance(v.value, int) for v in values)


def _names(loop: ast.For) -> tuple[set[str], set[str], set[str]]:
    """Arrays that a loop writes, those that it reads, and scalars that it adds up (but for counts)."""
    written, read, summed = set(), set(), set()
    for node in ast.walk(loop):
        if isinstance(node, ast.Subscript):
            (read if isinstance(node.ctx, ast.Load) else written).add(ast.unparse(node.value))
        if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name) and not _is_count(node.value):
            summed.add(node.target.id)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            summed |= {name} & {n.id for n in ast.walk(node.value) if isinstance(n, ast.Name)}
    return written, read, summed


def test_no_sum_depends_on_where_arrays_lie() -> None:
    """The rule of `jit_cpu.kernel`: a loop that adds up writes only what it reads, or nothing."""
    found = []
    for path in sorted((Path(seqlib.__file__).parent / "core" / "ops").glob("*_cpu.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            inner = isinstance(node, ast.For) and not any(
                isinstance(n, ast.For) for b in node.body for n in ast.walk(b)
            )
            if inner:
                written, read, summed = _names(node)
                if summed and written and written | read != written:
                    found.append(f"{path.name}:{node.lineno}: {', '.join(summed)} beside {', '.join(written)}")
    assert not found, found


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="reads the assembler of x86-64")
@pytest.mark.parametrize("name", ["exp32", "sigmoid32", "tanh32", "erf32"])
def test_small_functions_are_vectorised_in_the_loops_that_call_them(name: str) -> None:
    """Python's versions have other bytecode, of which numba makes longer or shorter code: it should not matter."""
    numba = pytest.importorskip("numba")
    from seqlib.core.ops import jit_cpu, special_cpu

    small = getattr(special_cpu if name == "erf32" else jit_cpu, name)

    @numba.njit(error_model="numpy")
    def loop(x: Any, y: Any) -> None:
        for i in range(x.size):
            y[i] = small(x[i])

    loop(np.ones(64, np.float32), np.empty(64, np.float32))
    (text,) = loop.inspect_asm().values()
    assert re.search(r"\bv?mulps\b", text), "no packed product: the loop is scalar"
