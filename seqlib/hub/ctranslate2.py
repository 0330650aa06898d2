"""A translation model trained here as a folder of CTranslate2, written by its own library (extra `ctranslate2`)."""

from pathlib import Path
from typing import Any

import numpy as np

from seqlib.bundle import Bundle
from seqlib.data.tokenizer import SentencePieceTokenizer
from seqlib.data.vocabulary import MODEL_FILE
from seqlib.models.transformer import Transformer
from seqlib.nn.feed_forward import GATED
from seqlib.util.atomic import atomic_folder
from seqlib.util.errors import UsageError


def to_ctranslate2(saved: Bundle, folder: Path, quantization: str | None = None) -> Path:
    """Write a saved Transformer for ``ctranslate2.Translator(folder)``, with the tokenizer's model beside it;
    `quantization` (int8, int16, float16 …) is CTranslate2's. Gives `folder`.

    Raises UsageError for a model that CTranslate2 has no place for, and without the library.
    """
    try:
        import ctranslate2.specs as specs  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UsageError("writing for CTranslate2 needs its library: install the extra `ctranslate2`") from error
    model, tokenizer = saved.build_model(), saved.tokenizer
    if not isinstance(model, Transformer) or not isinstance(tokenizer, SentencePieceTokenizer):
        kinds = f"{type(model).__name__} with {type(tokenizer).__name__}"
        raise UsageError(f"{saved.path}: is a {kinds}; a Transformer with a SentencePiece tokenizer can be written")
    config = model.config
    function = GATED.get(config.activation, config.activation)
    activations = {"relu": specs.Activation.RELU, "gelu": specs.Activation.GELU, "silu": specs.Activation.SWISH}
    if function not in activations or config.positions == "relative":
        raise UsageError(f"{saved.path}: {config.activation} and {config.positions} positions have no form there")
    for name, expected in {"embedding_norm": False, "attention_scale": 0, "head_width": 0, "output_scale": 1}.items():
        if getattr(config, name) != expected:
            raise UsageError(f"{saved.path}: a Transformer with {name} {getattr(config, name)} has no form there")
    options: dict[str, Any] = {
        "pre_norm": config.norm == "pre",
        "activation": activations[function],
        "ffn_glu": config.activation in GATED,
        "rms_norm": config.norm_kind == "rms",
        "num_heads_kv": config.kv_heads or None,
    }
    if config.positions == "rotary":
        options |= {"rotary_dim": 0, "rotary_interleave": False}  # 0: all of a head
    spec = specs.TransformerSpec(
        specs.TransformerEncoderSpec(config.encoder_layers, config.heads, **options),
        specs.TransformerDecoderSpec(config.decoder_layers, config.heads, **options),
    )
    _stack(spec.encoder, model, "source", model.encoder, model.encoder_norm)
    _stack(spec.decoder, model, "target", model.decoder, model.decoder_norm)
    spec.decoder.projection.weight = model.output_weight.numpy()
    if model.output_bias is not None:
        spec.decoder.projection.bias = model.output_bias.numpy()
    pieces = [tokenizer.piece(token) for token in range(tokenizer.vocab_size)]
    spec.register_source_vocabulary(pieces)
    spec.register_target_vocabulary(pieces)
    spec.config.layer_norm_epsilon = config.norm_eps
    spec.config.add_source_eos = True
    ids = ("unk", tokenizer.unk_id), ("bos", saved.spec.bos_id), ("eos", saved.spec.eos_id)
    for name, token in ids:
        setattr(spec.config, f"{name}_token", pieces[token])
    spec.config.decoder_start_token = pieces[saved.spec.bos_id]
    spec.validate()
    spec.optimize(quantization)
    with atomic_folder(folder) as aside:
        spec.save(str(aside))
        (aside / MODEL_FILE).write_bytes(tokenizer.model)
    return folder


def _stack(spec: Any, model: Any, side: str, layers: Any, norm: Any) -> None:
    """Embedding, positions and layers of the encoder or decoder."""
    embedding = getattr(model, f"{side}_embedding")
    place = spec.embeddings[0] if isinstance(spec.embeddings, list) else spec.embeddings
    place.weight = embedding.weight.numpy()
    spec.scale_embeddings = np.dtype("float32").type(embedding.scale)
    positions = getattr(model, f"{side}_positions")
    if hasattr(spec, "position_encodings"):
        none = np.zeros((model.config.max_length, embedding.weight.shape[1]), np.float32)
        spec.position_encodings.encodings = none if positions is None else positions.rows(np.float32).numpy()
    if norm is not None:
        _norm(spec.layer_norm, norm)
    for to, layer in zip(spec.layer, layers, strict=True):
        attention = layer.attention
        _linear(to.self_attention.linear[0], attention.q_proj, attention.k_proj, attention.v_proj)
        _linear(to.self_attention.linear[1], attention.out_proj)
        _norm(to.self_attention.layer_norm, layer.attention_norm)
        if side == "target":
            attention = layer.cross_attention
            _linear(to.attention.linear[0], attention.q_proj)
            _linear(to.attention.linear[1], attention.k_proj, attention.v_proj)
            _linear(to.attention.linear[2], attention.out_proj)
            _norm(to.attention.layer_norm, layer.cross_attention_norm)
        inner, gate = layer.feed_forward.in_proj, layer.feed_forward.gate_proj
        _linear(to.ffn.linear_0, gate or inner)
        if gate is not None:
            _linear(to.ffn.linear_0_noact, inner)
        _linear(to.ffn.linear_1, layer.feed_forward.out_proj)
        _norm(to.ffn.layer_norm, layer.feed_forward_norm)


def _linear(spec: Any, *layers: Any) -> None:
    spec.weight = np.concatenate([layer.weight.numpy() for layer in layers])
    if layers[0].bias is not None:
        spec.bias = np.concatenate([layer.bias.numpy() for layer in layers])


def _norm(spec: Any, norm: Any) -> None:
    spec.gamma = norm.weight.numpy()
    if hasattr(norm, "bias"):
        spec.beta = norm.bias.numpy()
