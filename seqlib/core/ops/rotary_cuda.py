"""The CUDA kernel of rotary: launches of rotary.cu."""

from typing import Any

import numpy as np

from seqlib.core import dtypes
from seqlib.core.backends.cuda import Source, grid, name_of
from seqlib.core.ops.rotary import _rotary

_SOURCE = Source("rotary.cu", [f"rotary<{t}, {i}>" for t in ("float", "f16", "bf16") for i in ("int", "i64")])


def forward(outs: Any, ins: Any, scratch: Any, *, base: float, inverse: bool, heads: int, scaling: Any) -> None:
    """The kernel of rotary."""
    x, positions = ins
    half = x.shape[-1] // 2
    if not x.size:
        return
    rows = x.size // (x.shape[-2] * x.shape[-1])
    sizes = (np.int64(rows), *map(np.int32, (positions.size, x.shape[-2], heads, half)))
    numbers = (base, -1 if inverse else 1, *(scaling or (1, 0, 1, 0)))
    args = (outs[0], x, positions, *sizes, *map(np.float64, numbers))
    kernel = _SOURCE.kernel(f"rotary<{name_of(x)}, {name_of(positions)}>")
    kernel((min(grid(x.size // 2, 256)[0], 4096),), (256,), args)


_rotary.cuda(forward, when=lambda metas, attrs: metas[0].dtype != dtypes.float64, overlap=((0, 0),))
