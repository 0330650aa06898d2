"""Scaled dot-product attention (Vaswani et al. 2017): declaration, gradient and composition. Kernels:
attention_numpy.py.

B batch, T query time, S key time, N packed query rows, M packed key rows, H query heads, Hk key heads (H is a
multiple of Hk: grouped queries, Ainslie et al. 2023), K head width.
"""

from collections.abc import Callable, Sequence
from typing import Any

from seqlib.core import dtypes, philox
from seqlib.core.op import Attrs, Meta, Metas, VjpContext, broadcast_shapes, fused, need_alike, need_int, shape_error
from seqlib.core.ops import attention_parts as parts
from seqlib.core.ops.blocks import float32_only, same_float, score_scratch
from seqlib.core.ops.create import zeros
from seqlib.core.ops.elementwise import equal, exp, log, where
from seqlib.core.ops.join import concatenate
from seqlib.core.ops.matmul import matmul
from seqlib.core.ops.random import need_rate, need_state
from seqlib.core.ops.reduce import max, sum, sum_to
from seqlib.core.ops.shape import reshape
from seqlib.core.rng import current_generator
from seqlib.core.tape import grad_enabled
from seqlib.core.tensor import Tensor, as_tensor

# -- the op --------------------------------------------------------------------------------------------------


@fused(outs="y lse", saves="q k v bias lengths q_offsets k_offsets state y lse")
def _attention(
    q: Tensor,
    k: Any = None,
    v: Any = None,
    bias: Any = None,
    lengths: Any = None,
    q_offsets: Any = None,
    k_offsets: Any = None,
    state: Any = None,
    *,
    causal: bool,
    scale: float,
    dropout: float,
    draw: int,
    kv_heads: int = 0,
    independent: bool = False,
) -> tuple[Tensor, Tensor]:
    q, k, v = parts.unpacked(q, k, v, kv_heads)
    heads = q.shape[-2]
    lse_shape = (*q.shape[:-3], heads, q.shape[-3])
    if k.shape[-3] == 0:
        return zeros(q.shape, q.dtype), zeros(lse_shape, q.dtype)
    keys, values = parts.heads_first(k, heads), parts.heads_first(v, heads)
    scores = parts.score_matrix(parts.heads_first(q, heads), keys, bias, lengths, q_offsets, k_offsets, causal, scale)
    top = max(scores, axis=-1, keepdims=True).detach()
    top = where(equal(top, -float("inf")), 0.0, top)
    weights = exp(scores - top)
    total = sum(weights, axis=-1, keepdims=True)
    blind = equal(total, 0.0)  # a query that sees no key: zeros, and 0 for its lse
    total = where(blind, 1.0, total)
    lse = where(blind, 0.0, top + log(total))
    weights = weights / total
    if dropout:
        weights = weights * parts.kept_factors(weights.shape, k_offsets, state, dropout, draw, weights.dtype)
    return parts.heads_last(matmul(weights, values), q.shape), reshape(lse, lse_shape)


@fused(outs="gq gk gv gbias", visible=4, differentiable=False)
def attention_bwd(
    *given: Any, causal: bool, scale: float, dropout: float, draw: int, want_bias: bool, kv_heads: int = 0
) -> tuple[Tensor, ...]:
    """The gradients of attention for the cotangent gy of y, packed as its inputs (gk and gv, where these are absent,
    and gbias unless `want_bias` are empty). The weights are made again from the scores and lse; with P the weights, D
    the dropout factors and G = gy vᵀ ∘ D: gv = (P ∘ D)ᵀ gy, gs = P ∘ (G - Σ gy y), gq = gs k, gk = gsᵀ q."""
    gy, q, k, v, y, lse, bias, lengths, q_offsets, k_offsets, state = given
    packed = [k is None, v is None]
    q, k, v = parts.unpacked(q, k, v, kv_heads)
    heads, nothing = q.shape[-2], zeros((0,), q.dtype)
    if k.shape[-3] == 0:
        grads = [zeros(x.shape, x.dtype) for x in (q, k, v)]
        return *_repacked(grads, packed), zeros(bias.shape, q.dtype) if want_bias else nothing
    queries, keys, values, g = (parts.heads_first(x, heads) for x in (q, k, v, gy))
    scores = parts.score_matrix(queries, keys, bias, lengths, q_offsets, k_offsets, causal, scale)
    weights = exp(scores - reshape(lse, (*scores.shape[:3], 1)))
    along = sum(g * parts.heads_first(y, heads), axis=-1, keepdims=True)
    to_weights = matmul(g, values, False, True)
    dropped = weights
    if dropout:
        kept = parts.kept_factors(weights.shape, k_offsets, state, dropout, draw, weights.dtype)
        dropped, to_weights = weights * kept, to_weights * kept
    to_scores = weights * (to_weights - along)
    gq = parts.heads_last(matmul(to_scores, keys) * scale, q.shape)
    gk = parts.heads_last(matmul(to_scores, queries, True, False) * scale, k.shape)
    gv = parts.heads_last(matmul(dropped, g, True, False), v.shape)
    return *_repacked([gq, gk, gv], packed), sum_to(to_scores, bias.shape) if want_bias else nothing


