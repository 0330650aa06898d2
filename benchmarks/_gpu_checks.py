"""Every op on the GPU against its float64 reference on the CPU: the checks of gpu_ops.py.

The 2x rule: the largest error is at most twice that of the plain reference in the same dtype, or four roundings of the
largest value (64 for float64, whose reference rounds as well). Values, and gradients through the op's gradient rule,
are checked; both are made twice and must have the same bits. Cases are spread over processes, since kernels are
compiled when they are first met.
"""

from __future__ import annotations

import os
import queue
import threading
import traceback
from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np
from _gpu_cases import FLOATS, Case, further_cases

Arrays = list[Any]
SECONDS = 150.0  # that one task may take before its process is given up
SHARDS = {"attention": 6, "attention_bwd": 3, "lstm": 3, "gru": 3, "matmul": 3, "layer_norm": 2, "cross_entropy": 2}

STORED = {"linear_cross_entropy"}
"""Ops whose kernels store values in between, as their inputs are: the logits. The loss is float32 nevertheless."""


class Task(NamedTuple):
    """Some of an op's cases in one dtype: every `shards`-th from number `shard` on."""

    op: str
    dtype: str
    shard: int
    shards: int


class Failure(NamedTuple):
    op: str
    dtype: str
    case: str
    what: str


class Result(NamedTuple):
    checks: int
    by_kernel: int  # of the cases, how many a CUDA kernel served as a whole
    failures: list[Failure]
    usable: bool = True  # False: the process can't go on, as after an illegal access


@contextmanager
def _references() -> Any:
    before = os.environ.get("SEQLIB_KERNELS")
    os.environ["SEQLIB_KERNELS"] = "ref"
    try:
        yield
    finally:
        if before is None:
            del os.environ["SEQLIB_KERNELS"]
        else:
            os.environ["SEQLIB_KERNELS"] = before


def cases_of(op: Any) -> Iterable[Case]:
    from tests.core.samples import samples

    for sample in samples(op):
        yield Case(sample.inputs, sample.attrs, sample.grad)
    yield from further_cases(op.name)


def arrays_of(case: Case, dtype: str, wide: str | None = None) -> Arrays:
    """The inputs rounded to `dtype`, and then, if `wide` is given, held in that."""
    from seqlib.core import dtypes

    arrays: Arrays = []
    for i, x in enumerate(case.inputs):
        array = None if x is None else np.asarray(x)
        if array is not None and dtypes.is_float(array.dtype):
            kept = i in case.keep and dtype in ("bfloat16", "float16")
            with np.errstate(over="ignore"):
                array = array.astype(np.float32 if kept else dtypes.canonical(dtype))
            array = array if wide is None else array.astype(wide)
        arrays.append(array)
    return arrays


class Runner:
    """An op's values and gradients on a device."""

    def __init__(self, op: Any, case: Case, device: str) -> None:
        self.op, self.case, self.device = op, case, device
        self.attrs = {**op.defaults, **case.attrs}

    def _tensors(self, arrays: Arrays) -> list[Any]:
        from seqlib.core.backends import place
        from seqlib.core.tensor import Tensor

        return [None if a is None else Tensor(place(a, self.device)) for a in arrays]

    def values(self, arrays: Arrays) -> Arrays:
        from seqlib.core.backends import BACKENDS
        from seqlib.core.tape import apply_all
        from seqlib.core.tensor import Tensor

        if arrays:
            outs = apply_all(self.op, tuple(self._tensors(arrays)), self.attrs)
        else:  # nothing says where to run
            outs = tuple(Tensor(x) for x in BACKENDS[self.device].execute(self.op, [], self.attrs))
        return [o.numpy() for o in outs[: self.op.visible]]

    def gradients(self, arrays: Arrays) -> Arrays:
        """By the inputs named in the case, for fixed pseudo-random cotangents."""
        from seqlib.core import dtypes
        from seqlib.core.backward import gradients
        from seqlib.core.tape import apply_all
        from seqlib.core.tensor import Leaf, Tensor

        tensors = self._tensors(arrays)
        leaves = [tensors[i] for i in self.wanted(arrays)]
        for leaf in leaves:
            leaf.node = Leaf(leaf)
        rng = np.random.default_rng(5)
        outs = apply_all(self.op, tuple(tensors), self.attrs)[: self.op.visible]
        outs = [o for o in outs if dtypes.is_float(o.dtype)]
        rounded = [rng.normal(size=o.shape).astype(np.float32) for o in outs]
        cotangents = self._tensors(
            [c.astype(self.rounding).astype(o.dtype) for c, o in zip(rounded, outs, strict=True)]
        )
        found: Sequence[Tensor | None] = gradients(outs, cotangents, leaves)
        return [None if g is None else g.numpy() for g in found]

    rounding: Any = np.float32
    """What cotangents are rounded to, so that all precisions see the same ones."""

    def wanted(self, arrays: Arrays) -> tuple[int, ...]:
        from seqlib.core import dtypes

        if not self.op.differentiable:
            return ()
        if self.case.grad is not None:
            return self.case.grad
        return tuple(i for i, a in enumerate(arrays) if a is not None and dtypes.is_float(a.dtype))


