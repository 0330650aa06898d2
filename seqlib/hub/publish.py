"""A model trained here as a folder that transformers loads, with a model card. A translation model becomes one of
Pegasus' architecture where norms come before their blocks, of Marian's where they come after."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np

from seqlib.bundle import Bundle
from seqlib.core.meta import meta
from seqlib.data.tokenizer import SentencePieceTokenizer
from seqlib.hub.save import save_pretrained
from seqlib.models.transformer import Transformer
from seqlib.util.atomic import write_bytes, write_json
from seqlib.util.errors import UsageError


def to_transformers(saved: Bundle, folder: Path) -> Path:
    """Write what was fine-tuned from a pretrained model in its format, or a saved Transformer with its SentencePiece
    tokenizer for ``AutoModelForSeq2SeqLM`` and ``AutoTokenizer``, which reads text in NFC as ours does; and a model
    card with scores, data and digests. Gives `folder`.

    What those architectures have and a Transformer lacks (biases) is 0; sinusoids become a table. Their norms have eps
    1e-5 where ours was trained with 1e-6. Raises UsageError for a model or a tokenizer that has no form there.
    """
    model, tokenizer = saved.build_model(), saved.tokenizer
    if getattr(model, "family", "") and tokenizer.kind == "pretrained":
        return save_pretrained(SimpleNamespace(model=model, tokenizer=tokenizer), folder, saved.record)
    if not isinstance(model, Transformer) or not isinstance(tokenizer, SentencePieceTokenizer):
        kinds = f"{type(model).__name__} with {type(tokenizer).__name__}"
        raise UsageError(f"{saved.path}: is a {kinds}; a Transformer with a SentencePiece tokenizer can be published")
    one = model.source_embedding.weight
    if model.target_embedding.weight is not one or model.output_weight is not one or model.source_positions is None:
        raise UsageError(
            f"{saved.path}: needs embeddings and output weights that are one matrix, and positions that are added, not "
            f"{model.config.positions} positions; CTranslate2 takes such models"
        )
    ready = SimpleNamespace(model=_completed(model), tokenizer=_Files(tokenizer, saved))
    return save_pretrained(ready, folder, saved.record)


def _completed(model: Transformer) -> Transformer:
    """The same model with every parameter that Hugging Face's has."""
    config = msgspec.structs.replace(model.config, norm_eps=1e-5, attention_bias=True, output_bias=True)
    if config.norm == "pre":
        config = msgspec.structs.replace(config, positions="learned")
    with meta():
        full = Transformer(config, model.spec)
    weights: dict[str, np.ndarray] = model.state_dict(copy=False)
    for side in ("source", "target"):
        positions: Any = getattr(model, f"{side}_positions")
        weights[f"{side}_positions.weight"] = positions.rows(np.float32).numpy()
    wanted = full.named_parameters()
    for name, parameter in wanted.items():
        weights.setdefault(name, np.zeros(parameter.shape, np.float32))
    full.load({name: weights[name] for name in wanted})
    full.family = "marian"
    return full


class _Files:
    """The tokenizer as Marian's, which takes ids from a table of SentencePiece's pieces."""

    def __init__(self, tokenizer: SentencePieceTokenizer, saved: Bundle):
        self.tokenizer, self.saved = tokenizer, saved

    def save(self, folder: Path) -> None:
        for name in ("source.spm", "target.spm"):
            write_bytes(folder / name, self.tokenizer.model)
        pieces = {self.tokenizer.piece(token): token for token in range(self.tokenizer.vocab_size)}
        write_json(folder / "vocab.json", pieces)
        named = {name: self.tokenizer.piece(getattr(self.tokenizer, f"{name[:3]}_id")) for name in _TOKENS}
        spec, model_max = self.saved.spec, getattr(self.saved.model_config, "max_length", 512)
        languages = {"source_lang": spec.source_language, "target_lang": spec.target_language}
        settings = {"tokenizer_class": "MarianTokenizer", "model_max_length": model_max, "separate_vocabs": False}
        write_json(folder / "tokenizer_config.json", settings | languages | named)
        ids = {"decoder_start_token_id": spec.bos_id, "eos_token_id": spec.eos_id, "pad_token_id": spec.pad_id}
        beams = {name: self.saved.generation[name] for name in ("num_beams",) if name in self.saved.generation}
        write_json(folder / "generation_config.json", ids | beams | {"max_length": model_max})


_TOKENS = ("pad_token", "eos_token", "unk_token")
