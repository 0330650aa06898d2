"""The Transformer encoder–decoder (Vaswani et al. 2017) with Tensor2Tensor's presets and small ones for small corpora.

B batch, T target time, S source time, D model width, F feed-forward width, H heads, K head width, V vocabulary,
R decoding rows (B sentences times J beams). A source row is its tokens and eos; ``tgt_in`` is bos and the tokens,
``tgt_out`` the tokens and eos, with -1 where nothing is to be learnt.
"""

import math
from typing import Any

import numpy as np

from seqlib.core import ops
from seqlib.core.checkpoint import checkpoint
from seqlib.core.rng import Generator, use_generator
from seqlib.core.tape import no_grad
from seqlib.core.tensor import Parameter, Tensor, tensor
from seqlib.data.batch import PackedBatch
from seqlib.models.preset import presets
from seqlib.models.transformer_config import TransformerConfig, why_not_packed
from seqlib.nn import init
from seqlib.nn.attention import Segments
from seqlib.nn.cache import DecodeCache
from seqlib.nn.dropout import Dropout
from seqlib.nn.embedding import Embedding
from seqlib.nn.encoder_decoder import flat_weights
from seqlib.nn.module import Module
from seqlib.nn.norm import NORMS
from seqlib.nn.positions import Positions, added_positions
from seqlib.nn.relative import RelativeBias
from seqlib.nn.token_model import TokenModel
from seqlib.nn.transformer_layers import DecoderLayer, EncoderLayer
from seqlib.util.errors import ShapeError, UsageError

__all__ = ["Transformer", "base", "big", "build", "bulletin", "multi30k", "multi30k_tiny", "small", "tiny"]

TASK = "translation"


