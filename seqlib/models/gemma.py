"""Gemma 3's text models (Gemma Team 2025): Llamas with norms on both sides of a block, windowed layers between full
ones and scaled embeddings; and the names of their weights."""

from collections.abc import Collection, Mapping
from typing import Any

from seqlib.models.llama import FIELDS, Llama, LlamaConfig, common, rotary_of
from seqlib.models.names import Names, read_table
from seqlib.util.errors import UsageError

_LOCAL_BASE, _EVERY = 10000.0, 6  # of windowed layers; every sixth layer is a full one


def from_hf(found: Mapping[str, Any], tensors: Collection[str], spec: Any) -> Llama:
    """The model that a config.json describes, of a ProblemSpec, for a checkpoint with these `tensors`. Raises
    UsageError for what is computed otherwise here."""
    if found.get("final_logit_softcapping") or found.get("attn_logit_softcapping"):
        raise UsageError("gemma3: soft caps of scores are not supported")
    fields = common(found) | {"tied": found.get("tie_word_embeddings", True)}
    base, scaling = rotary_of(found, "full_attention")
    near = found.get("rope_local_base_freq") or _LOCAL_BASE
    if "sliding_attention" in (found.get("rope_parameters") or {}):
        near, _ = rotary_of(found, "sliding_attention")
    every = found.get("sliding_window_pattern") or _EVERY
    types = found.get("layer_types")
    windowed = [bool((i + 1) % every) for i in range(fields["layers"])]
    config = LlamaConfig(
        kind="gemma3_text",
        rope_base=base,
        rope_scaling=scaling,
        window=found.get("sliding_window") or 0,
        windowed=tuple([each == "sliding_attention" for each in types] if types else windowed),
        local_base=near,
        activation="geglu_tanh",
        qk_norm=True,
        attention_scale=found.get("query_pre_attn_scalar", 256) ** -0.5,
        norm_after=True,
        embedding_scale=True,
        **fields,
    )
    return Llama(config, spec.target_vocab)


def names(model: Llama) -> Names:
    """The names of a model's weights in checkpoints of Hugging Face."""
    return Names(read_table("gemma"), "", ("lm_head.weight",))


def config_of(model: Llama) -> dict[str, Any]:
    """The config.json that describes a model, for `from_hf` and for transformers."""
    config = model.config
    full: dict[str, Any] = {"rope_type": "default", "rope_theta": config.rope_base}
    if config.rope_scaling is not None:
        full |= {"rope_type": "linear", "factor": config.rope_scaling[0]}
    near = {"rope_type": "default", "rope_theta": config.local_base}
    found = FIELDS.write(config)
    del found["mlp_bias"]
    return found | {
        "model_type": "gemma3_text",
        "architectures": ["Gemma3ForCausalLM"],
        "hidden_activation": "gelu_pytorch_tanh",
        "vocab_size": model.embedding.weight.shape[0],
        "max_position_embeddings": config.max_length,
        "query_pre_attn_scalar": round(config.attention_scale**-2),
        "sliding_window": config.window,
        "layer_types": [f"{'sliding' if each else 'full'}_attention" for each in config.windowed],
        "rope_parameters": {"full_attention": full, "sliding_attention": near},
    }
