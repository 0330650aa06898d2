"""The CPU backend: runs ops over NumPy arrays, by a kernel where one serves and by the array reference
otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from seqlib.core import dtypes
from seqlib.core.backends.threads import single_blas
from seqlib.core.op import Attrs, Kernel, Meta, Op

Array = np.ndarray[Any, Any]
Launch = Callable[..., None]


def metas_of(arrays: Sequence[Array | None]) -> list[Meta | None]:
    return [None if a is None else Meta(a.shape, a.dtype) for a in arrays]


def execute(op: Op, arrays: Sequence[Array | None], attrs: Attrs) -> list[Array]:
    """Run one op at once. The outputs are fresh C-contiguous arrays, or views where the op is a view."""
    metas = metas_of(arrays)
    out_metas = op.infer_metas(metas, attrs)
    with single_blas(), np.errstate(all="ignore"):
        if op.view_rule is not None:
            return [op.fn(np, *arrays, **attrs)]
        kernel = op.cpu_kernel(metas, attrs)
        if kernel is None:
            return _reference(op, arrays, attrs, out_metas)
        ins = arrays if kernel.strided else [None if a is None else _contiguous(a) for a in arrays]
        outs = [np.empty(m.shape, m.dtype) for m in out_metas]
        scratch = [np.empty(m.shape, m.dtype) for m in scratch_metas(kernel, metas, attrs)]
        kernel.load()(outs, ins, scratch, **attrs)
        return outs


def scratch_metas(kernel: Kernel, metas: Sequence[Meta | None], attrs: Attrs) -> list[Meta]:
    return kernel.scratch(metas, attrs) if kernel.scratch is not None else []


def _contiguous(array: Array) -> Array:
    return array if array.flags.c_contiguous else np.array(array, order="C")


def _reference(
    op: Op, arrays: Sequence[Array | None], attrs: Attrs, out_metas: Sequence[Meta]
) -> list[Array]:
    # Half precision on the CPU: widen, compute in float32, round once.
    widened = [a.astype(np.float32) if a is not None and dtypes.is_half(a.dtype) else a for a in arrays]
    result = op.fn(np, *widened, **attrs)
    results = result if isinstance(result, tuple) else (result,)
    outs: list[Array] = []
    for i, (array, meta) in enumerate(zip(results, out_metas, strict=True)):
        out = np.asarray(array, dtype=meta.dtype, order="C")
        if out.shape != meta.shape:
            raise AssertionError(
                f"{op.name}: the reference gave output {i} the shape {out.shape}, its shape rule {meta.shape}"
            )
        outs.append(out)
    return outs


def bind(
    op: Op, metas: Sequence[Meta | None], out_metas: Sequence[Meta], attrs: Attrs
) -> tuple[Launch, Kernel | None]:
    """The destination-passing function of an op for these inputs, and the kernel it comes from (None: the
    reference).
    """
    if op.view_rule is not None:
        return _copy_view(op), None
    kernel = op.cpu_kernel(metas, attrs)
    if kernel is not None:
        return kernel.load(), kernel

    def run_reference(
        outs: Sequence[Array | None], ins: Sequence[Array | None], _: Sequence[Array], **attrs: Any
    ) -> None:
        for out, result in zip(outs, _reference(op, ins, attrs, out_metas), strict=True):
            if out is not None:
                np.copyto(out, result)

    return run_reference, None


def _copy_view(op: Op) -> Launch:
    def run_view(outs: Sequence[Array], ins: Sequence[Array], _: Sequence[Array], **attrs: Any) -> None:
        np.copyto(outs[0], op.fn(np, *ins, **attrs))

    return run_view
