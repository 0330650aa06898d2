"""The CUDA kernels of sum, mean, max and min: launches of reduce.cu."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from seqlib.core.backends.cuda import TYPES, Source, grid, name_of
from seqlib.core.op import Attrs, Meta
from seqlib.core.ops import reduce as declared

_OPS = ("SUM", "MAX", "MIN")


def _names() -> list[str]:
    names: list[str] = []
    for t in TYPES.values():
        for op in _OPS:
            if t == "bool" and op != "SUM":
                continue
            outs = [t] if t != "bool" else ["int"]
            if op == "SUM" and t in ("int", "i64", "bool"):
                outs.append("float")  # the mean of integers
            for out in outs:
                names += [f"reduce_rows<{t}, {out}, {op}, {block}>" for block in ("true", "false")]
                names.append(f"reduce_columns<{t}, {out}, {op}>")
            if t in ("f16", "bf16"):  # parts of 16-bit columns are kept in float
                names += [f"reduce_rows<{t}, float, {op}, {block}>" for block in ("true", "false") if op == "SUM"]
                names.append(f"reduce_columns<{t}, float, {op}>")
                names.append(f"reduce_columns<float, {t}, {op}>")
    return names


_SOURCE = Source("reduce.cu", _names())
_WARPS = 8


def _form(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, int, int] | None:
    """x as [outer, along, inner]; None when the reduced axes are not next to each other (axes of size 1 apart)."""
    kept = [(i in axes, d) for i, d in enumerate(shape) if d != 1]
    runs: list[list[int]] = []
    for reduced, size in kept:
        if runs and runs[-1][0] == reduced:
            runs[-1][1] *= size
        else:
            runs.append([reduced, size])
    pattern = [bool(r[0]) for r in runs]
    sizes = [r[1] for r in runs]
    forms = {(): (1, 1, 1), (True,): (1, *sizes, 1), (False,): (*sizes, 1, 1)}
    forms |= {(False, True): (*sizes, 1), (True, False): (1, *sizes), (False, True, False): tuple(sizes)}
    return forms.get(tuple(pattern))  # type: ignore[arg-type, return-value]


def serves(metas: Sequence[Meta | None], attrs: Attrs) -> bool:
    """A kernel's `when`: the axes form one run and there is something to reduce."""
    x = metas[0]
    assert x is not None
    return x.size > 0 and _form(x.shape, attrs["axis"]) is not None


def _tiles(inner: int, itemsize: int) -> int:
    """Blocks side by side: a thread takes columns of 16 bytes together."""
    return grid(inner, 32 * 16 // itemsize)[0]


def _parts(outer: int, along: int, inner: int, itemsize: int) -> int:
    """Into how many parts a middle axis is cut, so that the GPU is full."""
    blocks = outer * _tiles(inner, itemsize)
    return max(1, min(along // 64, 512 // blocks))


def scratch(metas: Sequence[Meta | None], attrs: Attrs) -> list[Meta]:
    """The parts of columns, [outer, parts, inner] in the dtype of sums."""
    x = metas[0]
    assert x is not None
    form = _form(x.shape, attrs["axis"])
    assert form is not None
    outer, along, inner = form
    parts = _parts(outer, along, inner, x.dtype.itemsize) if inner > 1 else 1
    wide = {"float16": np.float32, "bfloat16": np.float32, "bool": np.int32}.get(x.dtype.name, x.dtype)
    return [Meta((outer * parts * inner,), np.dtype(wide))] if parts > 1 else []


def _reduce(op: str, out: Any, x: Any, rest: Any, axis: tuple[int, ...], factor: float) -> None:
    form = _form(x.shape, axis)
    assert form is not None
    outer, along, inner = form
    t, o = name_of(x), name_of(out)
    if inner == 1:
        block = along >= 2048
        kernel = _SOURCE.kernel(f"reduce_rows<{t}, {o}, {op}, {'true' if block else 'false'}>")
        blocks = (outer,) if block else grid(outer, _WARPS)
        kernel(blocks, (256,), (out, x, np.int64(outer), np.int32(along), np.float64(factor)))
        return
    tiles, rows = _tiles(inner, x.itemsize), np.int64(inner)
    if not rest:
        kernel = _SOURCE.kernel(f"reduce_columns<{t}, {o}, {op}>")
        kernel((tiles, 1, outer), (32, 8), (out, x, np.int32(along), rows, np.float64(factor)))
        return
    parts, wide = rest[0].size // (outer * inner), name_of(rest[0])
    first, second = (
        _SOURCE.kernel(f"reduce_columns<{t}, {wide}, {op}>"),
        _SOURCE.kernel(f"reduce_columns<{wide}, {o}, {op}>"),
    )
    first((tiles, parts, outer), (32, 8), (rest[0], x, np.int32(along), rows, np.float64(1)))
    second(
        (_tiles(inner, rest[0].itemsize), 1, outer), (32, 8), (out, rest[0], np.int32(parts), rows, np.float64(factor))
    )


def sum_(outs: Any, ins: Any, scratch: Any, *, axis: Any, keepdims: bool, wide: bool) -> None:
    """The kernel of sum."""
    _reduce("SUM", outs[0], ins[0], scratch, axis, 1.0)


def mean(outs: Any, ins: Any, scratch: Any, *, axis: Any, keepdims: bool) -> None:
    """The kernel of mean."""
    count = int(np.prod([ins[0].shape[i] for i in axis], dtype=np.int64))
    _reduce("SUM", outs[0], ins[0], scratch, axis, 1.0 / count)


def max_(outs: Any, ins: Any, scratch: Any, *, axis: Any, keepdims: bool) -> None:
    """The kernel of max."""
    _reduce("MAX", outs[0], ins[0], scratch, axis, 1.0)


def min_(outs: Any, ins: Any, scratch: Any, *, axis: Any, keepdims: bool) -> None:
    """The kernel of min."""
    _reduce("MIN", outs[0], ins[0], scratch, axis, 1.0)


for _op, _fn in ((declared._sum, sum_), (declared._mean, mean), (declared._max, max_), (declared._min, min_)):
    _op.cuda(_fn, when=serves, scratch=scratch)
