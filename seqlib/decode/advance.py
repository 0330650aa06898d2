"""A step of greedy or beam search as an op, so that a decoding step is one program with the model's: on a GPU the host
neither sees logits nor waits.

B sentences, K beams, R = B·K rows, W candidates a row (2K; 1: greedy), N hypotheses kept, L longest output.
"""

from typing import Any

from seqlib.core import dtypes
from seqlib.core.backends import host
from seqlib.core.op import Meta, primitive
from seqlib.decode.search import Rules, start

INT = dtypes.int32

MOST_BEAMS = 32
"""As in advance.cu."""


@primitive(outs="tokens parents log_probs live best places flags", differentiable=False)
def advance(
    xp: Any,
    values: Any,
    columns: Any,
    normalizers: Any,
    live: Any,
    best: Any,
    places: Any,
    flags: Any,
    limits: Any,
    penalties: Any,
    position: Any,
    *,
    eos_id: int,
    early_stop: bool,
) -> Any:
    """The W best logits of each row float32 [R,W] with their columns int32, `normalizers` float32 [R] = logsumexp of
    each row, and the state of a search (see `Search.state`) before step `position` (int32, 0-d) → what the rows feed
    next int32 [R], the rows that they go on from int32 [R], their log-probabilities float32 [B,K], and the state.
    """
    given = (values, columns, normalizers, live, best, places, flags, limits, penalties, position)
    values, columns, normalizers, live, best, places, flags, limits, penalties, position = map(host, given)
    beams = live.shape[1]
    rules = Rules(beams, best.shape[1], penalties, 0, eos_id, early_stop)
    search = start(limits, rules)
    search.restore({"live": live, "best": best, "places": places, "flags": flags}, int(position))
    parents = search.follow(values, columns, normalizers)
    log_probs = search._log_probs[search.steps - 1]
    rows = xp.arange(len(values), dtype=INT) if parents is None else xp.asarray(parents.astype(INT))
    return xp.asarray(search.tokens), rows, xp.asarray(log_probs), *map(xp.asarray, search.state().values())


@advance.infer
def _(values: Meta, columns: Meta, normalizers: Meta, live: Meta, *state: Meta, **attrs: Any) -> list[Meta]:
    rows = Meta(normalizers.shape, INT)
    return [rows, rows, live, live, *state[:3]]
