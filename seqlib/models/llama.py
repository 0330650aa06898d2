"""Llama (Touvron et al. 2023) and what was built after it: Llama 2 and 3, SmolLM, Mistral, Qwen 2 and 3. A causal
language model with rotary positions, RMS norms, gated feed-forward blocks and grouped queries; and the names of its
weights.

B batch, T time, D model width, H heads, Hk key heads, K head width, V vocabulary, J beams, L longest text.
"""

from collections.abc import Collection, Mapping
from typing import Any

import msgspec
import numpy as np

from seqlib.core import ops
from seqlib.core.rng import Generator, use_generator
from seqlib.core.tensor import Tensor, as_tensor
from seqlib.models.names import Fields, Names, read_table
from seqlib.nn.attention import MultiHeadAttention
from seqlib.nn.cache import DecodeCache, StepPlace
from seqlib.nn.embedding import Embedding
from seqlib.nn.feed_forward import FeedForward
from seqlib.nn.module import Module
from seqlib.nn.norm import RMSNorm
from seqlib.nn.token_model import CausalModel
from seqlib.util.errors import UsageError

TASK = "language_model"


class LlamaConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Sizes and choices of a Llama, by default small ones."""

    kind: str = "llama"
    """Whose names of weights: llama, mistral, qwen2, qwen3 or gemma3_text."""
    layers: int = 8
    d_model: int = 512
    """D."""
    d_ff: int = 1376
    heads: int = 8
    kv_heads: int = 0
    """Hk; 0: as many as heads."""
    head_width: int = 0
    """K; 0: d_model / heads."""
    max_length: int = 2048
    """Longest text in tokens."""
    rope_base: float = 10000.0
    """The longest wavelength of positions over 2π."""
    rope_scaling: tuple[float, float, float, float] | None = None
    """See `ops.rotary`."""
    window: int = 0
    """In windowed layers a token sees the last so many; 0: all."""
    windowed: tuple[bool, ...] = ()
    """Which layers are; empty: all."""
    local_base: float = 0.0
    """rope_base of windowed layers, without scaling; 0: as the others."""
    norm_eps: float = 1e-5
    activation: str = "swiglu"
    attention_bias: bool = False
    """Of queries, keys and values."""
    out_bias: bool = False
    """Of the projection of what attention found."""
    ff_bias: bool = False
    qk_norm: bool = False
    """RMS norms of queries and keys."""
    attention_scale: float = 0.0
    """What scores are multiplied by; 0: one over the root of the head width."""
    norm_after: bool = False
    """A norm behind each block as well, before the residual sum (Gemma)."""
    embedding_scale: bool = False
    """Embedded tokens are multiplied by the root of d_model (Gemma)."""
    tied: bool = True
    """The output weights are the embedding."""

    def local(self, layer: int) -> bool:
        """Whether a layer sees a window only."""
        return bool(self.window) and (not self.windowed or self.windowed[layer])


class Layer(Module):
    """Causal self-attention and feed-forward, each after a norm (and before one, with `norm_after`), with a residual
    sum."""

    def __init__(self, config: LlamaConfig, layer: int):
        d, local = config.d_model, config.local(layer)
        near = local and config.local_base > 0
        self.attention_norm = RMSNorm(d, config.norm_eps)
        self.attention = MultiHeadAttention(
            d,
            config.heads,
            0.0,
            config.attention_bias,
            True,
            config.kv_heads,
            head_width=config.head_width,
            out_bias=config.out_bias,
            scale=config.attention_scale or None,
            base=config.local_base if near else config.rope_base,
            scaling=None if near else config.rope_scaling,
            qk_norm=config.norm_eps if config.qk_norm else 0.0,
        )
        self.feed_forward_norm = RMSNorm(d, config.norm_eps)
        self.feed_forward = FeedForward(d, config.d_ff, config.activation, 0.0, config.ff_bias)
        after = config.norm_after
        self.attention_after, self.feed_forward_after = (
            RMSNorm(d, config.norm_eps) if after else None for _ in range(2)
        )

    def forward(self, x: Tensor, bias: Tensor | None, cache: DecodeCache | None = None, layer: int = 0) -> Tensor:
        """[B,T,D], bias of the scores → [B,T,D]; keys and values go into a `layer` of the cache, if there is one."""
        attention = self.attention
        packed = attention.queries_keys_values(self.attention_norm(x), ops.arange(x.shape[1]))
        if cache is not None:
            own = attention.kv_heads
            _, k, v = ops.split(packed, [attention.heads, own, own], axis=2)
            cache.fill(layer, k, v)
        return self._rest(x, attention.over_itself(packed, causal=True, bias=bias))

    def step(self, x: Tensor, cache: DecodeCache, layer: int, place: StepPlace) -> Tensor:
        """One token for each of J beams: x [B,J,D] → [B,J,D]."""
        keys, values = cache.self_k[layer], cache.self_v[layer]
        return self._rest(x, self.attention.step(self.attention_norm(x), keys, values, place))

    def _rest(self, x: Tensor, attended: Tensor) -> Tensor:
        x = x + (attended if self.attention_after is None else self.attention_after(attended))
        y = self.feed_forward(self.feed_forward_norm(x))
        return x + (y if self.feed_forward_after is None else self.feed_forward_after(y))


class Llama(CausalModel):
    """The model of a `config` over `vocab` tokens; weights are drawn as `nn` does."""

    use = "generate"

    def __init__(self, config: LlamaConfig, vocab: int):
        self.config = config
        self.family = "gemma" if config.kind == "gemma3_text" else "llama"
        scale = config.d_model**0.5 if config.embedding_scale else 1.0
        self.embedding = Embedding(vocab, config.d_model, scale)
        self.layers = [Layer(config, i) for i in range(config.layers)]
        self.norm = RMSNorm(config.d_model, config.norm_eps)
        self.output_from(self.embedding, config.tied)
        self.name_parameters()

    def hidden(self, tokens: Any, cache: DecodeCache | None = None) -> Tensor:
        """tokens int32 [B,T] → [B,T,D], for `logits`; keys and values go into the cache, if there is one."""
        x, window = self.embedding(as_tensor(tokens)), self.config.window
        length, near = x.shape[1], None
        if window and length > window:
            times = ops.arange(length)
            near = ops.where(ops.less(ops.reshape(times, (length, 1)) - times, window), 0.0, -float("inf"))
            near = ops.reshape(near, (1, 1, length, length))
        for i, layer in enumerate(self.layers):
            x = layer(x, near if self.config.local(i) else None, cache, i)
        return self.norm(x)

    # ---- one token at a time

    def new_cache(self, sentences: int, source_length: int, rows: int, max_length: int) -> DecodeCache:
        """Empty storage for texts of up to `max_length` tokens in `rows` = `sentences` · beams rows; there is no
        source (`source_length` 0)."""
        config = self.config
        self.check_length(max_length)
        heads, width = config.kv_heads or config.heads, config.head_width or config.d_model // config.heads
        dtype = self.compute or np.float32
        return DecodeCache(config.layers, sentences, rows, source_length, max_length, heads, width, dtype)

    def prefill(self, tokens: Any, cache: DecodeCache) -> None:
        """Put the first tokens int32 [B,P] of as many texts, P of each, into a cache."""
        if tokens.shape[1]:
            self.hidden(tokens, cache)

    def step(self, tokens: Any, position: Any, cache: DecodeCache) -> Tensor:
        """tokens int32 [R] at `position` (int32, 0-d) → logits [R,V] of what follows; writes the cache in place."""
        at, window = as_tensor(position), self.config.window
        place = near = cache.place(at)
        if window and cache.max_length > window:
            near = StepPlace(place.position, place.index, place.lengths, place.bias)
            seen = ops.greater(cache.times(), at - window)
            near.add_bias(ops.reshape(ops.where(seen, 0.0, -float("inf")), (1, 1, -1)))
        x = self.embedding(as_tensor(tokens))
        x = ops.reshape(x, (cache.sentences, cache.beams, self.config.d_model))
        for i, layer in enumerate(self.layers):
            with layer.scope():
                x = layer.step(x, cache, i, near if self.config.local(i) else place)
        return self.logits(ops.reshape(self.norm(x), (cache.rows, self.config.d_model)))


def build(config: LlamaConfig, spec: Any, generator: Generator) -> Llama:
    """A model of these sizes for a `spec` (a `ProblemSpec`), drawn from `generator`."""
    with use_generator(generator):
        return Llama(config, spec.target_vocab)


# ---- checkpoints of Hugging Face

FIELDS = Fields("llama")
_HEADS = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}


def from_hf(found: Mapping[str, Any], tensors: Collection[str], spec: Any) -> Llama:
    """The model that a config.json describes, of a ProblemSpec, for a checkpoint with these `tensors`. Raises
    UsageError for what is computed otherwise here."""
    kind = found["model_type"]
    if found.get("hidden_act", "silu") not in ("silu", "swish"):
        raise UsageError(f"{kind}: hidden_act {found['hidden_act']!r} is not silu")
    fields = common(found)
    base, scaling = rotary_of(found)
    bias = bool(found.get("attention_bias", kind == "qwen2"))
    types = found.get("layer_types") or ()
    window = found.get("sliding_window") if found.get("use_sliding_window", kind == "mistral") else None
    config = LlamaConfig(
        kind=kind,
        rope_base=base,
        rope_scaling=scaling,
        attention_bias=bias,
        out_bias=bias and kind != "qwen2",
        qk_norm=kind == "qwen3",
        window=window or 0,
        windowed=tuple(each == "sliding_attention" for each in types) if window else (),
        **fields,
    )
    return Llama(config, spec.target_vocab)


def common(found: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that `FIELDS` names, and max_length."""
    name = (found.get("architectures") or ["ForCausalLM"])[0]
    if not name.endswith("ForCausalLM"):
        raise UsageError(f"{found['model_type']}: {name} has a head that seqlib does not know")
    fields = FIELDS.read(found)
    fields.setdefault("tied", False)
    return fields | {"max_length": found.get("max_position_embeddings", 2048)}


