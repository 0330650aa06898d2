"""T5 (Raffel et al. 2020), v1.1 and FLAN-T5, as Hugging Face has them: Transformers with relative positions, RMS norms
and no biases."""

from collections.abc import Collection, Mapping
from typing import Any, cast

from seqlib.models.names import Fields, Names, read_table
from seqlib.models.transformer import Transformer
from seqlib.models.transformer_config import TransformerConfig
from seqlib.util.errors import UsageError

_ACTIVATIONS = {"relu": "relu", "gated-gelu": "geglu_tanh", "gated-silu": "swiglu", "gated-relu": "reglu"}
_LONGEST = 2048  # T5 itself has no bound


def from_hf(found: Mapping[str, Any], tensors: Collection[str], spec: Any) -> Transformer:
    """The model that a config.json describes, of a ProblemSpec, for a checkpoint with these `tensors`. Raises
    UsageError for another head or activation."""
    if not (found.get("architectures") or ["T5ForConditionalGeneration"])[0].endswith("ForConditionalGeneration"):
        raise UsageError(f"t5: {found['architectures'][0]} has a head that seqlib does not know")
    if (act := found.get("feed_forward_proj", "relu")) not in _ACTIVATIONS:
        raise UsageError(f"t5: feed_forward_proj {act!r} is not one of {', '.join(_ACTIVATIONS)}")
    fields = Fields("t5").read(found)
    fields.setdefault("decoder_layers", fields["encoder_layers"])
    scaled = found.get("scale_decoder_outputs", found.get("tie_word_embeddings", True))
    rate = fields.get("dropout", 0.1)
    config = TransformerConfig(
        family="t5",
        norm_kind="rms",
        positions="relative",
        activation=_ACTIVATIONS[act],
        attention_scale=1.0,
        ff_bias=False,
        embedding_scale=False,
        tie_output=scaled or "lm_head.weight" not in tensors,
        output_scale=fields["d_model"] ** -0.5 if scaled else 1.0,
        attention_dropout=rate,
        ff_dropout=rate,
        max_length=_LONGEST,
        **fields,
    )
    return Transformer(config, spec)


def names(model: Transformer) -> Names:
    """The names of a model's weights in checkpoints of Hugging Face."""
    gated = model.encoder[0].feed_forward.gate_proj is not None
    unused = "*coder.embed_tokens.weight", "lm_head.weight", "decoder.*.EncDecAttention.relative_attention_bias.weight"
    return Names(read_table("t5").replace(".IN", ".wi_1" if gated else ".wi"), "", unused)


def config_of(model: Transformer) -> dict[str, Any]:
    """The config.json that describes a model, for `from_hf` and for transformers."""
    config, spec = model.config, cast("Any", model.spec)
    found: dict[str, Any] = Fields("t5").write(config)
    found |= {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True}
    found["feed_forward_proj"] = next(theirs for theirs, ours in _ACTIVATIONS.items() if ours == config.activation)
    found |= {"vocab_size": spec.source_vocab, "pad_token_id": spec.pad_id, "eos_token_id": spec.eos_id}
    scaled = config.output_scale != 1.0
    return found | {
        "decoder_start_token_id": spec.bos_id,
        "tie_word_embeddings": scaled,  # older versions of transformers take the one for the other
        "scale_decoder_outputs": scaled,
    }
