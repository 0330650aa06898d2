"""The layers of Transformer stacks.

B batch, T target time, S source time, D model width, J beams of a sentence; N target and M source rows of packed
sentences.
"""

from typing import Literal, cast

import msgspec

from seqlib.core.tensor import Tensor
from seqlib.nn.attention import MultiHeadAttention, Segments
from seqlib.nn.cache import DecodeCache, StepPlace
from seqlib.nn.dropout import Dropout
from seqlib.nn.feed_forward import FeedForward
from seqlib.nn.module import Module
from seqlib.nn.norm import NORMS
from seqlib.nn.recurrent import SSRU


class LayerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a layer reads of its model's configuration, which has these fields and more. Raises UsageError for sizes
    that don't fit together."""

    d_model: int = 512
    """Width of embeddings and layers, D."""
    d_ff: int = 2048
    """Width of the feed-forward blocks' inside, F."""
    heads: int = 8
    """Of every attention; a divisor of d_model."""
    kv_heads: int = 0
    """Heads of keys and values, a divisor of heads; 0: as many (grouped queries, Ainslie et al. 2023)."""
    activation: str = "relu"
    """relu, gelu (exact) or silu; or gated, with a third matrix: glu, reglu, geglu or swiglu (Shazeer 2020)."""
    norm: Literal["pre", "post"] = "pre"
    """A norm before each block with one after the last layer (T2T), or after each residual sum (Vaswani et al.)."""
    norm_kind: Literal["layer", "rms"] = "layer"
    """Layer norm, or root-mean-square norm (Zhang and Sennrich 2019)."""
    norm_eps: float = 1e-6
    """Added to the variance (or mean square) below the root."""
    positions: str = "sinusoidal"
    """Where tokens stand: "rotary" turns queries and keys of self-attention (Su et al. 2021)."""
    attention_bias: bool = False
    """Biases in the attention projections (T2T has none)."""
    attention_scale: float = 0.0
    """What scores are multiplied by; 0: one over the root of the head width (T5 has 1)."""
    head_width: int = 0
    """Of every attention, K; 0: d_model / heads."""
    ff_bias: bool = True
    """Biases in the feed-forward blocks (T5 has none)."""
    dropout: float = 0.1
    """Of embeddings and of each block's output before the residual sum."""
    attention_dropout: float = 0.1
    """Of attention probabilities."""
    ff_dropout: float = 0.1
    """Of the feed-forward block's activations (T2T's relu_dropout)."""


class DecoderConfig(LayerConfig, frozen=True, kw_only=True):
    """What a decoder layer reads besides."""

    decoder_history: Literal["attention", "ssru"] = "attention"
    """What a decoder layer sees the output so far by: self-attention, or a recurrent unit whose state has one size
    (SSRU, Kim et al. 2019; Marian's fast decoders)."""


class Block(Module):
    """What every layer does around its parts: norm, dropout and the residual sum."""

    def __init__(self, config: LayerConfig):
        self.pre_norm = config.norm == "pre"
        self.dropout = Dropout(config.dropout)

    def before(self, norm: Module, x: Tensor) -> Tensor:
        """The input of a part."""
        return norm(x) if self.pre_norm else x

    def after(self, norm: Module, x: Tensor, y: Tensor) -> Tensor:
        """The residual sum of a part's input x and output y."""
        total = x + self.dropout(y)
        return total if self.pre_norm else norm(total)


class EncoderLayer(Block):
    """By a `config` as `LayerConfig` asks for it: self-attention and feed-forward."""

    def __init__(self, config: LayerConfig):
        super().__init__(config)
        self.attention_norm = NORMS[config.norm_kind](config.d_model, config.norm_eps)
        self.attention = _attention(config, rotary=config.positions == "rotary")
        self.feed_forward_norm = NORMS[config.norm_kind](config.d_model, config.norm_eps)
        self.feed_forward = _feed_forward(config)

    def forward(
        self, x: Tensor, lengths: Tensor | None, bias: Tensor | None = None, segments: Segments | None = None
    ) -> Tensor:
        """[B,S,D], valid lengths [B], bias [H,S,S] of the scores → [B,S,D]; [M,D] in segments → [M,D]."""
        y = self.before(self.attention_norm, x)
        y = self.attention(y, lengths=lengths, bias=bias, segments=segments)
        x = self.after(self.attention_norm, x, y)
        y = self.feed_forward(self.before(self.feed_forward_norm, x))
        return self.after(self.feed_forward_norm, x, y)


