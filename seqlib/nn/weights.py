"""Weights of models in use, in fewer bits and as products like them best. K inner size, N rows of a weight, which are
channels of what it gives.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from seqlib.core import ops
from seqlib.core.dtypes import float32
from seqlib.core.ops.bfloat16 import PANEL
from seqlib.core.tape import grad_enabled
from seqlib.core.tensor import Parameter, Tensor, Variable
from seqlib.nn.module import Module
from seqlib.util.errors import UsageError


class FixedWeight(Module):
    """What stands in the place of a float32 `weight` [N, K] when nothing more is trained of it."""

    dtype = float32

    def __init__(self, weight: Parameter):
        self.shape = weight.shape

    def as_dtype(self, dtype: Any) -> "FixedWeight":
        """Itself: what it gives is float32."""
        return self

    def rows(self, ids: Any) -> Tensor:
        """Those of ids int [...], float32 [..., K]."""
        raise NotImplementedError(f"{type(self).__name__} must define rows(ids)")

    def restored(self) -> Parameter:
        """A weight again, of the rounded numbers."""
        return Parameter(self.rows(np.arange(self.shape[0], dtype=np.int32)))


class Int8Weight(FixedWeight):
    """Its rows, each divided by its largest number and rounded to -127 … 127. `words` and `scale` are those of
    `ops.int8_product`."""

    def __init__(self, weight: Parameter):
        super().__init__(weight)
        n, k = self.shape
        rows = weight.data
        scale = np.abs(rows).max(axis=1, initial=0) * np.float32(1 / 127)
        packed = np.full((-(-n // 16) * 16, -(-k // 4) * 4), 128, np.uint8)
        packed[:n, :k] = np.rint(rows / np.where(scale == 0, np.float32(1), scale)[:, None]).astype(np.int16) + 128
        panels = packed.view(np.int32).reshape(-(-n // 16), 16, -1).swapaxes(1, 2)
        self.words = Variable(np.ascontiguousarray(panels), f"{weight.name}.words")
        self.scale = Variable(scale, f"{weight.name}.scale")

    def rows(self, ids: Any) -> Tensor:
        return ops.int8_rows(ids, self.words, self.scale, width=self.shape[1])


class BFloat16Weight(FixedWeight):
    """Rounded to bfloat16. `words` are those of `ops.bfloat16_product`: they lie as oneDNN multiplies by them."""

    def __init__(self, weight: Parameter):
        super().__init__(weight)
        from seqlib.core.backends import onednn_cpu  # for those who use it

        self.words = Variable(onednn_cpu.packed(weight.data.T), f"{weight.name}.words")

    def rows(self, ids: Any) -> Tensor:
        return ops.bfloat16_rows(ids, self.words, rows=self.shape[0], width=self.shape[1])


_WITHIN = ops.relu, ops.gelu_tanh, ops.gelu_erf  # what is computed in a product's registers


def product(
    x: Tensor,
    *weights: Any,
    bias: Tensor | None = None,
    activation: Callable[[Tensor], Tensor] | None = None,
    wide: bool = False,
) -> Tensor:
    """x [M, K] times the transposes of weights [N, K], side by side, plus a bias [Σ N], then an elementwise
    activation: [M, Σ N], the product float32 where `wide`. Raises UsageError for gradients through fixed weights."""
    kinds = {type(weight) if isinstance(weight, FixedWeight) else Tensor for weight in weights}
    if kinds != {Tensor} and x.node is not None and grad_enabled():
        message = "weights in int8 or bfloat16, of a model in use, have no gradients"
        raise UsageError(f"{message}; load it in fp32, or call it in a block `with seqlib.no_grad()`")
    sizes = [weight.shape[0] for weight in weights]
    if len(kinds) > 1 or (kinds == {BFloat16Weight} and any(n % PANEL for n in sizes[:-1])):
        y = ops.concatenate([product(x, weight, wide=wide) for weight in weights], axis=1)
    elif kinds == {BFloat16Weight}:
        words = ops.concatenate([weight.words for weight in weights], axis=0) if sizes[1:] else weights[0].words
        within = next((op.name for op in _WITHIN if op is activation), "")
        y = ops.bfloat16_product(x, words, bias, width=sum(sizes), activation=within)
        return y if activation is None or within else activation(y)
    elif kinds == {Int8Weight}:
        y = ops.int8_product(x, *(part for weight in weights for part in (weight.words, weight.scale)))
    else:
        weight = weights[0] if len(weights) == 1 else ops.concatenate(weights, axis=0)
        y = ops.matmul(x, weight, transpose_b=True, wide=wide)
    y = y if bias is None else y + bias
    return y if activation is None else activation(y)