def _difference(got: Any, plain: Any, exact: Any, stored: Any = None) -> str | None:
    """What is wrong with a result by the 2x rule, None if nothing is. `stored` is the dtype of values in between."""
    import ml_dtypes

    from seqlib.core import dtypes

    if (got is None) != (exact is None):
        return f"a gradient is {'missing' if got is None else 'there and should not be'}"
    if got is None:
        return None
    if (got.shape, got.dtype) != (plain.shape, plain.dtype):
        return f"is {got.dtype} {got.shape}, should be {plain.dtype} {plain.shape}"
    if not dtypes.is_float(got.dtype):
        wrong = int(np.sum(got != plain))
        return f"{wrong} of {got.size} values differ" if wrong else None
    got64, plain64, exact = (np.asarray(x, np.float64) for x in (got, plain, exact))
    infinite = ~np.isfinite(exact) | ~np.isfinite(plain64)
    if not np.array_equal(got64[infinite], plain64[infinite], equal_nan=True):
        return "values that are not finite differ"
    got64, plain64, exact = got64[~infinite], plain64[~infinite], exact[~infinite]
    if not got64.size:
        return None
    error, allowed = np.abs(got64 - exact), 2 * np.abs(plain64 - exact).max()
    several = 32 if got.dtype == np.float64 else 2  # the float64 reference is itself not exact
    roundings = several * float(ml_dtypes.finfo(stored or got.dtype).eps) * max(np.abs(exact).max(), 1e-6)
    worst = error.max() if np.isfinite(error).all() else np.inf
    if worst <= allowed + roundings:
        return None
    bad = int(np.sum(~(error <= allowed + roundings)))
    return (
        f"error {worst:.3g}, plain {allowed / 2:.3g}, largest {np.abs(exact).max():.3g}; {bad} of {error.size} values"
    )


def _check(op: Any, case: Case, dtype: str, device: str) -> tuple[int, list[str]]:
    """The number of results compared, and what is wrong with them."""
    from seqlib.core import dtypes

    runner = Runner(op, case, device)
    runner.rounding = dtypes.canonical(dtype)
    given = arrays_of(case, dtype)
    wrong: list[str] = []
    checks = 0
    for kind in ("values", "gradients"):
        if kind == "gradients" and not runner.wanted(given):
            continue
        got, again = getattr(runner, kind)(given), getattr(runner, kind)(given)
        runner.device = "cpu"
        with _references(), np.errstate(all="ignore"):
            plain = getattr(runner, kind)(given)
            exact = getattr(runner, kind)(arrays_of(case, dtype, "float64"))
        runner.device = device
        names = op.outs if kind == "values" and op.outs else [f"#{i}" for i in range(len(got))]
        for i, (g, a, p, e) in enumerate(zip(got, again, plain, exact, strict=True)):
            checks += 1
            what = _difference(g, p, e, runner.rounding if op.name in STORED else None)
            if what is None and g is not None and g.tobytes() != a.tobytes():
                what = "other bits the second time"
            if what is not None:
                wrong.append(f"{kind} {names[i]}: {what}")
    return checks, wrong


