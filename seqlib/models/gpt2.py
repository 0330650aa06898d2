"""GPT-2 (Radford et al. 2019): a causal language model, pre-norm, with learned positions and tied embeddings.

B batch, T time, D model width, F feed-forward width, H heads, V vocabulary.
"""

import math
from collections.abc import Collection, Mapping
from typing import Any, cast

import msgspec
import numpy as np

from seqlib.core import ops
from seqlib.core.rng import Generator, use_generator
from seqlib.core.tensor import Parameter, Tensor, as_tensor
from seqlib.data.batch import TextBatch
from seqlib.models.names import Fields, Names, read_table
from seqlib.models.preset import presets
from seqlib.nn import init
from seqlib.nn.attention import MultiHeadAttention, Segments
from seqlib.nn.cache import DecodeCache, StepPlace
from seqlib.nn.dropout import Dropout, check_config
from seqlib.nn.embedding import Embedding
from seqlib.nn.feed_forward import FeedForward
from seqlib.nn.linear import Linear
from seqlib.nn.module import Module
from seqlib.nn.norm import LayerNorm
from seqlib.nn.positions import LearnedPositions
from seqlib.nn.token_model import CausalModel
from seqlib.util.errors import UsageError

__all__ = ["GPT2", "SIZES", "GPT2Config", "base", "build", "small", "tiny", "why_not_packed"]

TASK = "language_model"


_STD = 0.02


class GPT2Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Sizes of a GPT-2, by default those of the smallest; raises UsageError for values that don't fit together."""

    vocab: int = 50257
    """Tokens."""
    layers: int = 12
    d_model: int = 768
    """D."""
    heads: int = 12
    d_ff: int = 0
    """0: four times d_model."""
    max_length: int = 1024
    """Longest text in tokens."""
    dropout: float = 0.1
    """Of embeddings, attention probabilities and each block's output before the residual sum."""
    norm_eps: float = 1e-5
    """Of layer norm."""

    def __post_init__(self) -> None:
        check_config(self, "gpt2", "vocab layers d_model heads max_length", "dropout")
        if self.d_model % self.heads:
            raise UsageError(f"gpt2: d_model {self.d_model} must be a multiple of heads {self.heads}")


SIZES = {
    "gpt2": GPT2Config(),
    "gpt2_medium": GPT2Config(layers=24, d_model=1024, heads=16),
    "gpt2_large": GPT2Config(layers=36, d_model=1280, heads=20),
    "gpt2_xl": GPT2Config(layers=48, d_model=1600, heads=25),
}
"""The published sizes, by their names: 124, 355, 774 and 1558 million parameters."""


