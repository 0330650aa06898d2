"""The CUDA kernel of a step of search: launches of advance.cu."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seqlib.core.backends.cuda import Source
from seqlib.core.op import Attrs, Meta
from seqlib.decode.advance import MOST_BEAMS, advance

_SOURCE = Source(str(Path(__file__).with_name("advance.cu")), ["advance"])


def _launch(outs: Any, ins: Any, scratch: Any, *, eos_id: int, early_stop: bool) -> None:
    values, live, best = ins[0], ins[3], ins[4]
    sizes = live.shape[1], values.shape[1], best.shape[1], eos_id, early_stop
    _SOURCE.kernel("advance")((live.shape[0],), (32,), (*outs, *ins, *map(np.int32, sizes)))


def _serves(metas: Sequence[Meta | None], attrs: Attrs) -> bool:
    live = metas[3]
    assert live is not None
    return live.shape[1] <= MOST_BEAMS


# Each sentence's state is read before it is written.
advance.cuda(_launch, when=_serves, overlap=((3, 3), (4, 4), (5, 5), (6, 6)))
