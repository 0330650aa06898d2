"""Weights of 8 bits for inference. K inner size, N rows of a weight, which are channels of what it gives."""

from typing import Any

import numpy as np

from seqlib.core import ops
from seqlib.core.dtypes import float32
from seqlib.core.tensor import Parameter, Tensor, Variable
from seqlib.nn.module import Module


class Int8Weight(Module):
    """What stands in the place of a float32 weight [N, K]: its rows, each divided by its largest number and rounded to
    -127 … 127. `words` and `scale` are those of `ops.int8_product`."""

    dtype = float32

    def __init__(self, weight: Parameter):
        self.shape = n, k = weight.shape
        rows = weight.data
        scale = np.abs(rows).max(axis=1, initial=0) * np.float32(1 / 127)
        packed = np.full((-(-n // 16) * 16, -(-k // 4) * 4), 128, np.uint8)
        packed[:n, :k] = np.rint(rows / np.where(scale == 0, np.float32(1), scale)[:, None]).astype(np.int16) + 128
        panels = packed.view(np.int32).reshape(-(-n // 16), 16, -1).swapaxes(1, 2)
        self.words = Variable(np.ascontiguousarray(panels), f"{weight.name}.words")
        self.scale = Variable(scale, f"{weight.name}.scale")

    def as_dtype(self, dtype: Any) -> "Int8Weight":
        """Itself: what it gives is float32."""
        return self

    def rows(self, ids: Tensor) -> Tensor:
        """Those of ids int [...], float32 [..., K]."""
        return ops.int8_rows(ids, self.words, self.scale, width=self.shape[1])


def product(x: Tensor, *weights: Any, wide: bool = False) -> Tensor:
    """x [M, K] times the transposes of weights [N, K] of one kind, side by side: [M, Σ N], float32 where `wide`."""
    if isinstance(weights[0], Int8Weight):
        return ops.int8_product(x, *(part for weight in weights for part in (weight.words, weight.scale)))
    weight = weights[0] if len(weights) == 1 else ops.concatenate(weights, axis=0)
    return ops.matmul(x, weight, transpose_b=True, wide=wide)
