"""The NumPy kernels of attention. Letters as in attention.py, and G = H / Hk, the query heads of a key head.

Work is cut into blocks of scores that stay in the cache: [b, hk, g, t, S] with as many query rows, then
grouped heads, heads and sentences as fit, so a block is one contiguous range of the logical [B,H,T,S] and
long sequences need no more memory than short ones. Packed rows are done a segment at a time, each as a batch
of one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from seqlib.core import philox
from seqlib.core.op import Attrs
from seqlib.core.ops.attention import packed_stride
from seqlib.core.ops.blocks import SCORES, pieces
from seqlib.core.ops.random import seed_offset
from seqlib.util.errors import ShapeError

Dims = tuple[int, ...]
Index = tuple[slice, ...]
Keep = Callable[[Index], Any]


class Problem(NamedTuple):
    """One padded problem. q-like arrays are [B,Hk,G,T,K] and k-like ones [B,Hk,1,S,K], views without
    copies."""

    dims: Dims  # B, Hk, G, T, S
    causal: bool
    scale: float
    lengths: Any  # int [B] or None
    bias: Any  # [B,Hk,G,T,S], broadcast, or None
    keep: Keep | None  # the bool mask of kept weights of a block, for dropout
    keep_scale: float


def _query_view(x: Any, own: int) -> Any:
    b, t, h, k = x.shape
    return x.reshape(b, t, own, h // own, k).transpose(0, 2, 3, 1, 4)


def _key_view(x: Any) -> Any:
    return x.transpose(0, 2, 1, 3)[:, :, None]


def _block_dims(dims: Dims, itemsize: int, separate_groups: bool = False) -> Dims:
    """How many sentences, key heads, groups and query rows a block has."""
    *outer, s = dims
    room = max(1, SCORES // max(1, s * itemsize))
    block = [1, 1, 1, 1]
    for axis in (3, 2, 1, 0):
        if axis == 2 and separate_groups and outer[2] > 1:
            break
        block[axis] = max(1, min(outer[axis], room))
        if block[axis] < outer[axis]:
            break
        room //= max(1, outer[axis])
    return tuple(block)


def _blocks(dims: Dims, block: Dims) -> Iterator[Index]:
    return itertools.product(*(pieces(n, size) for n, size in zip(dims, block, strict=False)))


def _scores(p: Problem, at: Index, q: Any, k: Any, out: Any) -> None:
    """The scaled, biased and masked scores of a block into `out`."""
    b, h, _, t = at
    rows, keys = p.dims[3], p.dims[4]
    np.matmul(q[at], k[b, h].swapaxes(-1, -2), out=out)
    np.multiply(out, p.scale, out=out)
    if p.bias is not None:
        np.add(out, p.bias[at], out=out)
    if p.lengths is not None:
        for i, n in enumerate(p.lengths[b].tolist()):
            if n < keys:
                out[i, ..., n if n > 0 else 0 :] = -np.inf
    if p.causal and t.start + keys - rows < keys - 1:
        hidden = np.arange(keys) > np.arange(t.start, t.stop)[:, None] + (keys - rows)
        np.copyto(out, -np.inf, where=hidden)


def _forward(p: Problem, q: Any, k: Any, v: Any, y: Any, lse: Any, scratch: Any) -> None:
    for at in _blocks(p.dims, _block_dims(p.dims, q.itemsize)):
        shape = (*(len(range(s.start, s.stop)) for s in at), p.dims[4])
        s = scratch[: int(np.prod(shape))].reshape(shape)
        _scores(p, at, q, k, s)
        top = np.maximum.reduce(s, axis=-1, keepdims=True)
        np.copyto(top, 0, where=np.isneginf(top))
        np.subtract(s, top, out=s)
        np.exp(s, out=s)
        total = np.einsum("...i->...", s)[..., None]
        blind = total == 0
        np.copyto(total, 1, where=blind)
        if lse is not None:
            np.log(total, out=lse[at][..., None])
            np.add(lse[at], top[..., 0], out=lse[at])
        np.divide(s, total, out=s)
        if p.keep is not None:
            np.multiply(s, p.keep(at), out=s)
            np.multiply(s, p.keep_scale, out=s)
        np.matmul(s, v[at[0], at[1]], out=y[at])


class Gradients(NamedTuple):
    """Where the gradients go: views like the inputs', None for those that nobody needs. gbias keeps its axes
    of size 1."""

    q: Any
    k: Any
    v: Any
    bias: Any


def _backward(
    p: Problem, g: Any, q: Any, k: Any, v: Any, y: Any, lse: Any, out: Gradients, scratch: Sequence[Any]
) -> None:
    first, second, products = scratch
    block = _block_dims(p.dims, q.itemsize, separate_groups=True)
    for at in _blocks(p.dims, block):
        heads, fresh = at[:2], at[2].start == 0 and at[3].start == 0
        shape = (*(len(range(s.start, s.stop)) for s in at), p.dims[4])
        size = int(np.prod(shape))
        w, d = first[:size].reshape(shape), second[:size].reshape(shape)
        _scores(p, at, q, k, w)
        np.subtract(w, lse[at][..., None], out=w)
        np.exp(w, out=w)
        kept = None if p.keep is None else p.keep(at)
        if out.v is not None:
            dropped = w
            if kept is not None:
                dropped = np.multiply(w, kept, out=d)
                np.multiply(d, p.keep_scale, out=d)
            _add_product(dropped.swapaxes(-1, -2), g[at], out.v[heads], fresh, products)
        np.matmul(g[at], v[heads].swapaxes(-1, -2), out=d)
        if kept is not None:
            np.multiply(d, kept, out=d)
            np.multiply(d, p.keep_scale, out=d)
        np.subtract(d, np.einsum("...k,...k->...", g[at], y[at])[..., None], out=d)
        np.multiply(d, w, out=d)
        if out.bias is not None:
            _add_bias(d, out.bias, at)
        np.multiply(d, p.scale, out=d)
        if out.q is not None:
            np.matmul(d, k[heads], out=out.q[at])
        if out.k is not None:
            _add_product(d.swapaxes(-1, -2), q[at], out.k[heads], fresh, products)


def _add_product(a: Any, b: Any, out: Any, fresh: bool, products: Any) -> None:
    """out = a b for the first block of its rows, out += a b for the others."""
    if fresh:
        np.matmul(a, b, out=out)
    else:
        product = products[: out.size].reshape(out.shape)
        np.matmul(a, b, out=product)
        np.add(out, product, out=out)


def _add_bias(d: Any, gbias: Any, at: Index) -> None:
    shared = tuple(i for i in range(5) if gbias.shape[i] == 1 and d.shape[i] != 1)
    place = tuple(slice(0, 1) if gbias.shape[i] == 1 else at[i] for i in range(4))
    gbias[place] += d.sum(axis=shared, keepdims=True)


# -- from the op's inputs to problems ------------------------------------------------------------------------


def _keep_padded(state: Any, draw: int, rate: float, dims: Dims) -> Keep:
    seed, offset = seed_offset(state, draw)
    threshold = np.uint16(philox.keep_threshold(rate))

    def keep(at: Index) -> Any:
        shape = (*(len(range(s.start, s.stop)) for s in at), dims[4])
        start = 0
        for n, s in zip(dims, at, strict=False):
            start = start * n + s.start
        start *= dims[4]
        size = int(np.prod(shape))
        return (philox.bits16(seed, offset, start, start + size) >= threshold).reshape(shape)

    return keep


def _keep_packed(
    state: Any, draw: int, rate: float, dims: Dims, first_row: int, rows: int, stride: int
) -> Keep:
    """As above for one segment: its query rows start at `first_row` of `rows`; a row's counter moves by
    `stride`."""
    seed, offset = seed_offset(state, draw)
    threshold = np.uint16(philox.keep_threshold(rate))
    groups, keys = dims[2], dims[4]

    def keep(at: Index) -> Any:
        _, own, group, t = (np.arange(s.start, s.stop, dtype=np.uint64) for s in at)
        head = own[:, None] * np.uint64(groups) + group
        row = head[..., None] * np.uint64(rows) + (t + np.uint64(first_row))
        n_blocks = -(-keys // philox.LANES)
        block = row[..., None] * np.uint64(stride // philox.LANES) + np.arange(n_blocks, dtype=np.uint64)
        words = philox.blocks_at(seed, offset, block.reshape(-1)).astype("<u4", copy=False)
        lanes = words.view(np.uint16).reshape(*row.shape, n_blocks * philox.LANES)
        return lanes[None, ..., :keys] >= threshold

    return keep


def _segments(q_offsets: Any, k_offsets: Any, rows: int, keys: int) -> Iterator[tuple[int, int, int, int]]:
    """First and end row of every segment that has queries, for queries and keys. Raises ShapeError for
    offsets that fall."""
    for name, offsets, n in (("q_offsets", q_offsets, rows), ("k_offsets", k_offsets, keys)):
        if offsets[0] != 0 or offsets[-1] > n or (np.diff(offsets) < 0).any():
            raise ShapeError(
                f"attention: {name} should start at 0, rise and end at {n} or before, got {offsets.tolist()}"
            )
    bounds = zip(
        q_offsets[:-1].tolist(),
        q_offsets[1:].tolist(),
        k_offsets[:-1].tolist(),
        k_offsets[1:].tolist(),
        strict=True,
    )
    return ((a, b, c, d) for a, b, c, d in bounds if b > a)


class _Case(NamedTuple):
    """A problem and where its rows lie in the op's arrays."""

    problem: Problem
    rows: slice | None  # of the packed queries; None for padded inputs
    keys: slice | None


