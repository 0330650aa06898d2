"""additive_scores: the scores of additive attention (Bahdanau et al. 2015), without an array of all hidden units.

B batch, T query time, S key time, A hidden units. Kernels: additive_scores_cpu.py.
"""

from seqlib.core.op import Meta, fused, need_alike, shape_error
from seqlib.core.ops.blocks import float32_only
from seqlib.core.ops.elementwise import tanh
from seqlib.core.ops.matmul import matmul
from seqlib.core.ops.reduce import sum
from seqlib.core.ops.shape import reshape
from seqlib.core.tensor import Tensor, as_tensor


def _hidden(q: Tensor, k: Tensor) -> Tensor:
    """tanh(q + k) for every query and key: [B,T,S,A]."""
    (batch, steps, units), keys = q.shape, k.shape[1]
    return tanh(reshape(q, (batch, steps, 1, units)) + reshape(k, (batch, 1, keys, units)))


@fused(saves="q k v")
def _additive_scores(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    hidden = _hidden(q, k)
    rows = hidden.size // v.size
    return reshape(matmul(reshape(hidden, (rows, v.size)), reshape(v, (v.size, 1))), hidden.shape[:-1])


@_additive_scores.infer
def _(q: Meta, k: Meta, v: Meta) -> list[Meta]:
    need_alike("additive_scores", q=q, k=k, v=v)
    if len(q.shape) != 3:
        raise shape_error("additive_scores", "q", "[B, T, A]", q.shape)
    if len(k.shape) != 3 or (k.shape[0], k.shape[2]) != (q.shape[0], q.shape[2]):
        raise shape_error("additive_scores", "k", f"[B, S, A] with B and A of q {q.shape}", k.shape)
    if v.shape != q.shape[2:] or not v.size:
        raise shape_error("additive_scores", "v", f"[A] = {q.shape[2:]}, not empty", v.shape)
    return [Meta((*q.shape[:2], k.shape[1]), q.dtype)]


@fused(outs="gq gk gv", visible=3, differentiable=False, like="q k v")
def additive_scores_bwd(g: Tensor, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of additive_scores: with h = tanh(q + k) and d = g v (1 - h²), gq = Σ d over keys, gk = Σ d over
    queries and gv = Σ g h over both. The hidden units are computed again."""
    hidden = _hidden(q, k)
    g = reshape(g, (*g.shape, 1))
    d = g * v * (1.0 - hidden * hidden)
    return sum(d, axis=2), sum(d, axis=1), sum(g * hidden, axis=(0, 1, 2))


_additive_scores.vjp(lambda ctx, g: additive_scores_bwd(g, *ctx.inputs))


_additive_scores.flops(lambda q, k, v: 3 * q.size * k.shape[1])
additive_scores_bwd.flops(lambda g, q, k, v: 9 * q.size * k.shape[1])
_additive_scores.cpu("additive_scores_cpu:forward", needs="numba", when=float32_only(0, 1, 2))
additive_scores_bwd.cpu(
    "additive_scores_cpu:backward",
    needs="numba",
    when=float32_only(0, 1, 2, 3),
    scratch=lambda metas, attrs: [Meta((metas[1].shape[0], 2, metas[3].size), metas[3].dtype)],  # type: ignore[union-attr]
)


def additive_scores(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Σ_a v_a tanh(q_a + k_a) for every query and key of a batch row (Bahdanau et al. 2015, appendix A.1.2).

    q floating [B,T,A], k [B,S,A], v [A] → [B,T,S]. Raises ShapeError and DtypeError that name the argument.
    """
    return _additive_scores(as_tensor(q), as_tensor(k), as_tensor(v))
