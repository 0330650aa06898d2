"""Elementwise expressions by NumPy: each step is a ufunc with `out=`, over blocks that stay in the cache, so a long
expression reads and writes main memory once."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from seqlib.core.backends.threads import spread
from seqlib.core.ops import special_numpy
from seqlib.core.ops.expression import Plan, compute_dtype

_WORTH = 8
"""How much less an element is worth here than in other kernels: two threads that call ufuncs on small blocks
wait for each other's interpreter."""
BLOCK = 1 << 17
"""Elements of a block. Smaller ones would stay in the second-level cache, but a step of a block costs the
interpreter about 15 µs, which is as long as 100,000 elements take."""


def _where(condition: Any, a: Any, b: Any, out: Any) -> None:
    # Through a mask copy: np.where has no `out`. `out` may be the storage of any input.
    if np.may_share_memory(out, condition):
        condition = condition.copy()
    if isinstance(b, float) and b == 0.0 and isinstance(a, np.ndarray) and a.dtype == out.dtype:
        # A masked copy branches at every element, 7 ns where that can't be predicted; bits and a mask take 1 ns.
        bits = np.dtype(f"i{out.itemsize}")
        mask = condition.view(np.int8).astype(bits)
        np.negative(mask, out=mask)
        np.bitwise_and(a.view(bits), mask, out=out.view(bits))
        return
    if isinstance(a, np.ndarray) and np.may_share_memory(out, a):
        np.copyto(out, b, where=np.logical_not(condition))
        return
    np.copyto(out, b)
    np.copyto(out, a, where=condition)


def _number(x: Any, out: Any) -> None:
    np.copyto(out, x)


def _erf(x: Any, out: Any) -> None:
    if out.dtype == np.float32 and find_spec("numba") is not None:  # for few elements, too: their bits are the same
        from seqlib.core.ops import special_cpu

        special_cpu.erf(x, out)
    else:
        special_numpy.erf(x, out)


_OWN: dict[str, Callable[..., Any]] = {"where": _where, "number": _number, "erf": _erf, "abs": np.absolute}


def function(name: str) -> Callable[..., Any]:
    """What a step of this name calls, with `out=`."""
    return _OWN.get(name) or getattr(np, name)


def numpy_kernel(plan: Plan) -> Callable[..., None]:
    """The destination-passing kernel of a plan: `kernel(outs, ins, scratch)`."""

    def run(outs: Sequence[Any], ins: Sequence[Any], _: Sequence[Any], **attrs: Any) -> None:
        first = next(o for o in outs if o is not None)
        compute = compute_dtype(ins, outs)
        arrays = [a if a.dtype == compute or a.dtype == np.bool_ else a.astype(compute) for a in ins]
        if first.size <= BLOCK:
            _run(plan, outs, arrays, compute)
            return
        written = [o for o in outs if o is not None]
        if all(o.flags.c_contiguous for o in written) and all(
            a.size == 1 or (a.shape == first.shape and a.flags.c_contiguous) for a in arrays
        ):
            outs = [None if o is None else o.reshape(-1) for o in outs]
            arrays = [a.reshape(-1) if a.size > 1 else a.reshape(()) for a in arrays]
            total, rows = first.size, BLOCK
        else:
            arrays = [np.broadcast_to(a, first.shape) for a in arrays]
            total, rows = first.shape[0], max(1, BLOCK * first.shape[0] // first.size)
        spread(_blocks, total, first.size // _WORTH, plan, rows, outs, arrays, compute)

    return run


def _blocks(
    first: int, last: int, plan: Plan, rows: int, outs: Sequence[Any], ins: Sequence[Any], compute: Any
) -> None:
    if len(plan.steps) == 1:
        rows = last - first  # nothing to keep in the cache between steps
    for start in range(first, last, rows):
        piece = slice(start, min(start + rows, last))
        _run(plan, [None if o is None else o[piece] for o in outs], [a[piece] if a.ndim else a for a in ins], compute)


def _run(plan: Plan, outs: Sequence[Any], ins: Sequence[Any], compute: Any) -> None:
    shape = next(o.shape for o in outs if o is not None)
    held: list[Any] = [*outs, *[None] * (plan.storages - plan.outputs)]
    for name, args, target in plan.steps:
        values = [(ins[a[1]] if a[0] == "in" else held[a[1]]) if isinstance(a, tuple) else a for a in args]
        if held[target] is None:
            held[target] = np.empty(shape, np.bool_ if target in plan.masks else compute)
        function(name)(*values, out=held[target])
