"""Multi-head attention: in parallel over whole sequences, and one token a step over a cache.

B batch, T query time, S key time, D model width, H query heads, Hk key heads, K head width (H·K = D), P = H + 2 Hk.
Packed sentences have no batch axis: N rows of G segments in place of [B,T].
"""

from typing import NamedTuple

from seqlib.core import ops
from seqlib.core.tensor import Tensor, Variable
from seqlib.nn.cache import StepPlace
from seqlib.nn.dropout import check_rate
from seqlib.nn.linear import Linear, joined
from seqlib.nn.module import Module
from seqlib.nn.norm import RMSNorm
from seqlib.util.errors import UsageError


class Segments(NamedTuple):
    """Where packed sentences lie: segment g has the rows offsets[g] … offsets[g + 1] - 1."""

    offsets: Tensor
    """int32 [G + 1]"""
    positions: Tensor
    """int32 [N]: the place of each row in its sentence."""


class MultiHeadAttention(Module):
    """softmax(Q Kᵀ / sqrt(K)) V with H heads of `features` D (Vaswani et al. 2017, section 3.2), over x itself or over
    a memory.

    `kv_heads` Hk below `heads` H lets H / Hk query heads share a head of keys and values (grouped queries, Ainslie et
    al. 2023; Hk = 1: multi-query, Shazeer 2019); 0 means H. `bias` adds biases to the four projections (Tensor2Tensor
    has none); `dropout` is that of the attention probabilities, in training only; `rotary` turns queries and keys by
    their positions (`ops.rotary`, by `base` and `scaling`), in self-attention. `head_width` K other than D / H makes
    the heads together wider or narrower than D; `out_bias` other than `bias` holds for the output projection; `scale`
    is in the place of 1 / sqrt(K); `qk_norm` above 0 puts queries and keys through an RMS norm of K with that eps
    before they are turned (Henry et al. 2020). Raises UsageError when D is not a multiple of H, H not one of Hk, or for
    `rotary` when K is odd.

    Projections of one input are one product with their joined weights, and attention reads its result as it lies.
    """

    def __init__(
        self,
        features: int,
        heads: int,
        dropout: float = 0.0,
        bias: bool = False,
        rotary: bool = False,
        kv_heads: int = 0,
        *,
        head_width: int = 0,
        out_bias: bool | None = None,
        scale: float | None = None,
        base: float = 10000.0,
        scaling: tuple[float, float, float, float] | None = None,
        qk_norm: float = 0.0,
    ):
        if not head_width and features % heads:
            raise UsageError(f"attention: the width {features} is not a multiple of the {heads} heads")
        width = head_width or features // heads
        if rotary and width % 2:
            raise UsageError(f"attention: rotary positions need an even head width, got {width}")
        self.heads, self.kv_heads = heads, kv_heads or heads
        if self.kv_heads < 1 or heads % self.kv_heads:
            raise UsageError(f"attention: {heads} heads are not a multiple of {self.kv_heads} kv_heads")
        self.rotary, self.base, self.scaling, self.scale = rotary, base, scaling, scale
        self.dropout = check_rate(dropout)
        narrow = width * self.kv_heads
        self.q_proj = Linear(features, width * heads, bias)
        self.k_proj = Linear(features, narrow, bias)
        self.v_proj = Linear(features, narrow, bias)
        self.out_proj = Linear(width * heads, features, bias if out_bias is None else out_bias)
        self.q_norm, self.k_norm = (RMSNorm(width, qk_norm) if qk_norm else None for _ in range(2))

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        lengths: Tensor | None = None,
        causal: bool = False,
        bias: Tensor | None = None,
        segments: Segments | None = None,
        memory_segments: Segments | None = None,
    ) -> Tensor:
        """x [B,T,D], memory [B,S,D] (None: x itself), lengths int32 [B] of valid keys (None: all), bias of the scores
        that broadcasts to [B,H,T,S] → [B,T,D]. Packed: x [N,D] in segments, memory [M,D] in as many → [N,D]."""
        if memory is not None:
            q = self._split(self.q_proj(x))
            offsets = (segments, memory_segments)
            return self._output(q, self.keys_values(memory), None, lengths=lengths, bias=bias, packed=offsets)
        positions = ops.arange(x.shape[1]) if segments is None else segments.positions
        heads = self.queries_keys_values(x, positions if self.rotary else None)
        packed = (segments, segments)
        return self._output(heads, None, None, lengths=lengths, bias=bias, causal=causal, packed=packed)

    def queries_keys_values(self, x: Tensor, positions: Tensor | None = None) -> Tensor:
        """x [B,T,D], positions int32 [T] (rotary only) → queries, keys and values in one buffer [B,T,P,K]."""
        packed = self._split(joined(x, self.q_proj, self.k_proj, self.v_proj))
        if self.q_norm is not None and self.k_norm is not None:
            q, k, v = ops.split(packed, [self.heads, self.kv_heads, self.kv_heads], axis=2)
            packed = ops.concatenate([self.q_norm(q), self.k_norm(k), v], axis=2)
        turned = self.heads + self.kv_heads
        return packed if positions is None else ops.rotary(packed, positions, self.base, turned, self.scaling)

    def over_itself(self, packed: Tensor, causal: bool = False, bias: Tensor | None = None) -> Tensor:
        """`queries_keys_values` [B,T,P,K], bias of the scores → [B,T,D]."""
        return self._output(packed, None, None, lengths=None, bias=bias, causal=causal)

    def keys_values(self, memory: Tensor) -> Tensor:
        """memory [B,S,D] → keys and values in one buffer [B,S,2Hk,K]."""
        return self._split(joined(memory, self.k_proj, self.v_proj))

    def attend(
        self,
        x: Tensor,
        keys: Tensor,
        values: Tensor | None = None,
        *,
        lengths: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        """Queries of x [B,T,D] over keys and values [B,S,Hk,K], or over `keys_values` without `values` → [B,T,D]."""
        return self._output(self._split(self.q_proj(x)), keys, values, lengths=lengths, bias=bias)

    def weights(self, x: Tensor, memory: Tensor, lengths: Tensor) -> Tensor:
        """What `forward` weighs the memory's values by: x [B,T,D], memory [B,S,D], lengths int32 [B] → [B,H,T,S]."""
        (b, t, _), s, h, own = x.shape, memory.shape[1], self.heads, self.kv_heads
        keys, _ = ops.split(self.keys_values(memory), [own, own], axis=2)
        width = keys.shape[-1]
        # A key head serves the H / Hk query heads that follow each other.
        q = ops.transpose(ops.reshape(self.q_proj(x), (b, t, own, h // own, width)), (0, 2, 3, 1, 4))
        k = ops.reshape(ops.transpose(keys, (0, 2, 1, 3)), (b, own, 1, s, width))
        scores = ops.reshape(ops.matmul(q, k, transpose_b=True), (b, h, t, s)) * (self.scale or width**-0.5)
        seen = ops.less(ops.arange(s), ops.reshape(lengths, (b, 1, 1, 1)))
        return ops.softmax(ops.where(seen, scores, -float("inf")))

    def step(self, x: Tensor, k_cache: Variable, v_cache: Variable, place: StepPlace) -> Tensor:
        """One token for each of J beams: x [B,J,D] → [B,J,D]; writes its keys and values into the caches in place."""
        h, own, beams = self.heads, self.kv_heads, x.shape[1]
        positions = ops.broadcast_to(ops.reshape(place.position, (1,)), (beams,)) if self.rotary else None
        q, k, v = ops.split(self.queries_keys_values(x, positions), [h, own, own], axis=2)
        k_cache.assign(ops.update_slice(k_cache, k, place.index, axis=1))
        v_cache.assign(ops.update_slice(v_cache, v, place.index, axis=1))
        return self._output(q, k_cache, v_cache, lengths=place.lengths, bias=place.bias)

    def _output(
        self,
        q: Tensor,
        k: Tensor | None,
        v: Tensor | None,
        *,
        lengths: Tensor | None,
        bias: Tensor | None,
        causal: bool = False,
        packed: tuple[Segments | None, Segments | None] = (None, None),
    ) -> Tensor:
        y = ops.attention(
            q,
            k,
            v,
            bias=bias if bias is None else bias.astype((q if k is None else k).dtype),
            lengths=lengths,
            q_offsets=packed[0] and packed[0].offsets,
            k_offsets=packed[1] and packed[1].offsets,
            causal=causal,
            scale=self.scale,
            dropout=self.dropout if self.training else 0.0,
            kv_heads=self.kv_heads,
        )
        return self.out_proj(ops.reshape(y, shape=(*y.shape[:-2], self.heads * y.shape[-1])))

    def _split(self, x: Tensor) -> Tensor:
        """[B,T,n·K] → [B,T,n,K]."""
        width = self.out_proj.weight.shape[1] // self.heads
        return ops.reshape(x, shape=(*x.shape[:-1], x.shape[-1] // width, width))