class DecoderLayer(Block):
    """By a `config` as `DecoderConfig` asks for it: causal self-attention or an SSRU, attention over the encoder's
    output, and feed-forward."""

    def __init__(self, config: DecoderConfig):
        super().__init__(config)
        self.attention_norm = NORMS[config.norm_kind](config.d_model, config.norm_eps)
        recurrent = config.decoder_history == "ssru"
        self.recurrence = SSRU(config.d_model) if recurrent else None
        self.attention = None if recurrent else _attention(config, rotary=config.positions == "rotary")
        self.cross_attention_norm = NORMS[config.norm_kind](config.d_model, config.norm_eps)
        self.cross_attention = _attention(config)
        self.feed_forward_norm = NORMS[config.norm_kind](config.d_model, config.norm_eps)
        self.feed_forward = _feed_forward(config)

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        lengths: Tensor | None,
        bias: Tensor | None = None,
        segments: Segments | None = None,
        memory_segments: Segments | None = None,
    ) -> Tensor:
        """x [B,T,D], memory [B,S,D] with valid lengths [B], bias [H,T,T] of self-attention's scores → [B,T,D]; x [N,D]
        and memory [M,D] in segments → [N,D]."""
        x = self._with_history(x, bias, segments)
        y = self.cross_attention(
            self.before(self.cross_attention_norm, x),
            memory,
            lengths,
            segments=segments,
            memory_segments=memory_segments,
        )
        x = self.after(self.cross_attention_norm, x, y)
        y = self.feed_forward(self.before(self.feed_forward_norm, x))
        return self.after(self.feed_forward_norm, x, y)

    def _with_history(self, x: Tensor, bias: Tensor | None, segments: Segments | None = None) -> Tensor:
        y = self.before(self.attention_norm, x)
        if self.attention is not None:
            y = self.attention(y, causal=True, bias=bias, segments=segments)
        else:
            y = cast("SSRU", self.recurrence)(y)
        return self.after(self.attention_norm, x, y)

    def cross_weights(self, x: Tensor, memory: Tensor, lengths: Tensor, bias: Tensor | None = None) -> Tensor:
        """How `forward` weighs the memory: x [B,T,D], memory [B,S,D], valid lengths [B] → [B,H,T,S]."""
        x = self._with_history(x, bias)
        return self.cross_attention.weights(self.before(self.cross_attention_norm, x), memory, lengths)

    def step(self, x: Tensor, cache: DecodeCache, layer: int, place: StepPlace) -> Tensor:
        """One token a row, x [B,J,D] → [B,J,D]; writes into the cache of this `layer`."""
        y = self.before(self.attention_norm, x)
        if self.recurrence is not None:
            with self.recurrence.scope():
                y = self.recurrence.step(y, cache.states[layer])
        else:
            attention = cast("MultiHeadAttention", self.attention)
            with attention.scope():
                y = attention.step(y, cache.self_k[layer], cache.self_v[layer], place)
        x = self.after(self.attention_norm, x, y)
        y = self.before(self.cross_attention_norm, x)
        k, v = cache.cross_k[layer], cache.cross_v[layer]
        with self.cross_attention.scope():
            y = self.cross_attention.attend(y, k, v, lengths=cache.source_lengths)
        x = self.after(self.cross_attention_norm, x, y)
        y = self.feed_forward(self.before(self.feed_forward_norm, x))
        return self.after(self.feed_forward_norm, x, y)


def _attention(config: LayerConfig, rotary: bool = False) -> MultiHeadAttention:
    return MultiHeadAttention(
        config.d_model,
        config.heads,
        config.attention_dropout,
        config.attention_bias,
        rotary,
        config.kv_heads,
        head_width=config.head_width,
        scale=config.attention_scale or None,
    )


def _feed_forward(config: LayerConfig) -> FeedForward:
    return FeedForward(config.d_model, config.d_ff, config.activation, config.ff_dropout, config.ff_bias)
