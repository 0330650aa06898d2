"""One op for a group of elementwise ops, made by the pass `fuse_elementwise`, and the kernels of all expressions."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

from seqlib.core import dtypes
from seqlib.core.backends.stream_cuda import merge
from seqlib.core.op import Meta, Op
from seqlib.core.ops.expression import Plan, compile_expression, compute_dtype, loop_when


@lru_cache(maxsize=4096)
def ufuncs(plan: Plan) -> Callable[..., None]:
    """The NumPy kernel of a plan."""
    from seqlib.core.ops.expression_numpy import numpy_kernel

    return numpy_kernel(plan)


@lru_cache(maxsize=4096)
def loops(plan: Plan) -> Callable[..., None]:
    """The numba kernel of a plan."""
    from seqlib.core.ops.expression_cpu import Loops

    return Loops(plan)


@lru_cache(maxsize=4096)
def gpu_loops(plan: Plan) -> Any:
    """The CUDA kernel of a plan."""
    from seqlib.core.ops.expression_cuda import Loops

    return Loops(plan)


def add_kernels(op: Op, plan: Plan) -> None:
    """Give an op the kernels of its expression: ufuncs over blocks, and a compiled loop where numba is there."""

    found: dict[Any, Callable[..., None]] = {}  # made at the first launch

    def run(make: Any, outs: Any, ins: Any, _: Any, **attrs: Any) -> None:
        kernel = found.get(make)
        if kernel is None:
            kernel = found[make] = make(plan)
        kernel(outs, ins, ())

    when = loop_when(plan)
    one = op.cuda(partial(run, gpu_loops), strided=True, overlap=plan.overlap)
    merge(one, lambda launches: gpu_loops(plan).several(launches))
    op.cpu(partial(run, ufuncs), strided=True, overlap=plan.overlap)
    op.cpu(partial(run, loops), needs="numba", when=when, strided=True, overlap=plan.overlap)


@lru_cache(maxsize=4096)
def fused_elementwise(expression: str, inputs: int) -> Op:
    """The op that computes `expression` of the inputs x0, x1, … in one loop; its attribute `shape` is that of every
    result, to which the inputs are broadcast. Results of comparisons are bool, the rest have the inputs' dtype.
    """
    params = tuple(f"x{i}" for i in range(inputs))
    plan = compile_expression(expression, params)

    def reference(xp: Any, *arrays: Any, **attrs: Any) -> Any:
        metas = infer(*(Meta(a.shape, a.dtype) for a in arrays), **attrs)
        outs = [xp.empty(m.shape, m.dtype) for m in metas]
        ufuncs(plan)(outs, arrays, ())
        return tuple(outs)

    def infer(*metas: Meta, shape: tuple[int, ...], expression: str) -> list[Meta]:
        compute = compute_dtype(metas, ())
        return [Meta(shape, dtypes.bool_ if o in plan.masks else compute) for o in range(plan.outputs)]

    outs = tuple(f"y{o}" for o in range(plan.outputs))
    attrs = {"shape": None, "expression": None}
    op = Op("fused_elementwise", reference, params, attrs, outs, plan.outputs, differentiable=False)
    op.expression, op.infer_rule = expression, infer
    add_kernels(op, plan)
    return op