def _repacked(grads: list[Tensor], packed: list[bool]) -> list[Tensor]:
    nothing = zeros((0,), grads[0].dtype)
    if packed[0]:
        return [concatenate(grads, axis=-2), nothing, nothing]
    return [grads[0], concatenate(grads[1:], axis=-2), nothing] if packed[1] else grads


def _check_offsets(q_offsets: Meta | None, k_offsets: Meta | None) -> None:
    if q_offsets is None or k_offsets is None:
        raise shape_error("attention", "k_offsets", "given together with q_offsets", "one without the other")
    for name, m in (("q_offsets", q_offsets), ("k_offsets", k_offsets)):
        need_int("attention", name, m)
        if len(m.shape) != 1 or m.shape[0] < 2 or m.shape != q_offsets.shape:
            raise shape_error("attention", name, "[segments + 1], the same for queries and keys", m.shape)


def _check_packing(q: Meta, k: Meta | None, v: Meta | None, kv_heads: int) -> None:
    if kv_heads == 0:
        for name, m in (("k", k), ("v", v)):
            if m is None:
                raise shape_error("attention", name, "given, or packed with kv_heads", None)
    elif k is None and (len(q.shape) < 3 or q.shape[-2] <= 2 * kv_heads):
        raise shape_error("attention", "q", f"[..., H + 2·{kv_heads}, K], queries, keys and values", q.shape)
    elif k is not None and (len(k.shape) < 3 or k.shape[-2] != 2 * kv_heads):
        raise shape_error("attention", "k", f"[..., 2·{kv_heads}, K], keys and values", k.shape)


@_attention.infer
def _(*metas: Any, dropout: float, kv_heads: int, **attrs: Any) -> list[Meta]:
    q, k, v, bias, lengths, q_offsets, k_offsets, state = metas
    need_alike("attention", q=q, k=k, v=v, bias=bias)
    _check_packing(q, k, v, kv_heads)
    q, k, v = parts.unpacked_metas(q, k, v, kv_heads)
    packed = q_offsets is not None or k_offsets is not None
    form = "[N, H, K]" if packed else "[B, T, H, K]"
    if len(q.shape) != (3 if packed else 4):
        raise shape_error("attention", "q", f"{form}{' (with offsets)' if packed else ''}", q.shape)
    *_, rows, heads, width = q.shape
    if len(k.shape) != len(q.shape) or k.shape[:-3] != q.shape[:-3] or k.shape[-1] != width:
        raise shape_error("attention", "k", f"{form} with the batch and head width of q {q.shape}", k.shape)
    if k.shape[-2] == 0 or heads % k.shape[-2]:
        raise shape_error("attention", "k", f"with a number of heads that divides the {heads} of q", k.shape)
    if v.shape != k.shape:
        raise shape_error("attention", "v", f"of k's shape {k.shape}", v.shape)
    if packed:
        _check_offsets(q_offsets, k_offsets)
        for name, m in (("bias", bias), ("lengths", lengths)):
            if m is not None:
                raise shape_error("attention", name, "absent with packed rows, whose offsets bound the keys", m.shape)
    elif lengths is not None:
        need_int("attention", "lengths", lengths)
        if lengths.shape != q.shape[:1]:
            raise shape_error("attention", "lengths", f"[B] = {q.shape[:1]}", lengths.shape)
    if bias is not None:
        full = (q.shape[0], heads, rows, k.shape[1])
        if broadcast_shapes("attention", bias.shape, full) != full:
            raise shape_error("attention", "bias", f"broadcastable to [B, H, T, S] = {full}", bias.shape)
    if dropout:
        if state is None:
            raise shape_error("attention", "state", "given when there is dropout", None)
        need_state("attention", state)
    return [q, Meta((*q.shape[:-3], heads, rows), dtypes.sums(q.dtype))]


@attention_bwd.infer
def _(*metas: Any, want_bias: bool, **attrs: Any) -> list[Meta]:
    _, q, k, v, _, _, bias = metas[:7]
    nothing = Meta((0,), q.dtype)
    return [q, k or nothing, v or nothing, bias if want_bias else nothing]


def _product_flops(q: Meta, k: Any, v: Any, kv_heads: int) -> int:
    """Of one product over all scores; 0 for packed rows, where it depends on the offsets."""
    q, k, _ = parts.unpacked_metas(q, k, v, kv_heads)
    return 2 * q.size * k.shape[1] if len(q.shape) == 4 else 0


