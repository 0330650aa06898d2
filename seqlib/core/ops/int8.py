"""Products with int8 matrices and rows of them, for inference. M rows, K inner size, N columns, P = ceil(N / 16).

A matrix [N, K] is kept as `words` int32 [P, ceil(K / 4), 16], four of its numbers in each (128 is added to them, so
that they are bytes without a sign), and a `scale` float32 [N] of its rows, which are channels of a layer's output.
"""

from typing import Any

import numpy as np

from seqlib.core import dtypes
from seqlib.core.op import Meta, primitive, shape_error
from seqlib.core.ops.bounds import check_bounds


def _rows(xp: Any, words: Any, ids: Any) -> Any:
    """Rows int [..., 4 ceil(K / 4)] by their ids."""
    panels = xp.ascontiguousarray(words).view(np.uint8).reshape(*words.shape[:2], 16, 4)
    return panels[ids // 16, :, ids % 16].reshape(*ids.shape, 4 * words.shape[1]).astype(np.int32) - 128


@primitive(differentiable=False)
def int8_product(xp: Any, *parts: Any) -> Any:
    """x float32 [M, K] times the transposes of int8 matrices, (words, scale) of each, side by side: float32 [M, Σ N].

    Rows of x are rounded to 8 bits, each by its own largest number, so none depends on the others."""
    x = parts[0]
    top = xp.abs(x).max(axis=1, keepdims=True, initial=0)
    scale = top * np.float32(1 / 127)
    x = xp.rint(x * (np.float32(127) / xp.where(top == 0, np.float32(1), top))).astype(np.float64)
    matrices = zip(parts[1::2], parts[2::2], strict=True)
    found = [x @ _rows(xp, words, xp.arange(len(s)))[:, : x.shape[1]].T * (s * scale) for words, s in matrices]
    return xp.concatenate(found, axis=1).astype(np.float32)


@int8_product.infer
def _(x: Meta, *matrices: Meta) -> list[Meta]:
    if len(x.shape) != 2 or any(words.shape[1] != -(-x.shape[1] // 4) for words in matrices[::2]):
        raise shape_error("int8_product", "x", f"[M, {4 * matrices[0].shape[1]} or up to 3 less]", x.shape)
    return [Meta((x.shape[0], sum(scale.size for scale in matrices[1::2])), dtypes.float32)]


def _room(metas: Any, attrs: Any) -> list[Meta]:
    """For rows of x as bytes, the factor of each, and its sum."""
    return [Meta((metas[0].shape[0], metas[1].shape[1] + 2), dtypes.int32)]


int8_product.flops(lambda x, *matrices: 2 * x.size * sum(scale.size for scale in matrices[1::2]))
int8_product.cpu("int8_cpu:product", needs="numba", scratch=_room)


@primitive(differentiable=False)
def int8_rows(xp: Any, ids: Any, words: Any, scale: Any, *, width: int) -> Any:
    """The rows of an int8 matrix of K `width` by id, int [...] → float32 [..., K]."""
    check_bounds("int8_rows", "ids", ids, len(scale), negative=False)
    return _rows(xp, words, ids)[..., :width] * scale[ids][..., None]


int8_rows.infer(lambda ids, words, scale, *, width: [Meta((*ids.shape, width), dtypes.float32)])
