"""Marian's translation models (Junczys-Dowmunt et al. 2018), BART (Lewis et al. 2020) and Pegasus (Zhang et al. 2020)
as Hugging Face has them: Transformers with other settings and other names of weights."""

from collections.abc import Collection, Mapping
from typing import Any, cast

from seqlib.models.names import Fields, Names, read_table
from seqlib.models.transformer import Transformer
from seqlib.models.transformer_config import TransformerConfig
from seqlib.util.errors import UsageError

_ACTIVATIONS = {"swish": "silu"}
_SAME = (("decoder_ffn_dim", "encoder_ffn_dim"), ("decoder_attention_heads", "encoder_attention_heads"))
"""What both stacks must have the same of."""


def from_hf(found: Mapping[str, Any], tensors: Collection[str], spec: Any) -> Transformer:
    """The model that a config.json describes, of a ProblemSpec, for a checkpoint with these `tensors`. Raises
    UsageError for what is none of a Transformer here."""
    kind = found["model_type"]
    if any(found[one] != found[other] for one, other in _SAME):
        raise UsageError(f"{kind}: encoder and decoder of different widths or heads are not supported")
    if not (found.get("architectures") or ["…MTModel"])[0].endswith(("MTModel", "ForConditionalGeneration")):
        raise UsageError(f"{kind}: {found['architectures'][0]} has a head that seqlib does not know")
    fields = Fields("marian").read(found)
    fields["activation"] = _ACTIVATIONS.get(fields["activation"], fields["activation"])
    bart, table = kind == "bart", kind == "pegasus" and "model.encoder.embed_positions.weight" in tensors
    config = TransformerConfig(
        family="marian",
        norm="pre" if kind == "pegasus" else "post",
        norm_eps=1e-5,
        positions="learned" if bart or table else "sinusoidal_paper",
        position_offset=2 if bart else 0,
        embedding_norm=bart,
        attention_bias=True,
        output_bias=True,
        tie_source=spec.shared_vocab,
        tie_output=found.get("tie_word_embeddings", True),
        **fields,
    )
    return Transformer(config, spec)


def names(model: Transformer) -> Names:
    """The names of a model's weights in checkpoints of Hugging Face."""
    unused = ("model.*coder.embed_tokens.weight", "lm_head.weight")
    if model.config.positions != "learned":
        unused += ("model.*coder.embed_positions.weight",)
    table = read_table("marian")
    if model.source_embedding is not model.target_embedding:
        table = table.replace("model.shared", "model.encoder.embed_tokens")
    return Names(table, "", unused)


def config_of(model: Transformer) -> dict[str, Any]:
    """The config.json that describes a model, for `from_hf` and for transformers. Raises UsageError for a Transformer
    that neither Marian nor BART is."""
    config, spec = model.config, cast("Any", model.spec)
    bart = config.positions == "learned" and config.norm == "post"
    for name, expected in {
        "norm_kind": "layer",
        "norm_eps": 1e-5,
        "attention_bias": True,
        "ff_bias": True,
        "position_offset": 2 if bart else 0,
        "embedding_norm": bart,
        "attention_scale": 0.0,
        "head_width": 0,
        "output_scale": 1.0,
        "output_bias": True,
        "kv_heads": 0,
        "positions": "learned" if bart or config.norm == "pre" else "sinusoidal_paper",
    }.items():
        if getattr(config, name) != expected:
            raise UsageError(
                f"a Transformer with {name} {getattr(config, name)!r} is no {'BART' if bart else 'Marian or Pegasus'}"
            )
    found: dict[str, Any] = Fields("marian").write(config)
    found["activation_function"] = {"silu": "swish"}.get(config.activation, config.activation)
    found |= {one: found[other] for one, other in _SAME}
    found |= {"vocab_size": spec.source_vocab, "pad_token_id": spec.pad_id, "eos_token_id": spec.eos_id}
    found |= {
        "decoder_start_token_id": spec.bos_id,
        "is_encoder_decoder": True,
        "tie_word_embeddings": config.tie_output,
    }
    if bart:
        return {"model_type": "bart", "architectures": ["BartForConditionalGeneration"]} | found
    if config.norm == "pre":
        return {"model_type": "pegasus", "architectures": ["PegasusForConditionalGeneration"]} | found
    found |= {"decoder_vocab_size": spec.target_vocab, "share_encoder_decoder_embeddings": config.tie_source}
    return {"model_type": "marian", "architectures": ["MarianMTModel"]} | found