class Block(Module):
    """Causal self-attention and feed-forward, each after a norm and with a residual sum."""

    def __init__(self, config: GPT2Config):
        d = config.d_model
        self.attention_norm = LayerNorm(d, config.norm_eps)
        self.attention = MultiHeadAttention(d, config.heads, config.dropout, bias=True)
        self.feed_forward_norm = LayerNorm(d, config.norm_eps)
        self.feed_forward = FeedForward(d, config.d_ff or 4 * d, "gelu_tanh")
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, segments: Segments | None = None) -> Tensor:
        """[B,T,D] → [B,T,D]; packed texts [N,D] in segments → [N,D]."""
        return self._rest(x, self.attention(self.attention_norm(x), causal=True, segments=segments))

    def prefill(self, x: Tensor, cache: DecodeCache, layer: int) -> Tensor:
        """`forward` for a text's first tokens, whose keys and values go into a layer of the cache."""
        packed = self.attention.queries_keys_values(self.attention_norm(x))
        _, k, v = ops.split(packed, 3, axis=2)
        cache.fill(layer, k, v)
        return self._rest(x, self.attention.over_itself(packed, causal=True))

    def step(self, x: Tensor, cache: DecodeCache, layer: int, place: StepPlace) -> Tensor:
        """One token for each of J beams: x [B,J,D] → [B,J,D]."""
        keys, values = cache.self_k[layer], cache.self_v[layer]
        return self._rest(x, self.attention.step(self.attention_norm(x), keys, values, place))

    def _rest(self, x: Tensor, attended: Tensor) -> Tensor:
        x = x + self.dropout(attended)
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class GPT2(CausalModel):
    """The model of a `config` over token ids. Weights are drawn from N(0, 0.02²), those of the layers that end in a
    residual sum from N(0, 0.02² / (2 · layers)), by `generator`; biases are 0.
    """

    use, family = "generate", "gpt2"

    def __init__(self, config: GPT2Config, generator: Generator):
        self.config = config
        with use_generator(generator):
            self.embedding = Embedding(config.vocab, config.d_model)
            self.positions = LearnedPositions(config.max_length, config.d_model)
            self.dropout = Dropout(config.dropout)
            self.blocks = [Block(config) for _ in range(config.layers)]
            self.norm = LayerNorm(config.d_model, config.norm_eps)
            self._draw()
        self.name_parameters()

    def _draw(self) -> None:
        for name, module in self.named_modules().items():
            if isinstance(module, (Linear, Embedding, LearnedPositions)):
                std = _STD / math.sqrt(2 * self.config.layers) if name.endswith("out_proj") else _STD
                holder = cast("Any", module)
                holder.weight = Parameter(init.normal(holder.weight.shape, std))

    @property
    def output_weight(self) -> Parameter:
        """That of the embedding."""
        return self.embedding.weight

    def hidden(self, tokens: Any, segments: Segments | None = None) -> Tensor:
        """tokens int32 [B,T] → [B,T,D], for `logits`; packed texts int32 [N] in segments → [N,D]."""
        x = self.embedding(as_tensor(tokens))
        x = self.dropout(self.positions(x) if segments is None else self.positions.each(x, segments.positions))
        for block in self.blocks:
            x = block(x, segments)
        return self.norm(x)

    # ---- one token at a time

    def new_cache(self, sentences: int, source_length: int, rows: int, max_length: int) -> DecodeCache:
        """Empty storage for texts of up to `max_length` tokens in `rows` = `sentences` · beams rows; there is no
        source (`source_length` 0)."""
        self.check_length(max_length)
        heads, width = self.config.heads, self.config.d_model // self.config.heads
        dtype = self.compute or np.float32
        return DecodeCache(len(self.blocks), sentences, rows, source_length, max_length, heads, width, dtype)

    def prefill(self, tokens: Any, cache: DecodeCache) -> None:
        """Put the first tokens int32 [B,P] of as many texts, P of each, into a cache."""
        if not tokens.shape[1]:
            return
        x = self.positions(self.embedding(as_tensor(tokens)))
        for i, block in enumerate(self.blocks):
            with block.scope():
                x = block.prefill(x, cache, i)

    def step(self, tokens: Any, position: Any, cache: DecodeCache) -> Tensor:
        """tokens int32 [R] at `position` (int32, 0-d) → logits [R,V] of what follows; writes the cache in place."""
        at = as_tensor(position)
        place = cache.place(at)
        x = self.positions.at(self.embedding(as_tensor(tokens)), at)
        x = ops.reshape(x, (cache.sentences, cache.beams, self.config.d_model))
        for i, block in enumerate(self.blocks):
            with block.scope():
                x = block.step(x, cache, i, place)
        return self.logits(ops.reshape(self.norm(x), (cache.rows, self.config.d_model)))

    def rows(self, batch: TextBatch) -> tuple[Tensor, Tensor, Tensor | None]:
        """hidden [B,T,D] of a batch, packed or not, with its targets."""
        segments = None
        if batch.offsets is not None:
            segments = Segments(as_tensor(batch.offsets), as_tensor(batch.positions))
        return self.hidden(batch.inputs, segments), as_tensor(batch.targets), None


def build(config: GPT2Config, spec: Any, generator: Generator) -> GPT2:
    """A model of these sizes (`config`, but for `vocab`) for a `spec` (a `ProblemSpec`), drawn from `generator`."""
    return GPT2(msgspec.structs.replace(config, vocab=spec.target_vocab), generator)


def why_not_packed(config: GPT2Config) -> str:
    """The reason for which a model of this `config` can't take packed batches: none."""
    return ""


# ---- presets


tiny, small, base = presets(__name__, GPT2Config, "tiny", "small", "base")


# ---- checkpoints of Hugging Face


def from_hf(found: Mapping[str, Any], tensors: Collection[str], spec: Any) -> GPT2:
    """The model that a config.json describes, for a checkpoint with these `tensors`. Raises UsageError for what is
    computed otherwise here."""
    usual = {"activation_function": ("gelu_new",), "scale_attn_weights": (True,), "tie_word_embeddings": (True,)}
    usual |= {"scale_attn_by_inverse_layer_idx": (False,), "architectures": (["GPT2LMHeadModel"], ["GPT2Model"], None)}
    for name, known in usual.items():
        if found.get(name, known[0]) not in known:
            raise UsageError(f"gpt2: {name} {found[name]!r} is not supported; known: {known[0]!r}")
    fields = Fields("gpt2").read(found)
    return GPT2(GPT2Config(**fields), Generator(0))


def names(model: GPT2) -> Names:
    """The names of a model's weights in checkpoints of Hugging Face."""
    return Names(read_table("gpt2"), "transformer.", ("*.attn.bias", "*.attn.masked_bias", "lm_head.weight"))


def config_of(model: GPT2) -> dict[str, Any]:
    """The config.json that describes a model, for `from_hf` and for transformers."""
    found = Fields("gpt2").write(model.config)
    found |= {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_inner": model.config.d_ff or None}
    return found | {"embd_pdrop": model.config.dropout, "attn_pdrop": model.config.dropout}
