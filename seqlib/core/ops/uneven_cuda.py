"""Large products of 16-bit matrices whose rows are no whole multiples of 16 bytes, several times slower than others:
they are computed on copies with such rows, filled up with zeros, by the kernels that there are (matmul_cuda.py,
cross_entropy_cuda.py).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from seqlib.core import dtypes
from seqlib.core.backends.cuda import Source, aligned, grid
from seqlib.core.op import Attrs, Kernel, Meta, Op
from seqlib.core.ops import cross_entropy_cuda, matmul_cuda  # noqa: F401  (their kernels come first)
from seqlib.core.ops.cross_entropy import _linear_cross_entropy
from seqlib.core.ops.epilogue import matmul_bias
from seqlib.core.ops.matmul import _matmul

_LEAST, _LARGE = 128, 1 << 28
"""Each size, and multiplications, from which on copies pay."""
_TYPES = {2: "u16", 4: "u32"}
"""What moves values of so many bytes."""
_SOURCE = Source("uneven.cu", [f"copy_rows<{t}, {n}>" for t in _TYPES.values() for n in (1, 4)])


def _copy(to: Any, source: Any) -> None:
    """Copy a matrix into the corner of another, or the corner of one into another; 0 beyond."""
    (height, limit), (rows, width), lead = source.shape, to.shape, source.shape[1]
    lanes = 4 if width % 4 == lead % 4 == 0 and aligned(to, source) else 1
    kernel = _SOURCE.kernel(f"copy_rows<{_TYPES[to.itemsize]}, {lanes}>")
    chunks = rows * width // lanes
    sizes = (width // lanes, lead, min(height, rows), min(limit, width))
    kernel(grid(chunks, 256), (256,), (to, source, np.int64(chunks), *map(np.int32, sizes)))


def _up(n: int) -> int:
    return -(-n // 8) * 8


Filled = tuple[Sequence[Meta | None], Sequence[Meta]]
"""The inputs and outputs of a product with its rows filled up."""


def _filled_matmul(metas: Sequence[Meta | None], attrs: Attrs) -> Filled:
    a, b = metas[:2]
    assert a is not None and b is not None
    ta, tb = attrs.get("transpose_a", False), attrs.get("transpose_b", True)
    (m, k), n = (a.shape[::-1] if ta else a.shape), b.shape[0 if tb else 1]
    m, n, k = (_up(m) if ta else m), _up(n), (_up(k) if tb or not ta else k)
    filled = [Meta((k, m) if ta else (m, k), a.dtype), Meta((n, k) if tb else (k, n), b.dtype), *metas[2:]]
    op = _matmul if len(metas) == 2 else matmul_bias
    return filled, op.infer_metas(filled, attrs)


def _filled_loss(metas: Sequence[Meta | None], attrs: Attrs) -> Filled:
    x, w, *rest = metas
    assert x is not None and w is not None
    width = _up(x.shape[1])
    filled = [Meta((rows, width), x.dtype) for rows in (x.shape[0], w.shape[0])]
    return [*filled, *rest], _linear_cross_entropy.infer_metas([*filled, *rest], attrs)


def _large(metas: Sequence[Meta | None], attrs: Attrs) -> bool:
    """Two 16-bit matrices of one dtype, of a large product."""
    a, b = metas[:2]
    assert a is not None and b is not None
    if a.dtype != b.dtype or not dtypes.is_half(a.dtype) or not len(a.shape) == len(b.shape) == 2:
        return False
    sizes = (*a.shape, b.shape[0 if attrs.get("transpose_b", True) else 1])
    return min(sizes) >= _LEAST and sizes[0] * sizes[1] * sizes[2] >= _LARGE


def _add(op: Op, fill: Any) -> None:
    """Give an op the kernel that it has, on copies."""
    base: Kernel = op.cuda_kernels[0]

    def when(metas: Sequence[Meta | None], attrs: Attrs) -> bool:
        if not _large(metas, attrs):
            return False
        if op is matmul_bias and metas[1].shape[0] % 8:  # type: ignore[union-attr]
            return False  # the bias would have to be filled up, too
        filled = fill(metas, attrs)[0]
        return any(f != m for f, m in zip(filled, metas, strict=True)) and base.serves(filled, attrs)

    def scratch(metas: Sequence[Meta | None], attrs: Attrs) -> list[Meta]:
        ins, outs = fill(metas, attrs)
        rooms = [f for f, m in zip(ins, metas, strict=True) if f is not None and f != m]
        rooms += [f for f, m in zip(outs, op.infer_metas(metas, attrs), strict=True) if f != m]
        return [*rooms, *(base.scratch(ins, attrs) if base.scratch else ())]

    def run(outs: Any, ins: Any, scratch: Any, **attrs: Any) -> None:
        metas = [None if x is None else Meta(x.shape, x.dtype) for x in ins]
        filled, made = fill(metas, attrs)
        rooms = list(scratch)
        wide = [x if f == m else rooms.pop(0) for x, f, m in zip(ins, filled, metas, strict=True)]
        for x, given in zip(wide, ins, strict=True):
            if x is not given:
                _copy(x, given)
        plain = op.infer_metas(metas, attrs)
        results = [o if f == m else rooms.pop(0) for o, f, m in zip(outs, made, plain, strict=True)]
        needed = [None if o is None else r for o, r in zip(outs, results, strict=True)]
        base.load()(needed, wide, rooms, **attrs)
        for o, r in zip(outs, needed, strict=True):
            if o is not r:
                _copy(o, r)

    op.cuda(run, when=when, scratch=scratch)


_add(_matmul, _filled_matmul)
_add(matmul_bias, _filled_matmul)
_add(_linear_cross_entropy, _filled_loss)