def rotary_of(found: Mapping[str, Any], layers: str = "") -> tuple[float, tuple[float, float, float, float] | None]:
    """Base and scaling of rotary positions in a config.json, of those `layers` that it tells apart. Raises UsageError
    for a kind that is not known."""
    given = found.get("rope_parameters") or found.get("rope_scaling") or {}
    given = given.get(layers, given)
    base = float(given.get("rope_theta") or found.get("rope_theta") or 10000.0)
    kind = given.get("rope_type", given.get("type", "default"))
    if kind == "default":
        return base, None
    if kind == "linear":
        return base, (float(given["factor"]), 1.0, 2.0, 0.0)
    if kind == "llama3":
        names = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
        return base, tuple(float(given[name]) for name in names)  # type: ignore[return-value]
    raise UsageError(f"{found['model_type']}: rope_type {kind!r} is not one of default, linear, llama3")


def names(model: Llama) -> Names:
    """The names of a model's weights in checkpoints of Hugging Face."""
    return Names(read_table("llama"), "", ("*.rotary_emb.inv_freq", "lm_head.weight"))


def config_of(model: Llama) -> dict[str, Any]:
    """The config.json that describes a model, for `from_hf` and for transformers."""
    config, kind = model.config, model.config.kind
    found: dict[str, Any] = {"model_type": kind, "architectures": [f"{_HEADS[kind]}ForCausalLM"], "hidden_act": "silu"}
    found |= FIELDS.write(config)
    found["num_key_value_heads"] = config.kv_heads or config.heads
    found["head_dim"] = config.head_width or config.d_model // config.heads
    found |= {"vocab_size": model.embedding.weight.shape[0], "max_position_embeddings": config.max_length}
    found |= {"attention_bias": config.attention_bias, "rope_theta": config.rope_base}
    if config.rope_scaling is not None:
        factor, low, high, length = config.rope_scaling
        found["rope_scaling"] = {"rope_type": "linear", "factor": factor}
        if length:
            found["rope_scaling"] |= {"rope_type": "llama3", "low_freq_factor": low, "high_freq_factor": high}
            found["rope_scaling"]["original_max_position_embeddings"] = int(length)
    if kind != "llama":
        found |= {"sliding_window": config.window or None, "use_sliding_window": bool(config.window)}
    if config.windowed:
        found["layer_types"] = [f"{'sliding' if near else 'full'}_attention" for near in config.windowed]
    return found
