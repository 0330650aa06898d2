"""Translation models in Marian's own files (Junczys-Dowmunt et al. 2018), with their settings and names of weights;
Bergamot's and Firefox's "tiny" ones among them, whose decoders are recurrent (Kim et al. 2019)."""

from collections.abc import Collection, Mapping
from typing import Any, cast

from seqlib.models.names import Fields, Names, read_table
from seqlib.models.transformer import Transformer
from seqlib.models.transformer_config import TransformerConfig
from seqlib.util.errors import UsageError

KIND = "marian_native"
"""What config.json calls them; Hugging Face's Marian is another."""

_SIZES = Fields(KIND)
_OFF = (
    "transformer-no-projection transformer-pool transformer-train-position-embeddings layer-normalization right-left "
    "ulr"
).split()
_FIXED = {
    **dict.fromkeys(_OFF, (False,)),
    **dict.fromkeys(("transformer-preprocess", "transformer-postprocess-top"), ("",)),
    "transformer-tied-layers": ([],),
    "input-types": ([],),
    "type": ("transformer",),
    "transformer-postprocess": ("dan",),
    "transformer-ffn-depth": (2,),
    "transformer-ffn-activation": ("relu", "swish"),
    "transformer-decoder-autoreg": ("self-attention", "rnn"),
    "lemma-dim-emb": (0,),
}
"""Settings and the values that are known here, the usual one first."""


def from_settings(settings: Mapping[str, Any], decoding: Mapping[str, Any]) -> dict[str, Any]:
    """The config.json for a model with these `settings` (special:model.yml) and those of `decoding`
    (decoder.yml); ids are those of Marian's vocabularies, which begin with </s> and <unk>."""
    sizes = settings.get("dim-vocabs") or [0, 0]
    ids = {"eos_token_id": 0, "pad_token_id": 0, "decoder_start_token_id": 0}
    return ids | {
        "model_type": KIND,
        "vocab_size": sizes[0],
        "decoder_vocab_size": sizes[-1],
        "share_encoder_decoder_embeddings": any(settings.get(f"tied-embeddings-{kind}") for kind in ("all", "src")),
        "num_beams": decoding.get("beam-size", 12),
        "length_penalty": decoding.get("normalize", 0.0),
        "marian": dict(settings),
    }


def from_hf(found: Mapping[str, Any], tensors: Collection[str], spec: Any) -> Transformer:
    """The model that `from_settings` describes, of a ProblemSpec. Raises UsageError for what is none of a Transformer
    here."""
    given = found["marian"]
    for name, values in _FIXED.items():
        if given.get(name, values[0]) not in values:
            raise UsageError(f"marian: {name} {given[name]!r} is not supported; known are {values}")
    recurrent = given.get("transformer-decoder-autoreg") == "rnn"
    if recurrent and given.get("dec-cell") != "ssru":
        raise UsageError(f"marian: dec-cell {given.get('dec-cell')!r} is not ssru")
    config = TransformerConfig(
        family=KIND,
        **dict.fromkeys(
            ("dropout", "attention_dropout", "ff_dropout"), 0.0
        ),  # the files don't tell; small ones bear none
        norm="post",
        norm_eps=1e-9,
        activation="silu" if given.get("transformer-ffn-activation") == "swish" else "relu",
        decoder_history="ssru" if recurrent else "attention",
        attention_bias=True,
        zero_begin=True,
        output_bias=not given.get("output-omit-bias", False),
        tie_source=spec.shared_vocab,
        tie_output=bool(given.get("tied-embeddings-all") or given.get("tied-embeddings")),
        **_SIZES.read(given),
    )
    return Transformer(config, spec)


def names(model: Transformer) -> Names:
    """The names of a model's weights in Marian's files."""
    table = read_table(KIND)
    if not model.recurrent:
        table = "\n".join(line for line in table.splitlines() if "_rnn_" not in line)
    if model.source_embedding is model.target_embedding:
        table = table.replace("encoder_Wemb", "Wemb").replace("decoder_Wemb", "Wemb")
    return Names(table, "", ("*_QuantMultA", "special:*"))


def config_of(model: Transformer) -> dict[str, Any]:
    """The config.json that describes a model, for `from_hf`; "marian" in it is what Marian calls its settings."""
    config, spec = model.config, cast("Any", model.spec)
    settings: dict[str, Any] = {name: values[0] for name, values in _FIXED.items()}
    settings |= _SIZES.write(config) | {
        "transformer-ffn-activation": "swish" if config.activation == "silu" else "relu",
        "transformer-decoder-autoreg": "rnn" if model.recurrent else "self-attention",
        "dec-cell": "ssru",
        "dim-vocabs": [spec.source_vocab, spec.target_vocab],
        "output-omit-bias": not config.output_bias,
        "tied-embeddings": config.tie_output and not config.tie_source,
        "tied-embeddings-all": config.tie_source and config.tie_output,
        "tied-embeddings-src": config.tie_source and not config.tie_output,
    }
    return from_settings(settings, {"beam-size": 1, "normalize": 1.0})
