"""Small models of every kind, each with a batch: for tests that all models must pass."""

from collections.abc import Callable
from typing import Any

import numpy as np

from seqlib.core.rng import Generator, use_generator
from seqlib.data.batch import Batch, PackedBatch, TextBatch
from seqlib.data.labelled import LabelledBatch
from seqlib.models import (
    bag_ngrams,
    bert,
    gpt2,
    llama,
    lstm_classifier,
    lstm_lm,
    lstm_seq2seq,
    text_cnn,
    transformer,
    transformer_encoder,
)
from seqlib.problems.spec import Labels, ProblemSpec

V = 61
SPEC = ProblemSpec(source_vocab=V, target_vocab=V)
LABELS = ProblemSpec(source_vocab=V, target_vocab=3, labels=Labels(names=("a", "b", "c")))
LENGTHS = np.array([13, 5, 2, 9], np.int32)
ODD: dict[str, Any] = {"d_model": 48, "d_ff": 72, "heads": 3}
LAYERS: dict[str, Any] = ODD | {"encoder_layers": 2, "decoder_layers": 2}


def _ids(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(4, V, shape).astype(np.int32)


def _padded() -> Batch:
    targets, lengths = _ids(4, 11, seed=2), np.minimum(LENGTHS, 11)
    return Batch(
        _ids(4, 13), LENGTHS, _ids(4, 11, seed=1), np.where(np.arange(11) < lengths[:, None], targets, -1), lengths
    )


def _packed() -> PackedBatch:
    def side(room: int, lengths: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        places = np.concatenate([*map(np.arange, lengths), np.zeros(room - sum(lengths))]).astype(np.int32)
        return places, np.array([0, *np.cumsum(lengths)], np.int32)

    places, offsets = side(32, (13, 5, 9))
    target_places, target_offsets = side(32, (11, 7, 12))
    out = np.where(np.arange(32) < 30, _ids(32, seed=2), -1).astype(np.int32)
    return PackedBatch(_ids(32), places, offsets, _ids(32, seed=1), out, target_places, target_offsets)


def _text() -> TextBatch:
    return TextBatch(_ids(3, 19), _ids(3, 19, seed=1))


def _labelled() -> LabelledBatch:
    return LabelledBatch(_ids(4, 13), LENGTHS, None, np.array([0, 2, 1, 2], np.int32), np.ones(4, np.float32))


def _translator(**config: Any) -> Callable[[], Any]:
    return lambda: transformer.build(transformer.TransformerConfig(**(LAYERS | config)), SPEC, Generator(1))


def _recurrent(**config: Any) -> Callable[[], Any]:
    sizes: dict[str, Any] = {"d_model": 24, "hidden": 40} | config
    return lambda: lstm_seq2seq.build(lstm_seq2seq.LSTMSeq2SeqConfig(**sizes), SPEC, Generator(1))


def _llama(**config: Any) -> Callable[[], Any]:
    def make() -> Any:
        with use_generator(Generator(1)):
            return llama.Llama(llama.LlamaConfig(**(ODD | {"layers": 2} | config)), V)

    return make


_T5: dict[str, Any] = {
    "norm_kind": "rms", "positions": "relative", "activation": "geglu_tanh", "attention_scale": 1.0, "ff_bias": False,
    "embedding_scale": False,
}  # fmt: skip
_MARIAN: dict[str, Any] = {
    "norm": "post", "positions": "sinusoidal_paper", "activation": "silu", "attention_bias": True, "output_bias": True,
}  # fmt: skip
_BART: dict[str, Any] = _MARIAN | {"positions": "learned", "position_offset": 2, "embedding_norm": True}
_GEMMA: dict[str, Any] = {
    "window": 5, "windowed": (True, False), "local_base": 1e4, "activation": "geglu_tanh", "qk_norm": True,
    "norm_after": True, "embedding_scale": True, "kv_heads": 1,
}  # fmt: skip
_QWEN: dict[str, Any] = {"attention_bias": True, "kv_heads": 1, "tied": False}
_LLAMA3: dict[str, Any] = {"kv_heads": 1, "rope_scaling": (8.0, 1.0, 4.0, 8.0)}
_BERT: dict[str, Any] = ODD | {"vocab": V, "layers": 2, "max_length": 16}

ZOO: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "transformer": (_translator(), _padded),
    "transformer, packed": (_translator(positions="rotary", kv_heads=1), _packed),
    "marian": (_translator(**_MARIAN), _padded),
    "bart": (_translator(**_BART), _padded),
    "t5": (_translator(**_T5), _padded),
    "lstm_seq2seq, luong": (_recurrent(attention="luong"), _padded),
    "lstm_seq2seq, bahdanau": (_recurrent(attention="bahdanau", input_feeding=True), _padded),
    "gpt2": (lambda: gpt2.GPT2(gpt2.GPT2Config(vocab=V, layers=2, d_model=48, heads=3), Generator(1)), _text),
    "llama": (_llama(**_LLAMA3), _text),
    "qwen": (_llama(**_QWEN), _text),
    "gemma": (_llama(**_GEMMA), _text),
    "lstm_lm": (lambda: lstm_lm.LSTMLM(lstm_lm.LSTMLMConfig(vocab=V, d_model=24, hidden=40), Generator(1)), _text),
    "bert": (lambda: bert.build(bert.BertConfig(**_BERT), LABELS, Generator(1)), _labelled),
    "transformer_encoder": (
        lambda: transformer_encoder.build(
            transformer_encoder.TransformerEncoderConfig(d_model=48, d_ff=72, heads=3), LABELS, Generator(1)
        ),
        _labelled,
    ),
    "lstm_classifier": (
        lambda: lstm_classifier.build(
            lstm_classifier.LSTMClassifierConfig(d_model=24, hidden=20), LABELS, Generator(1)
        ),
        _labelled,
    ),
    "text_cnn": (lambda: text_cnn.build(text_cnn.TextCNNConfig(d_model=24, maps=10), LABELS, Generator(1)), _labelled),
    "bag_ngrams": (
        lambda: bag_ngrams.build(bag_ngrams.BagNgramsConfig(d_model=24, buckets=50), LABELS, Generator(1)),
        _labelled,
    ),
}
"""Name → (what makes the model, what makes a batch for its `loss`)."""
