"""Multi-head attention: in parallel over whole sequences, and one token a step over a cache.

B batch, T query time, S key time, D model width, H heads, K head width (H·K = D).
"""

from seqlib.core import ops
from seqlib.core.tensor import Tensor, Variable
from seqlib.nn.cache import StepPlace
from seqlib.nn.dropout import check_rate
from seqlib.nn.linear import Linear
from seqlib.nn.module import Module
from seqlib.util.errors import UsageError

__all__ = ["MultiHeadAttention"]


class MultiHeadAttention(Module):
    """softmax(Q Kᵀ / sqrt(K)) V with H heads (Vaswani et al. 2017, section 3.2), over x itself or over a memory.

    `bias` adds biases to the four projections (Tensor2Tensor has none); `dropout` is that of the attention
    probabilities, in training only; `rotary` turns queries and keys by their positions (`ops.rotary`), in
    self-attention. Raises UsageError when D is not a multiple of H, or for `rotary` when D/H is odd.
    """

    def __init__(
        self, features: int, heads: int, dropout: float = 0.0, bias: bool = False, rotary: bool = False
    ):
        if features % heads:
            raise UsageError(f"attention: the width {features} is not a multiple of the {heads} heads")
        if rotary and features // heads % 2:
            raise UsageError(f"attention: rotary positions need an even head width, got {features // heads}")
        self.heads = heads
        self.rotary = rotary
        self.dropout = check_rate(dropout)
        self.q_proj = Linear(features, features, bias)
        self.k_proj = Linear(features, features, bias)
        self.v_proj = Linear(features, features, bias)
        self.out_proj = Linear(features, features, bias)

    def forward(
        self, x: Tensor, memory: Tensor | None = None, lengths: Tensor | None = None, causal: bool = False
    ) -> Tensor:
        """x [B,T,D], memory [B,S,D] (None: x itself), lengths int32 [B] of valid keys (None: all) → [B,T,D]."""
        positions = ops.arange(x.shape[1]) if self.rotary else None
        k, v = self.keys_values(x if memory is None else memory, positions)
        return self.attend(x, k, v, lengths=lengths, causal=causal, positions=positions)

    def keys_values(self, memory: Tensor, positions: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """memory [B,S,D], positions int32 [S] (rotary only) → keys and values, each [B,S,H,K]."""
        return self._split(self.k_proj(memory), positions), self._split(self.v_proj(memory))

    def attend(
        self,
        x: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        lengths: Tensor | None = None,
        bias: Tensor | None = None,
        causal: bool = False,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Queries of x [B,T,D] over keys and values [B,S,H,K]; bias broadcasts to [B,H,T,S]; positions int32 [T]
        of the queries (rotary only) → [B,T,D]."""
        rate = self.dropout if self.training else 0.0
        q = self._split(self.q_proj(x), positions)
        heads = ops.attention(q, k, v, bias=bias, lengths=lengths, causal=causal, dropout=rate)
        return self.out_proj(ops.reshape(heads, shape=tuple(x.shape)))

    def step(self, x: Tensor, k_cache: Variable, v_cache: Variable, place: StepPlace) -> Tensor:
        """One token for each of J beams: x [B,J,D] → [B,J,D]; writes its keys and values into the caches in place."""
        beams = x.shape[1]
        positions = ops.broadcast_to(ops.reshape(place.position, (1,)), (beams,)) if self.rotary else None
        k, v = self.keys_values(x, positions)
        k_cache.assign(ops.update_slice(k_cache, k, place.index, axis=1))
        v_cache.assign(ops.update_slice(v_cache, v, place.index, axis=1))
        return self.attend(x, k_cache, v_cache, lengths=place.lengths, bias=place.bias, positions=positions)

    def _split(self, x: Tensor, positions: Tensor | None = None) -> Tensor:
        b, t, d = x.shape
        heads = ops.reshape(x, shape=(b, t, self.heads, d // self.heads))
        return heads if positions is None else ops.rotary(heads, positions)
