"""Products with bfloat16 matrices and rows of them, for inference. M rows, K inner size, N columns.

A matrix [N, K] is kept as `words` int32 [ceil(N / 64), 16 ceil(K / 32), 64], each of two numbers of a row, filled up
with zeros: oneDNN's layout for the product with its transpose (`onednn_cpu.packed`).
"""

from typing import Any

import numpy as np

from seqlib.core import dtypes
from seqlib.core.op import OPS, Attrs, Meta, Metas, primitive, shape_error
from seqlib.core.ops.bounds import check_bounds

PANEL = 64  # rows that lie together


def _rows(xp: Any, words: Any, ids: Any) -> Any:
    """Rows float32 [..., 32 ceil(K / 32)] by their ids."""
    pairs = xp.ascontiguousarray(words[ids // PANEL, :, ids % PANEL])
    return (pairs.view(np.uint16).astype(np.uint32) << 16).view(np.float32)


@primitive(differentiable=False)
def bfloat16_product(xp: Any, x: Any, words: Any, bias: Any = None, *, width: int, activation: str = "") -> Any:
    """x [M, K], rounded to bfloat16, times the transpose of a bfloat16 matrix of N `width`, plus a bias [N]: [M, N] in
    x's dtype, as are the sums. Then comes an `activation`, the op relu, gelu_tanh or gelu_erf by name."""
    y = x.astype(dtypes.bfloat16).astype(x.dtype) @ _rows(xp, words, xp.arange(width))[:, : x.shape[1]].T
    y = y if bias is None else y + bias
    return OPS[activation].fn(xp, y) if activation else y


@bfloat16_product.infer
def _(x: Meta, words: Meta, bias: Meta | None, *, width: int, activation: str) -> list[Meta]:
    if len(x.shape) != 2 or words.shape[1] != 16 * -(-x.shape[1] // 32):
        raise shape_error("bfloat16_product", "x", f"[M, {2 * words.shape[1]} or up to 31 less]", x.shape)
    return [Meta((x.shape[0], width), x.dtype)]


def _by_onednn(metas: Metas, attrs: Attrs) -> bool:
    from seqlib.core.backends import onednn_cpu  # with its library, when it is asked for

    return metas[0].size > 0 and metas[0].dtype == dtypes.float32 and onednn_cpu.has_bfloat16()


bfloat16_product.flops(lambda x, *rest, width, activation: 2 * x.size * width)
bfloat16_product.cpu("bfloat16_numpy:product", when=_by_onednn)


@primitive(differentiable=False)
def bfloat16_rows(xp: Any, ids: Any, words: Any, *, rows: int, width: int) -> Any:
    """Those of a bfloat16 matrix of N `rows` and K `width` by id, int [...] → float32 [..., K]."""
    check_bounds("bfloat16_rows", "ids", ids, rows, negative=False)
    return _rows(xp, words, ids)[..., :width]


bfloat16_rows.infer(lambda ids, words, *, rows, width: [Meta((*ids.shape, width), dtypes.float32)])
bfloat16_rows.cpu("bfloat16_cpu:rows", needs="numba", when=lambda metas, attrs: metas[0].size > 0)
