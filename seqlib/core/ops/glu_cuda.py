"""The CUDA kernels of glu and its gradient: launches of glu.cu."""

from typing import Any

import numpy as np

from seqlib.core.backends.cuda import Source, aligned, grid, name_of
from seqlib.core.ops.glu import ACTIVATIONS, _glu, glu_bwd

_LANES = {"float": 4, "double": 2, "bf16": 8, "f16": 8}
_SOURCE = Source(
    "glu.cu",
    [f"glu_{way}<{t}, {n}>" for way in ("forward", "backward") for t, most in _LANES.items() for n in (1, most)],
)


def _launch(way: str, arrays: tuple[Any, ...], x: Any, activation: str) -> None:
    width, t = x.shape[-1] // 2, name_of(x)
    lanes = _LANES[t] if width % _LANES[t] == 0 and aligned(*arrays) else 1
    chunks = x.size // 2 // lanes
    if chunks:
        args = (*arrays, np.int32(list(ACTIVATIONS).index(activation)), np.int64(chunks), np.int32(width // lanes))
        _SOURCE.kernel(f"glu_{way}<{t}, {lanes}>")(grid(chunks, 256), (256,), args)


def forward(outs: Any, ins: Any, scratch: Any, *, activation: str) -> None:
    """The kernel of glu."""
    _launch("forward", (outs[0], ins[0]), ins[0], activation)


def backward(outs: Any, ins: Any, scratch: Any, *, activation: str) -> None:
    """The kernel of glu_bwd."""
    _launch("backward", (outs[0], *ins), ins[1], activation)


_glu.cuda(forward)
glu_bwd.cuda(backward, when=lambda metas, attrs: metas[0].dtype == metas[1].dtype, overlap=((0, 1),))
