"""The NumPy kernels of attention. Letters as in attention.py, and G = H / Hk, the query heads of a key head.

Work is cut into blocks of scores that stay in the cache: [b, hk, g, t, S] with as many query rows, then
grouped heads, heads and sentences as fit, so a block is one contiguous range of the logical [B,H,T,S] and
long sequences need no more memory than short ones. Packed segments are done in groups (packed_numpy.py).
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from seqlib.core import philox
from seqlib.core.backends.threads import spread
from seqlib.core.op import Attrs
from seqlib.core.ops.attention_parts import packed_stride, unpacked
from seqlib.core.ops.blocks import SCORES, pieces
from seqlib.core.ops.packed_numpy import Group, groups
from seqlib.core.ops.product_numpy import product as matrix_product
from seqlib.core.ops.random import seed_offset

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
    """How many sentences, key heads, groups and query rows a block has; two blocks at least, but no tiny ones."""
    *outer, s = dims
    row = max(1, s * itemsize)
    room = max(1, SCORES // row)
    block = [1, 1, 1, 1]
    for axis in (3, 2, 1, 0):
        if axis == 2 and separate_groups and outer[2] > 1:
            break
        block[axis] = max(1, min(outer[axis], room))
        if block[axis] < outer[axis]:
            break
        if axis == 3:  # what is cut for two blocks are heads, never the rows of one: their gradients would add up
            room = min(room, max(SCORES // 8, math.prod(outer) * row // 2) // row)
        room //= max(1, outer[axis])
    return tuple(block)


def _blocks(dims: Dims, block: Dims) -> Iterator[Index]:
    return itertools.product(*(pieces(n, size) for n, size in zip(dims, block, strict=False)))


# -- the steps between the products --------------------------------------------------------------------------


def _finish_scores(p: Problem, at: Index, s: Any) -> None:
    """Scale, bias and masks on the products of a block, in place."""
    b, _, _, t = at
    rows, keys = p.dims[3], p.dims[4]
    np.multiply(s, p.scale, out=s)
    if p.bias is not None:
        np.add(s, p.bias[at], out=s)
    if p.lengths is not None:
        for i, n in enumerate(p.lengths[b].tolist()):
            if n < keys:
                s[i, ..., n if n > 0 else 0 :] = -np.inf
    if p.causal and t.start + keys - rows < keys - 1:
        hidden = np.arange(keys) > np.arange(t.start, t.stop)[:, None] + (keys - rows)
        np.copyto(s, -np.inf, where=hidden)


def _normalise(p: Problem, at: Index, s: Any, lse: Any, kept: Any) -> None:
    """The products of a block become its (dropped) weights; lse [b,hk,g,t] or None is filled."""
    _finish_scores(p, at, s)
    top = np.maximum.reduce(s, axis=-1, keepdims=True)
    np.copyto(top, 0, where=np.isneginf(top))
    np.subtract(s, top, out=s)
    np.exp(s, out=s)
    total = np.einsum("...i->...", s)[..., None]
    np.copyto(total, 1, where=total == 0)  # a query that sees no key
    if lse is not None:
        np.log(total, out=lse[..., None])
        np.add(lse, top[..., 0], out=lse)
    np.divide(s, total, out=s)
    if kept is not None:
        _drop(s, kept, p.keep_scale, s)


def _weights(p: Problem, at: Index, w: Any, lse: Any) -> None:
    """The products of a block become its weights again, by lse."""
    _finish_scores(p, at, w)
    np.subtract(w, lse[..., None], out=w)
    np.exp(w, out=w)


def _drop(w: Any, kept: Any, keep_scale: float, out: Any) -> None:
    np.multiply(w, kept, out=out)
    np.multiply(out, keep_scale, out=out)


def _to_scores(d: Any, w: Any, along: Any, kept: Any, keep_scale: float) -> None:
    """The gradient by the (dropped) weights becomes that by the biased scores: w (d - along)."""
    if kept is not None:
        _drop(d, kept, keep_scale, d)
    np.subtract(d, along[..., None], out=d)
    np.multiply(d, w, out=d)


# -- the loops over blocks -----------------------------------------------------------------------------------


def _forward(p: Problem, q: Any, k: Any, v: Any, y: Any, lse: Any, scratch: Any) -> None:
    blocks = list(_blocks(p.dims, _block_dims(p.dims, q.itemsize)))

    def run(first: int, last: int) -> None:
        room = scratch if first == 0 else np.empty_like(scratch)
        for at in blocks[first:last]:
            shape = (*(len(range(s.start, s.stop)) for s in at), p.dims[4])
            s = room[: int(np.prod(shape))].reshape(shape)
            kept = None if p.keep is None else p.keep(at)
            matrix_product(q[at], k[at[:2]].swapaxes(-1, -2), s)
            _normalise(p, at, s, None if lse is None else lse[at], kept)
            matrix_product(s, v[at[:2]], y[at])

    spread(run, len(blocks), int(np.prod(p.dims)))


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
    dims = _block_dims(p.dims, q.itemsize, separate_groups=True)
    blocks = list(_blocks(p.dims, dims))

    def run(first: int, last: int) -> None:
        room = scratch if first == 0 else [np.empty_like(part) for part in scratch]
        for at in blocks[first:last]:
            _backward_block(p, at, g, q, k, v, y, lse, out, room)

    if dims[2:] == p.dims[2:4] and out.bias is None:
        spread(run, len(blocks), int(np.prod(p.dims)))
    else:
        run(0, len(blocks))  # blocks that add to the same gradients, in order


def _backward_block(
    p: Problem, at: Index, g: Any, q: Any, k: Any, v: Any, y: Any, lse: Any, out: Gradients, scratch: Sequence[Any]
) -> None:
    first, second, products = scratch
    heads, fresh = at[:2], at[2].start == 0 and at[3].start == 0
    shape = (*(len(range(s.start, s.stop)) for s in at), p.dims[4])
    size = int(np.prod(shape))
    w, d = first[:size].reshape(shape), second[:size].reshape(shape)
    matrix_product(q[at], k[heads].swapaxes(-1, -2), w)
    _weights(p, at, w, lse[at])
    kept = None if p.keep is None else p.keep(at)
    if out.v is not None:
        if kept is not None:
            _drop(w, kept, p.keep_scale, d)
        dropped = w if kept is None else d
        _add_product(dropped.swapaxes(-1, -2), g[at], out.v[heads], fresh, products)
    matrix_product(g[at], v[heads].swapaxes(-1, -2), d)
    _to_scores(d, w, np.einsum("...k,...k->...", g[at], y[at]), kept, p.keep_scale)
    if out.bias is not None:
        _add_bias(d, out.bias, at)
    np.multiply(d, p.scale, out=d)
    if out.q is not None:
        matrix_product(d, k[heads], out.q[at])
    if out.k is not None:
        _add_product(d.swapaxes(-1, -2), q[at], out.k[heads], fresh, products)


def _add_product(a: Any, b: Any, out: Any, fresh: bool, products: Any) -> None:
    """out = a b for the first block of its rows, out += a b for the others."""
    if fresh:
        matrix_product(a, b, out)
    else:
        product = products[: out.size].reshape(out.shape)
        matrix_product(a, b, product)
        np.add(out, product, out=out)


def _add_bias(d: Any, gbias: Any, at: Index) -> None:
    shared = tuple(i for i in range(5) if gbias.shape[i] == 1 and d.shape[i] != 1)
    place = tuple(slice(0, 1) if gbias.shape[i] == 1 else at[i] for i in range(4))
    gbias[place] += d.sum(axis=shared, keepdims=True)


# -- from the op's inputs to problems ------------------------------------------------------------------------


def _keep_padded(state: Any, draw: int, rate: float, dims: Dims) -> Keep:
    seed, offset = seed_offset(state, draw)
    threshold = philox.keep_threshold(rate)

    def keep(at: Index) -> Any:
        shape = (*(len(range(s.start, s.stop)) for s in at), dims[4])
        start = 0
        for n, s in zip(dims, at, strict=False):
            start = start * n + s.start
        start *= dims[4]
        size = int(np.prod(shape))
        return (philox.bits16(seed, offset, start, start + size) >= np.uint16(threshold)).reshape(shape)

    return keep


def _keep_packed(state: Any, draw: int, rate: float, dims: Dims, row_numbers: Any, rows: int, stride: int) -> Keep:
    """As above for a group of segments whose query rows have numbers [B,T] of `rows`; a row's counter moves by
    `stride`."""
    seed, offset = seed_offset(state, draw)
    threshold = np.uint16(philox.keep_threshold(rate))
    groups, keys = dims[2], dims[4]
    numbers = row_numbers.astype(np.uint64)

    def keep(at: Index) -> Any:
        own, group = (np.arange(s.start, s.stop, dtype=np.uint64) for s in at[1:3])
        head = own[:, None] * np.uint64(groups) + group
        row = head[..., None] * np.uint64(rows) + numbers[at[0], None, None, at[3]]
        n_blocks = -(-keys // philox.LANES)
        block = row[..., None] * np.uint64(stride // philox.LANES) + np.arange(n_blocks, dtype=np.uint64)
        words = philox.blocks_at(seed, offset, block.reshape(-1)).astype("<u4", copy=False)
        lanes = words.view(np.uint16).reshape(*row.shape, n_blocks * philox.LANES)
        return lanes[..., :keys] >= threshold

    return keep


class _Case(NamedTuple):
    """A problem and where its rows lie in the op's arrays."""

    problem: Problem
    group: Group | None  # of the packed segments; None for padded inputs