def run(task: Task, device: str) -> Result:
    """All cases of a task."""
    import seqlib.core.ops  # noqa: F401  (declares the ops)
    from seqlib.core.backends.base import metas_of
    from seqlib.core.op import OPS
    from seqlib.util.errors import DtypeError

    op, failures, checks, served = OPS[task.op], [], 0, 0
    for number, case in enumerate(cases_of(op)):
        if number % task.shards != task.shard or task.dtype not in case.dtypes:
            continue
        arrays = arrays_of(case, task.dtype)
        if task.dtype != "float32" and all(a is None or a.dtype.kind in "bi" for a in arrays) and arrays:
            continue  # no floating input: the same case again
        shapes = ", ".join("-" if a is None else "x".join(map(str, a.shape)) for a in arrays)
        name = f"[{shapes}] " + " ".join(f"{k}={v}" for k, v in case.attrs.items())
        try:
            metas = metas_of(arrays)
            op.infer_metas(metas, {**op.defaults, **case.attrs})
            served += op.kernel(device, metas, {**op.defaults, **case.attrs}) is not None
            found, wrong = _check(op, case, task.dtype, device)
        except DtypeError:
            continue  # the op refuses this dtype
        except Exception as error:  # whatever it is, it is a failure of this case
            text = traceback.format_exc(limit=-2).strip().replace("\n", "\n      ")
            failures.append(Failure(op.name, task.dtype, name, text))
            if "CUDA" in type(error).__name__:
                return Result(checks, served, failures, usable=False)
            continue
        checks += found
        failures += [Failure(op.name, task.dtype, name, what) for what in wrong]
    return Result(checks, served, failures)


# -- processes -------------------------------------------------------------------------------------------------


def tasks(ops: Sequence[str], dtypes: Sequence[str] = FLOATS) -> list[Task]:
    """The tasks for some ops, the long ones first."""
    ordered = sorted(ops, key=lambda op: -SHARDS.get(op, 1))
    return [Task(op, d, i, SHARDS.get(op, 1)) for op in ordered for d in dtypes for i in range(SHARDS.get(op, 1))]


def _work(pipe: Any, device: str) -> None:
    while (task := pipe.recv()) is not None:
        result = run(task, device)
        pipe.send(result)
        if not result.usable:
            return


def _drive(waiting: queue.SimpleQueue[Task], found: list[tuple[Task, Result]], device: str) -> None:
    """Feed one process after another (one, unless it breaks) with tasks until none waits."""
    context = get_context("spawn")
    process, pipe = None, None
    while True:
        try:
            task = waiting.get_nowait()
        except queue.Empty:
            break
        if process is None:
            pipe, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, device), daemon=True)
            process.start()
            theirs.close()
        assert pipe is not None
        try:
            pipe.send(task)
            result = pipe.recv() if pipe.poll(SECONDS) else None
            what = f"no answer in {SECONDS:.0f} s"
        except (EOFError, OSError):
            result, what = None, "the process died"
        if result is None:
            result = Result(0, 0, [Failure(task.op, task.dtype, f"shard {task.shard}", what)], usable=False)
        found.append((task, result))
        if not result.usable:
            process.kill()
            process = None
    if process is not None and pipe is not None:
        pipe.send(None)
        process.join()


def run_all(todo: Sequence[Task], jobs: int, device: str = "cuda") -> list[tuple[Task, Result]]:
    """The results of tasks that `jobs` processes share."""
    os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
    waiting: queue.SimpleQueue[Task] = queue.SimpleQueue()
    for task in todo:
        waiting.put(task)
    found: list[tuple[Task, Result]] = []
    threads = [threading.Thread(target=_drive, args=(waiting, found, device)) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found
