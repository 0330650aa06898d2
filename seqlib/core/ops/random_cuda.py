"""The CUDA kernels of dropout, random_bits and advance_generator: launches of random.cu."""

from typing import Any

import numpy as np

from seqlib.core import philox
from seqlib.core.backends.cuda import Source, grid, name_of, pointer
from seqlib.core.ops import random as declared
from seqlib.core.ops.create import advance_generator as declared_advance

_SOURCE = Source(
    "random.cu", [*(f"dropout<{t}>" for t in ("float", "double", "f16", "bf16")), "random_bits", "advance_generator"]
)


def dropout(outs: Any, ins: Any, scratch: Any, *, p: float, draw: int) -> None:
    """The kernel of dropout, and of dropout_relu_bwd with a third input."""
    x, state, *relu = ins
    numbers = (np.int64(draw), np.int64(x.size), np.uint32(philox.keep_threshold(p)), np.float64(philox.keep_scale(p)))
    if x.size:
        args = (outs[0], x, state, pointer(relu[0] if relu else None), *numbers)
        _SOURCE.kernel(f"dropout<{name_of(x)}>")(grid(x.size, 8 * 256), (256,), args)


def random_bits(outs: Any, ins: Any, scratch: Any, *, shape: tuple[int, ...], draw: int) -> None:
    """The kernel of random_bits."""
    size = outs[0].size
    if size:
        _SOURCE.kernel("random_bits")(grid(size, 8 * 256), (256,), (outs[0], ins[0], np.int64(draw), np.int64(size)))


def advance_generator(outs: Any, ins: Any, scratch: Any, *, draws: int) -> None:
    """The kernel of advance_generator."""
    _SOURCE.kernel("advance_generator")((1,), (32,), (outs[0], ins[0], np.int64(draws)))


declared._dropout.cuda(dropout, overlap=((0, 0),))
declared.dropout_relu_bwd.cuda(dropout, when=lambda metas, attrs: metas[0] == metas[2], overlap=((0, 0), (0, 2)))
declared.random_bits.cuda(random_bits)
declared_advance.cuda(advance_generator)
