"""The peers of cpu.py beside C1's, which is torch_translation.py: PyTorch, transformers and CTranslate2 on the CPU.

C2 an LSTM language model's train step, C3 encoding with a BERT of MiniLM's size, C4 translating with Marian's, C5
continuing one text with GPT-2's. Random weights.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any

import serve

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
import torch.nn.functional as F
from torch import nn


def half(on: bool) -> Any:
    """Products in bfloat16, as PyTorch does them."""
    return torch.autocast("cpu", torch.bfloat16, enabled=on)


class Words(nn.Module):
    """C2's model."""

    def __init__(self, vocab: int, width: int):
        super().__init__()
        self.embedding = nn.Embedding(vocab, width)
        self.layers, self.output = nn.LSTM(width, width, 2, dropout=0.5), nn.Linear(width, vocab)

    def forward(self, tokens: Any, following: Any) -> Any:
        """int64 ids [T,B], those that follow → loss."""
        hidden, _ = self.layers(F.dropout(self.embedding(tokens), 0.5))
        return F.cross_entropy(self.output(F.dropout(hidden, 0.5)).flatten(0, 1), following.flatten())


def words(o: argparse.Namespace, compiled: bool, bf16: bool) -> serve.Run:
    tokens, following = (torch.randint(0, o.words, (35, 20)) for _ in range(2))
    model = Words(o.words, o.word_width).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    forward = torch.compile(model) if compiled else model

    def step() -> float:
        with half(bf16):
            loss = forward(tokens, following)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    return step


def encode(o: argparse.Namespace, compiled: bool, bf16: bool) -> serve.Run:
    from transformers import BertConfig, BertModel

    d = o.encoder_width
    config = BertConfig(hidden_size=d, num_hidden_layers=6, num_attention_heads=12, intermediate_size=4 * d)
    model, tokens = BertModel(config).eval(), torch.randint(5, 30000, (32, 128))
    forward = torch.compile(model) if compiled else model

    def run() -> float:
        with torch.inference_mode(), half(bf16):
            return float(forward(input_ids=tokens).last_hidden_state[0, 0, 0])

    return run


def marian(o: argparse.Namespace) -> Any:
    from transformers import MarianConfig, MarianMTModel

    v, d = o.vocab, o.width
    return MarianMTModel(
        MarianConfig(
            vocab_size=v, decoder_vocab_size=v, d_model=d, encoder_layers=6, decoder_layers=6,
            encoder_attention_heads=8, decoder_attention_heads=8, encoder_ffn_dim=4 * d, decoder_ffn_dim=4 * d,
            max_position_embeddings=512, pad_token_id=v - 1, eos_token_id=0, decoder_start_token_id=v - 1,
            forced_eos_token_id=None, activation_function="swish", scale_embedding=True,
        )
    ).eval()  # fmt: skip


def translate_hf(o: argparse.Namespace, beams: int) -> serve.Run:
    model, source = marian(o), torch.randint(1, o.vocab - 1, (o.rows, 20))

    def run() -> float:
        with torch.inference_mode():
            made = {"min_new_tokens": 32, "max_new_tokens": 32, "do_sample": False}
            return float(model.generate(input_ids=source, num_beams=beams, **made).numel())

    return run


def translate_ct2(o: argparse.Namespace, beams: int, kind: str) -> serve.Run:
    import ctranslate2
    from ctranslate2.converters.transformers import MarianMTLoader

    spec = MarianMTLoader().get_model_spec(marian(o))
    names = [f"t{i}" for i in range(o.vocab - 1)]
    spec.register_source_vocabulary(names)
    spec.register_target_vocabulary(names)
    for token in ("decoder_start_token", "eos_token", "bos_token"):
        setattr(spec.config, token, "t0")
    spec.config.unk_token = "t1"
    spec.validate()
    spec.optimize(quantization=None)
    with tempfile.TemporaryDirectory() as folder:
        spec.save(folder)
        translator = ctranslate2.Translator(folder, compute_type=kind, intra_threads=o.threads)
    source = [[f"t{i}" for i in row] for row in torch.randint(1, o.vocab - 1, (o.rows, 20)).tolist()]

    def run() -> float:
        options = {"beam_size": beams, "min_decoding_length": 32, "max_decoding_length": 32}
        return float(len(translator.translate_batch(source, **options)))

    return run


def generate(o: argparse.Namespace, bf16: bool) -> serve.Run:
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(n_layer=o.text_layers)).eval()
    model = model.bfloat16() if bf16 else model
    prompt = torch.randint(0, 50000, (1, 32))

    def run() -> float:
        with torch.inference_mode():
            made = {"min_new_tokens": 64, "max_new_tokens": 64, "do_sample": False, "pad_token_id": 0}
            return float(model.generate(input_ids=prompt, **made).numel())

    return run


def warmed(make: Callable[[], serve.Run]) -> serve.Run:
    """A run that has run twice."""
    torch.manual_seed(0)
    run = make()
    run()
    run()
    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("threads", "words", "word_width", "encoder_width", "vocab", "width", "rows", "text_layers"):
        parser.add_argument(f"--{name}", type=int, required=True)
    o = parser.parse_args()
    torch.set_num_threads(o.threads)
    halves = (False, True) if torch.cpu._is_avx512_bf16_supported() else (False,)
    cases: dict[str, Callable[[], serve.Run]] = {}
    for bf16 in halves:
        kind = "bf16" if bf16 else "fp32"
        for compiled in (False, True):
            how = "compiled" if compiled else "eager"
            cases[f"c2 torch {how} {kind}"] = partial(words, o, compiled, bf16)
            cases[f"c3 torch {how} {kind}"] = partial(encode, o, compiled, bf16)
        cases[f"c5 transformers {kind}"] = partial(generate, o, bf16)
    for beams, workload in ((1, "c4"), (4, "c4-beam4")):
        cases[f"{workload} transformers fp32"] = partial(translate_hf, o, beams)
        for kind in ("float32", "int8"):
            cases[f"{workload} ctranslate2 {kind}"] = partial(translate_ct2, o, beams, kind)
    about = f"PyTorch {torch.__version__}"
    serve.serve(about, {name: partial(warmed, make) for name, make in cases.items()})


if __name__ == "__main__":
    main()
