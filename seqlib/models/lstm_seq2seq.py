"""LSTM encoder–decoder with attention (Sutskever et al. 2014; Bahdanau et al. 2015; Luong et al. 2015).

B batch, T target time, S source time, D model width (embeddings, attention vector), H state width, V vocabulary, R
decoding rows (B sentences times J beams). Batches are as for the Transformer.
"""

import math
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np

from seqlib.core import ops
from seqlib.core.rng import Generator, use_generator
from seqlib.core.tape import no_grad
from seqlib.core.tensor import Tensor
from seqlib.models.preset import presets
from seqlib.models.transformer import _ids
from seqlib.nn.dropout import Dropout, check_config
from seqlib.nn.embedding import Embedding
from seqlib.nn.encoder_decoder import flat_weights
from seqlib.nn.linear import Linear
from seqlib.nn.recurrent import LSTM, BahdanauAttention, LSTMCell, LuongAttention, RecurrentCache, State
from seqlib.nn.token_model import TokenModel
from seqlib.util.errors import ShapeError, UsageError

__all__ = ["Encoded", "LSTMSeq2Seq", "LSTMSeq2SeqConfig", "base", "build", "multi30k"]

TASK = "translation"


class LSTMSeq2SeqConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Sizes and choices; raises UsageError for values that don't fit together."""

    layers: int = 2
    """Of the encoder, and as many of the decoder: each starts from the last state of its encoder layer."""
    d_model: int = 128
    """Width of embeddings and of the attention vector, which the output weights read."""
    hidden: int = 128
    """Width of the decoder's state; the encoder has half of it in each direction."""
    attention: Literal["luong", "bahdanau"] = "luong"
    """The score: qᵀ W m (Luong et al.'s "general") or vᵀ tanh(W q + U m) (Bahdanau et al.)."""
    input_feeding: bool = False
    """The attention vector of a step is an input of the next one (Luong et al. 2015, section 3.3). The decoder is a
    loop over all of its parts then; without, only over its LSTM, which trains several times faster."""
    dropout: float = 0.2
    """Of embeddings, between layers, and of the attention vector."""
    tie_source: bool = True
    """Source and target share one embedding, if the problem has one vocabulary for both."""
    tie_output: bool = True
    """The output weights are the target embedding."""
    max_length: int = 1024
    """Longest sentence, special tokens included, on either side."""

    def __post_init__(self) -> None:
        check_config(self, "lstm_seq2seq", "layers d_model hidden max_length", "dropout")
        if self.hidden % 2:
            raise UsageError(f"lstm_seq2seq: hidden: expected an even width, half a direction, got {self.hidden}")


class Encoded(NamedTuple):
    """What the encoder hands to the decoder: memory [B,S,H], and h and c [B,H] for each layer."""

    memory: Tensor
    states: list[State]


