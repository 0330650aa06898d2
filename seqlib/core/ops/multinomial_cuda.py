"""The CUDA kernel of multinomial: a launch of multinomial.cu. Rows without a finite logit, or with NaN or inf, which
the CPU refuses, give some class."""

from typing import Any

import numpy as np

from seqlib.core.backends.cuda import Source, name_of
from seqlib.core.ops.random import _multinomial

_SOURCE = Source("multinomial.cu", [f"multinomial<{t}>" for t in ("float", "double", "bf16", "f16")])


def forward(outs: Any, ins: Any, scratch: Any, *, samples: int, draw: int) -> None:
    """The kernel of multinomial."""
    logits, state = ins
    classes = logits.shape[-1]
    args = (outs[0], logits, state, np.int64(draw), np.int32(classes), np.int32(samples))
    _SOURCE.kernel(f"multinomial<{name_of(logits)}>")((logits.size // classes,), (256,), args)


_multinomial.cuda(forward, when=lambda metas, attrs: metas[0].size > 0 and attrs["samples"] > 0)
