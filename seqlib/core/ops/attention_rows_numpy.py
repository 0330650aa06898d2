"""Attention without gradients: what a sentence gets depends on its own keys alone, to the bit.

Sums over keys run over a sentence's own length and not over the padded one, whose size would decide how NumPy and
BLAS group the terms. Letters as in attention.py, and G = H / Hk, the query heads of a key head; n the length of some
sentences; queries go through BLAS in tiles of Q rows, so all its calls for these sentences have the same shape.
"""

from typing import Any

import numpy as np

from seqlib.core.backends.threads import spread
from seqlib.core.ops.attention_parts import unpacked
from seqlib.core.ops.blocks import SCORES, pieces

_TILE = 8  # Q


def forward(outs: Any, ins: Any, scratch: Any, *, causal: bool, scale: float, kv_heads: int = 0, **_: Any) -> None:
    """The NumPy kernel of attention over padded rows, without dropout."""
    q, k, v = unpacked(ins[0], ins[1], ins[2], kv_heads)
    bias, lengths = ins[3:5]
    (b, t, h, width), (s, own) = q.shape, k.shape[1:3]
    y, lse = outs
    if not y.size or not s:
        for out in (y, lse):
            if out is not None:
                out.fill(0)
        return
    lengths = np.full(b, s) if lengths is None else np.clip(lengths, 0, s)
    tiles = -(-t // _TILE)
    shape = (b, own, h // own, tiles * _TILE)
    queries = np.zeros((*shape, width), q.dtype)
    queries[:, :, :, :t] = q.reshape(b, t, own, h // own, width).transpose(0, 2, 3, 1, 4)
    if bias is not None:
        bias = np.broadcast_to(bias, (b, h, t, s)).reshape(b, own, h // own, t, s)
    ends = np.arange(tiles * _TILE) + (s - t + 1) if causal else None  # a query's first hidden key
    parts = []
    for n in np.unique(lengths).tolist():
        members = np.flatnonzero(lengths == n)
        most = max(1, SCORES // max(1, n * h * tiles * _TILE * q.itemsize))
        parts += [(members[piece], n) for piece in pieces(len(members), most)]

    def run(first: int, last: int) -> None:
        for members, n in parts[first:last]:
            keys, values = (x[members, :n].transpose(0, 2, 1, 3)[:, :, None, None] for x in (k, v))
            own_bias = None if bias is None else bias[members][..., :n]
            result, sums = _sentences(queries[members], keys, values, own_bias, ends, scale)
            y[members] = result[:, :, :, :t].transpose(0, 3, 1, 2, 4).reshape(len(members), t, h, width)
            if lse is not None:
                lse[members] = sums[..., :t].reshape(len(members), h, t)

    spread(run, len(parts), b * h * t * s)


def _sentences(q: Any, k: Any, v: Any, bias: Any, ends: Any, scale: float) -> tuple[Any, Any]:
    """Sentences of one length: q [A,Hk,G,T',K], k and v [A,Hk,1,1,n,K], bias [A,Hk,G,T,n] → y [A,Hk,G,T',K] and
    lse [A,Hk,G,T']."""
    tiled = q.reshape(*q.shape[:3], -1, _TILE, q.shape[-1])
    n = k.shape[-2]
    w = np.matmul(tiled, k.swapaxes(-1, -2)).reshape(*q.shape[:4], n)
    w *= scale
    if bias is not None:
        w[:, :, :, : bias.shape[3]] += bias
    if ends is not None:
        np.copyto(w, -np.inf, where=np.arange(n) >= ends[:, None])
    top = np.maximum.reduce(w, axis=-1, keepdims=True, initial=-np.inf)
    top[np.isneginf(top)] = 0
    np.exp(np.subtract(w, top, out=w), out=w)
    total = np.add.reduce(w, axis=-1, keepdims=True)
    total[total == 0] = 1  # a query that sees no key
    w /= total
    y = np.matmul(w.reshape(*tiled.shape[:-1], n), v)
    return y.reshape(q.shape), (top + np.log(total))[..., 0]