class Transformer(TokenModel):
    """Encoder and decoder stacks over scaled token embeddings.

    `config` and `spec` are kept as given. Parameters start from `nn.init` under the ambient generator; see `build`.
    """

    use = "translate"

    def __init__(self, config: TransformerConfig, spec: Any):
        self.config = config
        self.spec = spec
        self.recurrent = config.decoder_history == "ssru"
        self.family = config.family
        width, scale = config.d_model, math.sqrt(config.d_model) if config.embedding_scale else 1.0
        self.source_embedding = Embedding(spec.source_vocab, width, scale)
        shared = config.tie_source and spec.shared_vocab
        if shared and spec.source_vocab != spec.target_vocab:
            raise UsageError(
                f"transformer: a shared vocabulary has one size, got {spec.source_vocab} and {spec.target_vocab}"
            )
        self.target_embedding = self.source_embedding if shared else Embedding(spec.target_vocab, width, scale)
        self.source_positions, self.target_positions = added_positions(
            config.positions, config.max_length, width, config.position_offset
        )
        self.dropout = Dropout(config.dropout)
        self.encoder = [EncoderLayer(config) for _ in range(config.encoder_layers)]
        self.decoder = [DecoderLayer(config) for _ in range(config.decoder_layers)]
        norm, final = NORMS[config.norm_kind], config.norm == "pre"
        self.source_norm, self.target_norm = (
            norm(width, config.norm_eps) if config.embedding_norm else None for _ in range(2)
        )
        self.encoder_norm = norm(width, config.norm_eps) if final else None
        self.decoder_norm = norm(width, config.norm_eps) if final else None
        self.encoder_relative, self.decoder_relative = (
            RelativeBias(config.heads, width, both, config.relative_buckets, config.relative_longest)
            if config.positions == "relative"
            else None
            for both in (True, False)
        )
        self.output_from(self.target_embedding, config.tie_output)
        self.output_bias = Parameter(init.zeros((spec.target_vocab,))) if config.output_bias else None
        self.name_parameters()

    def forward(self, src: Any, src_lengths: Any, tgt_in: Any) -> Tensor:
        """src int32 [B,S], src_lengths int32 [B], tgt_in int32 [B,T] → logits [B,T,V]."""
        return self.logits(self.decode(self.encode(src, src_lengths), src_lengths, tgt_in))

    def loss(self, batch: Any, smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
        """(sum of the cross entropies in nats, number of target tokens), both float32 scalars; see `Batch`.

        With weights in the batch: (sum of weight times cross entropy, sum of the weights).
        """
        if self.output_bias is None:
            return super().loss(batch, smoothing)
        logits, targets, weights = self.scores(batch)
        return ops.cross_entropy(logits, targets, smoothing=smoothing, weights=weights)

    def rows(self, batch: Any) -> tuple[Tensor, Tensor, Tensor | None]:
        """hidden [B,T,D] of a `Batch`, [N,D] of a `PackedBatch`, with targets and weights."""
        if isinstance(batch, PackedBatch):
            hidden = self._packed(batch)
        else:
            hidden = self.decode(self.encode(batch.src, batch.src_lengths), batch.src_lengths, batch.tgt_in)
        return hidden, _ids(batch.tgt_out), flat_weights(batch)

    def encode(self, src: Any, src_lengths: Any) -> Tensor:
        """src int32 [B,S], src_lengths int32 [B] ≥ 1 → memory [B,S,D]; rows beyond a length hold no meaning."""
        x = self._source(src)
        return self._encode(x, _ids(src_lengths), _relative(self.encoder_relative, x))

    def decode(self, memory: Tensor, src_lengths: Any, tgt_in: Any) -> Tensor:
        """memory [B,S,D], src_lengths int32 [B], tgt_in int32 [B,T] → hidden [B,T,D], for `logits`."""
        x = self._target(tgt_in)
        return self._decode(x, memory, _ids(src_lengths), _relative(self.decoder_relative, x))

    def _packed(self, batch: PackedBatch) -> Tensor:
        """The hidden rows [N,D] of a packed batch: all its sentences at once, each for itself."""
        if reason := why_not_packed(self.config):
            raise UsageError(f"transformer: {reason}; use batch.kind buckets")
        source = Segments(_ids(batch.src_offsets), _ids(batch.src_positions))
        target = Segments(_ids(batch.tgt_offsets), _ids(batch.tgt_positions))
        x = self._source(batch.src, source)
        memory = self._encode(x, None, None, source)
        x = self._target(batch.tgt_in, target)
        return self._decode(x, memory, None, None, target, source)

    def _encode(self, x: Tensor, *places: Any) -> Tensor:
        for layer in self.encoder:
            x = self._run(layer, x, *places)
        return x if self.encoder_norm is None else self.encoder_norm(x)

    def _decode(self, x: Tensor, memory: Tensor, *places: Any) -> Tensor:
        for layer in self.decoder:
            x = self._run(layer, x, memory, *places)
        return self._decoded(x)

    def _decoded(self, x: Tensor) -> Tensor:
        x = x if self.decoder_norm is None else self.decoder_norm(x)
        return x if self.config.output_scale == 1.0 else x * self.config.output_scale

    def cross_attention(self, src: Any, src_lengths: Any, tgt_in: Any, layer: int | None = None) -> Tensor:
        """How much each target position looks at each source token: src int32 [B,S], src_lengths int32 [B], tgt_in
        int32 [B,T] → [B,T,S], rows that sum to 1, the mean over the heads of a decoder `layer` (default: the last but
        one, which aligns words best; Garg et al. 2019)."""
        lengths = _ids(src_lengths)
        memory = self.encode(src, lengths)
        at = max(0, len(self.decoder) - 2) if layer is None else layer
        x = self._target(tgt_in)
        bias = _relative(self.decoder_relative, x)
        for before in self.decoder[:at]:
            x = before(x, memory, lengths, bias)
        return ops.mean(self.decoder[at].cross_weights(x, memory, lengths, bias), axis=1)

    def _run(self, layer: Module, *args: Any) -> Tensor:
        return checkpoint(layer, *args) if self.config.checkpoint_layers and self.training else layer(*args)

    def _source(self, ids: Any, segments: Segments | None = None) -> Tensor:
        return self._placed(self.source_positions, self.source_norm, self.source_embedding(_ids(ids)), segments)

    def _target(self, ids: Any, segments: Segments | None = None) -> Tensor:
        x = self.target_embedding(_ids(ids))
        if self.config.zero_begin:
            at = ops.arange(x.shape[1]) if segments is None else segments.positions
            x = x * ops.expand_dims(ops.greater(at, 0), 1).astype(x.dtype)
        return self._placed(self.target_positions, self.target_norm, x, segments)

    def _placed(self, positions: Positions | None, norm: Module | None, x: Tensor, segments: Segments | None) -> Tensor:
        if positions is not None:
            x = positions(x) if segments is None else positions.each(x, segments.positions)
        return self.dropout(x if norm is None else norm(x))

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden [..., D] → scores [..., V]."""
        scores = super().logits(hidden)
        return scores if self.output_bias is None else scores + self.output_bias

    # ---- one token at a time

    def new_cache(self, sentences: int, source_length: int, rows: int, max_length: int) -> DecodeCache:
        """Empty storage to decode up to `max_length` tokens in `rows` = `sentences` · beams rows; see `fill_cache`."""
        self.check_length(max_length)
        heads, width = self.config.heads, self.config.d_model
        own = self.config.kv_heads or heads
        sizes = (sentences, rows, source_length, max_length, own, self.config.head_width or width // heads)
        state = width if self.recurrent else 0
        return DecodeCache(len(self.decoder), *sizes, dtype=self.compute or np.float32, state=state)

    def fill_cache(self, cache: DecodeCache, memory: Tensor, src_lengths: Any) -> None:
        """Start new sentences in a cache: compute the cross-attention keys and values of memory [B,S,D] once.

        What self-attention holds from earlier sentences stays and is never seen: a step sees its own history only.
        States become 0.
        """
        expected = (cache.sentences, cache.source_length, self.config.d_model)
        if tuple(memory.shape) != expected:
            raise ShapeError(f"cache: memory: expected shape {expected}, got {tuple(memory.shape)}")
        with no_grad():
            for i, layer in enumerate(self.decoder):
                k, v = ops.split(layer.cross_attention.keys_values(memory), 2, axis=2)
                cache.cross_k[i].assign(k)
                cache.cross_v[i].assign(v)
            for state in cache.states:
                state.assign(ops.zeros(state.shape, state.dtype))
            cache.source_lengths.assign(_ids(src_lengths))

    def init_cache(self, memory: Tensor, src_lengths: Any, rows: int, max_length: int) -> DecodeCache:
        """`new_cache` for memory [B,S,D], filled."""
        cache = self.new_cache(memory.shape[0], memory.shape[1], rows, max_length)
        self.fill_cache(cache, memory, src_lengths)
        return cache

    def step(self, tokens: Any, position: Any, cache: DecodeCache) -> Tensor:
        """tokens int32 [R] at `position` (int32, 0-d, from 0; the token there is bos) → logits [R,V] of what follows.

        Writes the cache in place. Positions go up one by one; one past the cache's end raises IndexRangeError. For a
        compiled function pass `position` as a 0-d array: a Python or NumPy scalar is static there.
        """
        place_at = _ids(position)
        with no_grad():
            place = cache.place(place_at)
            if self.decoder_relative is not None:
                place.add_bias(self.decoder_relative(ops.reshape(place_at, (1,)), cache.times()))
            x = self.target_embedding(_ids(tokens))
            if self.config.zero_begin:
                x = x * ops.greater(place_at, 0).astype(x.dtype)
            positions = self.target_positions
            x = x if positions is None else positions.at(x, place_at)
            x = self.dropout(x if self.target_norm is None else self.target_norm(x))
            x = ops.reshape(x, shape=(cache.sentences, cache.beams, self.config.d_model))
            for i, layer in enumerate(self.decoder):
                with layer.scope():
                    x = layer.step(x, cache, i, place)
            return self.logits(ops.reshape(self._decoded(x), shape=(cache.rows, self.config.d_model)))


def build(config: TransformerConfig, spec: Any, generator: Generator) -> Transformer:
    """A Transformer of these sizes (`config`) for these vocabularies (`spec`, a `ProblemSpec`), its initial weights
    drawn from `generator`, on the CPU: the same seed gives the same bits."""
    with use_generator(generator):
        return Transformer(config, spec)


def _relative(bias: RelativeBias | None, x: Tensor) -> Tensor | None:
    """The bias [H,T,T] of a stack's self-attention over x [B,T,D]."""
    return None if bias is None else bias(ops.arange(x.shape[1]), ops.arange(x.shape[1]))


def _ids(value: Any) -> Tensor:
    """An int32 tensor of ids, lengths or a position."""
    return value if isinstance(value, Tensor) else tensor(np.asarray(value, np.int32))


# ---- presets


tiny, small, base, big, bulletin, multi30k, multi30k_tiny = presets(
    __name__, TransformerConfig, "tiny", "small", "base", "big", "bulletin", "multi30k", "multi30k_tiny"
)