def _cases(
    q: Any, k: Any, bias: Any, lengths: Any, q_offsets: Any, k_offsets: Any, state: Any, attrs: Attrs
) -> Iterator[_Case]:
    causal, scale, rate, draw = attrs["causal"], attrs["scale"], attrs["dropout"], attrs["draw"]
    own, heads = k.shape[-2], q.shape[-2]
    scale_of_kept = philox.keep_scale(rate)
    if q_offsets is None:
        dims = (q.shape[0], own, heads // own, q.shape[1], k.shape[1])
        if bias is not None:
            bias = np.broadcast_to(bias, (dims[0], heads, *dims[3:])).reshape(dims)
        keep = _keep_padded(state, draw, rate, dims) if rate else None
        yield _Case(Problem(dims, causal, scale, lengths, bias, keep, scale_of_kept), None, None)
        return
    for a, b, c, d in _segments(q_offsets, k_offsets, len(q), len(k)):
        dims = (1, own, heads // own, b - a, d - c)
        keep = _keep_packed(state, draw, rate, dims, a, len(q), packed_stride(len(k))) if rate else None
        yield _Case(Problem(dims, causal, scale, None, None, keep, scale_of_kept), slice(a, b), slice(c, d))


def _rows(x: Any, rows: slice | None) -> Any:
    """[B,T,H,K] as it is, or the packed rows of a segment as a batch of one."""
    return x if rows is None or x is None else x[None, rows]


def _lse_view(lse: Any, rows: slice | None, own: int) -> Any:
    if lse is None:
        return None
    lse = lse if rows is None else lse[None, :, rows]
    b, h, t = lse.shape
    return lse.reshape(b, own, h // own, t)


def forward(outs: Any, ins: Any, scratch: Any, **attrs: Any) -> None:
    """The kernel of attention."""
    q, k, v, *rest = ins
    y, lse = outs
    own = k.shape[-2]
    if rest[2] is not None or k.shape[-3] == 0:  # rows of no segment, and queries without keys
        y.fill(0)
        if lse is not None:
            lse.fill(0)
    if k.shape[-3] == 0:
        return
    for p, rows, keys in _cases(q, k, *rest, attrs):
        if p.dims[4] == 0:
            continue
        q_, y_ = (_query_view(_rows(x, rows), own) for x in (q, y))
        k_, v_ = (_key_view(_rows(x, keys)) for x in (k, v))
        _forward(p, q_, k_, v_, y_, _lse_view(lse, rows, own), scratch[0])


def backward(outs: Any, ins: Any, scratch: Any, *, want_bias: bool, **attrs: Any) -> None:
    """The kernel of attention_bwd."""
    gy, q, k, v, y, lse, *rest = ins
    own = k.shape[-2]
    gq, gk, gv, gbias = outs
    everywhere = rest[2] is None and q.size and k.size
    for out in outs:
        if out is not None and (not everywhere or out is gbias):
            out.fill(0)
    if not q.size or not k.size:
        return
    if gbias is not None:
        gbias = _bias_view(gbias, own, q.shape[-2]) if want_bias else None
    for p, rows, keys in _cases(q, k, *rest, attrs):
        if p.dims[4] == 0:
            continue
        g_, q_, y_, gq_ = (None if x is None else _query_view(_rows(x, rows), own) for x in (gy, q, y, gq))
        k_, v_, gk_, gv_ = (None if x is None else _key_view(_rows(x, keys)) for x in (k, v, gk, gv))
        _backward(p, g_, q_, k_, v_, y_, _lse_view(lse, rows, own), Gradients(gq_, gk_, gv_, gbias), scratch)


def _bias_view(gbias: Any, own: int, heads: int) -> Any:
    full = gbias.reshape((1,) * (4 - gbias.ndim) + gbias.shape)
    b, h, t, s = full.shape
    return full.reshape(b, *((1, 1) if h == 1 else (own, heads // own)), t, s)