class LSTMSeq2Seq(TokenModel):
    """A bidirectional encoder, and a decoder whose attention vector tanh(W [context; state]) gives the logits.

    `config` and `spec` are kept as given. Parameters start from `nn.init` under the ambient generator; see `build`.
    """

    def __init__(self, config: LSTMSeq2SeqConfig, spec: Any):
        self.config = config
        self.spec = spec
        width, state, scale = config.d_model, config.hidden, math.sqrt(config.d_model)
        self.source_embedding = Embedding(spec.source_vocab, width, scale)
        shared = config.tie_source and spec.shared_vocab
        self.target_embedding = self.source_embedding if shared else Embedding(spec.target_vocab, width, scale)
        self.dropout = Dropout(config.dropout)
        self.encoder = LSTM(width, state // 2, config.layers, bidirectional=True, dropout=config.dropout)
        fed = width if config.input_feeding else 0
        self.decoder = LSTM(width + fed, state, config.layers, dropout=config.dropout)
        self.attention = (
            LuongAttention(state) if config.attention == "luong" else BahdanauAttention(state, state, width)
        )
        self.combine = Linear(2 * state, width, bias=False)
        self.output_from(self.target_embedding, config.tie_output)
        self.name_parameters()

    def forward(self, src: Any, src_lengths: Any, tgt_in: Any) -> Tensor:
        """src int32 [B,S], src_lengths int32 [B], tgt_in int32 [B,T] → logits [B,T,V]."""
        return self.logits(self.decode(self.encode(src, src_lengths), src_lengths, tgt_in))

    def rows(self, batch: Any) -> tuple[Tensor, Tensor, Tensor | None]:
        """hidden [B,T,D] of a `Batch`, with targets and weights."""
        encoded = self.encode(batch.src, batch.src_lengths)
        hidden = self.decode(encoded, batch.src_lengths, batch.tgt_in)
        return hidden, _ids(batch.tgt_out), flat_weights(batch)

    def encode(self, src: Any, src_lengths: Any) -> Encoded:
        """src int32 [B,S], src_lengths int32 [B] ≥ 1 → memory [B,S,H], 0 beyond a length, and the decoder's states."""
        x = self.dropout(self.source_embedding(_ids(src)))
        return Encoded(*self.encoder(x, _ids(src_lengths)))

    def decode(self, encoded: Encoded, src_lengths: Any, tgt_in: Any) -> Tensor:
        """src_lengths int32 [B], tgt_in int32 [B,T] → attention vectors [B,T,D], for `logits`."""
        keys = self.attention.keys(encoded.memory)
        return self.dropout(self._decode(encoded, keys, _ids(src_lengths), tgt_in)[0])

    def _decode(self, encoded: Encoded, keys: Tensor, lengths: Tensor, tgt_in: Any) -> tuple[Tensor, Tensor]:
        """Attention vectors [B,T,D] before dropout, and the states [B,T,H] that they were asked for."""
        x = self.dropout(self.target_embedding(_ids(tgt_in)))
        if self.config.input_feeding:
            return self._decode_fed(x, encoded, keys, lengths)
        states = self.decoder(x, None, encoded.states)[0]
        return self._attention_vector(self.attention(states, keys, encoded.memory, lengths), states), states

    def _attention_vector(self, context: Tensor, states: Tensor) -> Tensor:
        return ops.tanh(self.combine(ops.concatenate([context, states], axis=-1)))

    def _decode_fed(self, x: Tensor, encoded: Encoded, keys: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """With input feeding: embedded x [B,T,D] → attention vectors [B,T,D] before dropout, and states [B,T,H]."""
        first, width = self.decoder.cells[0], self.config.d_model
        assert isinstance(first, LSTMCell)
        weight = first.weight_x.as_dtype(x.dtype)
        from_x, from_feed = weight[:, :width], weight[:, width:]
        given = ops.matmul(ops.swapaxes(x, 0, 1), from_x, transpose_b=True) + first.bias.as_dtype(x.dtype)

        def step(carry: Any, gates: Tensor) -> Any:
            states, feed = carry
            gates = gates + ops.matmul(feed, from_feed, transpose_b=True)
            with self.decoder.scope():
                top, states = self.decoder.advance(gates, states)
            query = ops.expand_dims(top, 1)
            context = self.attention(query, keys, encoded.memory, lengths)
            vector = ops.squeeze(self._attention_vector(context, query), 1)
            return (states, vector), (vector, top)

        feed = ops.zeros((x.shape[0], width), x.dtype)
        _, (vectors, states) = ops.scan(step, (encoded.states, feed), given)
        return ops.swapaxes(vectors, 0, 1), ops.swapaxes(states, 0, 1)

    def cross_attention(self, src: Any, src_lengths: Any, tgt_in: Any) -> Tensor:
        """The attention weights when the decoder reads `tgt_in`: [B,T,S], rows sum to 1, 0 beyond a source's length."""
        encoded, lengths = self.encode(src, src_lengths), _ids(src_lengths)
        keys = self.attention.keys(encoded.memory)
        return self.attention.weights(self._decode(encoded, keys, lengths, tgt_in)[1], keys, lengths)

    # ---- one token at a time

    def new_cache(self, sentences: int, source_length: int, rows: int, max_length: int) -> RecurrentCache:
        """Empty storage to decode `rows` = `sentences` · beams rows; see `fill_cache`. Its size does not depend on
        `max_length`, which may be at most the model's."""
        self.check_length(max_length)
        width = self.config.hidden
        return RecurrentCache(
            self.config.layers,
            sentences,
            rows,
            source_length,
            state=width,
            feed=self.config.d_model if self.config.input_feeding else 0,
            keys=self.attention.key_features,
            memory=width,
            dtype=self.compute or np.float32,
        )

    def fill_cache(self, cache: RecurrentCache, memory: Encoded, src_lengths: Any) -> None:
        """Start new sentences in a cache: the keys of the attention are computed once, each beam starts alike."""
        expected = (cache.sentences, cache.source_length, self.config.hidden)
        if tuple(memory.memory.shape) != expected:
            raise ShapeError(f"cache: memory: expected shape {expected}, got {tuple(memory.memory.shape)}")
        with no_grad():
            cache.keys.assign(self.attention.keys(memory.memory))
            cache.memory.assign(memory.memory)
            cache.source_lengths.assign(_ids(src_lengths))
            for i, state in enumerate(memory.states):
                for variable, start in zip((cache.h[i], cache.c[i]), state, strict=True):
                    beams = (cache.sentences, cache.beams, start.shape[1])
                    alike = ops.broadcast_to(ops.expand_dims(start, 1), beams)
                    variable.assign(ops.reshape(alike, tuple(variable.shape)))
            if cache.feed is not None:
                cache.feed.assign(ops.zeros(cache.feed.shape, cache.feed.dtype))

    def init_cache(self, memory: Encoded, src_lengths: Any, rows: int, max_length: int) -> RecurrentCache:
        """`new_cache` for what `encode` gave, filled."""
        sentences, source_length, _ = memory.memory.shape
        cache = self.new_cache(sentences, source_length, rows, max_length)
        self.fill_cache(cache, memory, src_lengths)
        return cache

    def step(self, tokens: Any, position: Any, cache: RecurrentCache) -> Tensor:
        """tokens int32 [R] (bos first) → logits [R,V] of what follows. Writes the cache in place.

        What came before is in the cache, so `position` is not read; it is there as every model has it.
        """
        with no_grad():
            x = self.dropout(self.target_embedding(_ids(tokens)))
            if cache.feed is not None:
                x = ops.concatenate([x, cache.feed], axis=-1)
            with self.decoder.scope():
                top, states = self.decoder.step(x, cache.states)
            query = ops.reshape(top, (cache.sentences, cache.beams, self.config.hidden))
            context = self.attention(query, cache.keys, cache.memory, cache.source_lengths)
            vector = ops.reshape(self._attention_vector(context, query), (cache.rows, self.config.d_model))
            cache.keep(states)
            if cache.feed is not None:
                cache.feed.assign(vector)
            return self.logits(self.dropout(vector))


def build(config: LSTMSeq2SeqConfig, spec: Any, generator: Generator) -> LSTMSeq2Seq:
    """A model of these sizes (`config`) for these vocabularies (`spec`, a `ProblemSpec`), its initial weights drawn
    from `generator`, on the CPU: the same seed gives the same bits."""
    with use_generator(generator):
        return LSTMSeq2Seq(config, spec)


# ---- presets


base, multi30k = presets(__name__, LSTMSeq2SeqConfig, "base", "multi30k")