_attention.flops(lambda q, k, v, *_, kv_heads, **attrs: 2 * _product_flops(q, k, v, kv_heads))
# The scores are made again.
attention_bwd.flops(lambda gy, q, k, v, *_, kv_heads, **attrs: 5 * _product_flops(q, k, v, kv_heads))


@_attention.vjp
def _(ctx: VjpContext, gy: Tensor) -> Sequence[Any]:
    q, k, v, *rest = ctx.inputs
    attrs = {name: value for name, value in ctx.attrs.items() if name != "independent"}
    grads = attention_bwd(gy, q, k, v, *ctx.outputs, *rest, **attrs, want_bias=ctx.needs[3])
    given = (True, k is not None, v is not None, ctx.needs[3])
    return *(g if there else None for g, there in zip(grads, given, strict=True)), None, None, None, None


def _scratch(arrays: int) -> Any:
    def scratch(metas: Metas, attrs: Attrs) -> list[Meta]:
        q, k, v = metas[arrays - 1 : arrays + 2]  # after gy in the backward op
        q, k, _ = parts.unpacked_metas(q, k, v, attrs["kv_heads"])
        return score_scratch(arrays, q, k)

    return scratch


for _module, _needs, _when, _rooms in (
    ("numpy", None, same_float, (_scratch(1), _scratch(2))),
    ("cpu", "numba", float32_only, (None, None)),
):
    _how = {"needs": _needs, "strided": True}
    _attention.cpu(f"attention_{_module}:forward", when=_when(0, 1, 2, 3), scratch=_rooms[0], **_how)
    attention_bwd.cpu(f"attention_{_module}:backward", when=_when(0, 1, 2, 3, 6), scratch=_rooms[1], **_how)


def _rows_apart(floats: Callable[..., bool]) -> Callable[..., bool]:
    """The kernels' `when` for padded rows without gradients, where a sentence must not notice its neighbours."""

    def when(metas: Metas, attrs: Attrs) -> bool:
        apart = attrs.get("independent") and not attrs["dropout"] and metas[5] is None
        return bool(apart) and floats(metas, attrs)

    return when


_attention.cpu("attention_rows_numpy:forward", when=_rows_apart(same_float(0, 1, 2, 3)))
_attention.cpu("attention_rows_cpu:forward", needs="numba", when=_rows_apart(float32_only(0, 1, 2, 3)))


# -- the public function -------------------------------------------------------------------------------------


def attention(
    q: Tensor,
    k: Tensor | None = None,
    v: Tensor | None = None,
    bias: Tensor | None = None,
    lengths: Tensor | None = None,
    q_offsets: Tensor | None = None,
    k_offsets: Tensor | None = None,
    *,
    causal: bool = False,
    scale: float | None = None,
    dropout: float = 0.0,
    kv_heads: int = 0,
) -> Tensor:
    """softmax(scale · q kᵀ + bias) v for each head (Vaswani et al. 2017).

    Padded: q [B,T,H,K], k and v [B,S,Hk,K] → [B,T,H,K]; `lengths` int [B] hides the keys from lengths[b] on;
    `bias` broadcasts to [B,H,T,S]. Packed: q [N,H,K], k and v [M,Hk,K] → [N,H,K], where `q_offsets` and
    `k_offsets` int [segments + 1] start at 0 and rise; row i of a segment sees that segment's keys alone;
    rows after the last offset see nothing. k_offsets defaults to q_offsets. H is a multiple of Hk (query head
    h reads key head h // (H / Hk)). `causal`: key j is visible to query i iff j ≤ i + S - T (for packed rows,
    within the segment and with its lengths), so that the last query sees every key. A query that sees no key
    gives zeros. `scale` defaults to K**-0.5. `dropout` zeroes weights at that rate by the generator in force.

    With `kv_heads` = Hk the heads of one product lie in one buffer, and so do their gradients: without k and v,
    q is [..., H + 2 Hk, K], queries, then keys, then values; without v alone, k is [..., 2 Hk, K].
    Where no gradients are recorded (`no_grad`), padded rows without dropout get the same bits whatever the other
    sentences are and however long they are.

    Raises ShapeError and DtypeError that name the argument; UsageError for a dropout outside [0, 1).
    """
    q = as_tensor(q)
    if q_offsets is not None and k_offsets is None:
        k_offsets = q_offsets
    rate = need_rate("attention", "dropout", dropout)
    state, draw = None, 0
    if philox.keep_threshold(rate) == 0:
        rate = 0.0
    else:
        state, draw = current_generator().draw()
    factor = float(scale) if scale is not None else float(q.shape[-1]) ** -0.5 if q.ndim and q.shape[-1] else 1.0
    attrs = {
        "causal": bool(causal),
        "scale": factor,
        "dropout": rate,
        "draw": draw,
        "kv_heads": int(kv_heads) if k is None or v is None else 0,
        "independent": not grad_enabled(),
    }
    return _attention(q, k, v, bias, lengths, q_offsets, k_offsets, state, **attrs)