def _cases(q: Any, k: Any, rest: Sequence[Any], attrs: Attrs) -> Iterator[_Case]:
    """The problems of an op whose inputs after v are `rest`."""
    bias, lengths, q_offsets, k_offsets, state = rest
    causal, scale, rate, draw = attrs["causal"], attrs["scale"], attrs["dropout"], attrs["draw"]
    own, heads = k.shape[-2], q.shape[-2]
    scale_of_kept = philox.keep_scale(rate)
    if q_offsets is None:
        dims = (q.shape[0], own, heads // own, q.shape[1], k.shape[1])
        if bias is not None:
            bias = np.broadcast_to(bias, (dims[0], heads, *dims[3:])).reshape(dims)
        keep = _keep_padded(state, draw, rate, dims) if rate else None
        yield _Case(Problem(dims, causal, scale, lengths, bias, keep, scale_of_kept), None)
        return
    for group in groups(q_offsets, k_offsets, len(q), len(k), heads, causal):
        (n, t), s = group.rows.shape, group.keys.shape[1]
        dims, stride = (n, own, heads // own, t, s), packed_stride(len(k))
        keep = _keep_packed(state, draw, rate, dims, group.rows, len(q), stride) if rate else None
        yield _Case(Problem(dims, causal, scale, group.lengths, None, keep, scale_of_kept), group)


def _lse_view(lse: Any, own: int) -> Any:
    b, h, t = lse.shape
    return lse.reshape(b, own, h // own, t)


def forward(outs: Any, ins: Any, scratch: Any, *, kv_heads: int, **attrs: Any) -> None:
    """The kernel of attention."""
    q, k, v = unpacked(ins[0], ins[1], ins[2], kv_heads)
    rest = ins[3:]
    y, lse = outs
    own = k.shape[-2]
    if rest[2] is not None or k.shape[-3] == 0:  # rows of no segment, and queries without keys
        y.fill(0)
        if lse is not None:
            lse.fill(0)
    if k.shape[-3] == 0:
        return
    for p, group in _cases(q, k, rest, attrs):
        if group is None:
            inputs, own_y, own_lse = (q, k, v), y, lse
        else:
            inputs = q[group.rows], k[group.keys], v[group.keys]
            own_y, own_lse = np.empty_like(inputs[0]), np.empty((p.dims[0], q.shape[1], p.dims[3]), q.dtype)
        views = _query_view(inputs[0], own), _key_view(inputs[1]), _key_view(inputs[2])
        lse_view = None if own_lse is None else _lse_view(own_lse, own)
        _forward(p, *views, _query_view(own_y, own), lse_view, scratch[0])
        if group is not None:
            places = group.rows[group.real]
            y[places] = own_y[group.real]
            if own_lse is not None and lse is not None:
                lse[:, places] = own_lse.swapaxes(1, 2)[group.real].T


def backward(outs: Any, ins: Any, scratch: Any, *, want_bias: bool, kv_heads: int, **attrs: Any) -> None:
    """The kernel of attention_bwd."""
    q, k, v = unpacked(ins[1], ins[2], ins[3], kv_heads)
    gy, (y, lse, *rest) = ins[0], ins[4:]
    own = k.shape[-2]
    everywhere = rest[2] is None and q.size and k.size
    for out in outs:
        if out is not None and (not everywhere or out is outs[3]):
            out.fill(0)
    gk, gv = (None if x is None else out for x, out in zip(ins[2:4], outs[1:3], strict=True))
    gq, gk, gv = unpacked(outs[0], gk, gv, kv_heads if ins[2] is None or gk is not None else 0)
    gbias = outs[3]
    if not q.size or not k.size:
        return
    if gbias is not None:
        gbias = _bias_view(gbias, own, q.shape[-2]) if want_bias else None
    for p, group in _cases(q, k, rest, attrs):
        if group is None:
            inputs, grads = (gy, q, y, k, v), (gq, gk, gv)
            lse_ = lse
        else:
            rows, keys = group.rows, group.keys
            inputs = gy[rows], q[rows], y[rows], k[keys], v[keys]
            inputs[0][~group.real] = 0
            grads = tuple(None if out is None else np.empty_like(inputs[i]) for out, i in ((gq, 1), (gk, 3), (gv, 4)))
            lse_ = np.swapaxes(lse[:, rows], 0, 1)
        g_, q_, y_, gq_ = (None if x is None else _query_view(x, own) for x in (*inputs[:3], grads[0]))
        k_, v_, gk_, gv_ = (None if x is None else _key_view(x) for x in (*inputs[3:], *grads[1:]))
        into = Gradients(gq_, gk_, gv_, gbias)
        _backward(p, g_, q_, k_, v_, y_, _lse_view(lse_, own), into, scratch)
        if group is not None:
            for out, grad, at, real in zip(
                (gq, gk, gv),
                grads,
                (group.rows, group.keys, group.keys),
                (group.real, group.real_keys, group.real_keys),
                strict=True,
            ):
                if out is not None and grad is not None:
                    out[at[real]] = grad[real]


def _bias_view(gbias: Any, own: int, heads: int) -> Any:
    full = gbias.reshape((1,) * (4 - gbias.ndim) + gbias.shape)
    b, h, t, s = full.shape
    return full.reshape(b, *((1, 1) if h == 1 else (own, heads // own)), t, s)
