"""Make tiny checkpoints with transformers 5.24.0 and PyTorch 2.13.0, and what transformers computes of them; the tests
themselves do without both.

    python3 -m venv /tmp/peer && /tmp/peer/bin/pip install torch==2.13.0 transformers==5.24.0 sentencepiece
    /tmp/peer/bin/python tests/parity/make_checkpoints.py [NAME …]

`checkpoints/NAME.npz` has `config` (config.json as text), the weights as `w/…` in float16 (the model computed in
float32 with just these values), inputs as `in/…` and answers as `out/…`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as hf
from safetensors.torch import load_file

CHECKPOINTS = Path(__file__).parent / "checkpoints"
CASES: dict[str, Callable[[], tuple[Any, dict[str, Any], dict[str, Any]]]] = {}
LENGTHS = (9, 6)


def case(make: Callable[[], Any]) -> Callable[[], Any]:
    CASES[make.__name__] = make
    return make


def drawn(model: Any, std: float = 0.25, wide: float = 1.0) -> Any:
    """The model with random values for all parameters, biases and gains included, all of them float16 numbers; those of
    layers `wide` times as wide as those of embeddings."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "Sinusoidal" in type(model.get_submodule(name.rpartition(".")[0])).__name__:
                continue
            gain = 1.0 if parameter.ndim == 1 and "norm" in name.lower() and name.endswith("weight") else 0.0
            inside = wide if parameter.ndim > 1 and ("layers" in name or "block" in name or ".h." in name) else 1.0
            parameter.copy_((gain + inside * std * torch.randn(parameter.shape)).half().float())
    return model.eval()


def tokens(vocab: int, first: int = 5) -> torch.Tensor:
    return torch.randint(first, vocab, (len(LENGTHS), max(LENGTHS)))


def mask() -> torch.Tensor:
    return (torch.arange(max(LENGTHS))[None] < torch.tensor(LENGTHS)[:, None]).long()


# -- encoders --------------------------------------------------------------------------------------

BERT = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24}


def encoder(model: Any, types: bool = False) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    ids = tokens(40)
    ids[1, LENGTHS[1] :] = model.config.pad_token_id
    given = {"input_ids": ids, "attention_mask": mask()}
    if types:
        given["token_type_ids"] = torch.randint(0, 2, ids.shape)
    with torch.no_grad():
        found = drawn(model)(**given)
    keys = ("last_hidden_state", "pooler_output", "logits")
    return model, given, {key: found[key] for key in keys if found.get(key) is not None}


@case
def bert() -> Any:
    return encoder(hf.BertModel(hf.BertConfig(**BERT, max_position_embeddings=12)), types=True)


@case
def bert_masked() -> Any:
    return encoder(hf.BertForMaskedLM(hf.BertConfig(**BERT, max_position_embeddings=12)), types=True)


@case
def bert_classifier() -> Any:
    config = hf.BertConfig(**BERT, max_position_embeddings=12, num_labels=3, hidden_act="relu")
    return encoder(hf.BertForSequenceClassification(config), types=True)


@case
def roberta_masked() -> Any:
    return encoder(hf.RobertaForMaskedLM(hf.RobertaConfig(**BERT, max_position_embeddings=14, type_vocab_size=1)))


@case
def roberta_classifier() -> Any:
    config = hf.RobertaConfig(**BERT, max_position_embeddings=14, type_vocab_size=1, num_labels=3)
    return encoder(hf.RobertaForSequenceClassification(config))


DISTIL = {"vocab_size": 40, "dim": 16, "n_layers": 2, "n_heads": 4, "hidden_dim": 24, "max_position_embeddings": 12}


@case
def distilbert_masked() -> Any:
    return encoder(hf.DistilBertForMaskedLM(hf.DistilBertConfig(**DISTIL)))


@case
def distilbert_classifier() -> Any:
    return encoder(hf.DistilBertForSequenceClassification(hf.DistilBertConfig(**DISTIL, num_labels=3)))


# -- encoder–decoders ------------------------------------------------------------------------------

BART = {"vocab_size": 40, "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4}
BART |= {"decoder_attention_heads": 4, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "max_position_embeddings": 40}


def translator(model: Any, std: float = 0.25) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Of some draws the one whose outputs vary most, end by themselves (what is cut at the limit ranks behind them in
    seqlib, and not in transformers), and are others with beams. Searching until no better one can come: "never"."""
    found: list[Any] = []
    for seed in range(40):
        torch.manual_seed(seed)
        one = translated(model, std)
        greedy, best = (one[2][f"beam{beams}"].tolist() for beams in (1, 4))
        ended = sum(model.config.eos_token_id in row[1:] for row in best)
        variety = sum(len(set(row)) for row in best) + 40 * ended + 6 * (best != greedy)
        found.append((variety, {key: value.clone() for key, value in model.state_dict().items()}, *one[1:]))
    variety, weights, given, answers = max(found, key=lambda one: one[0])
    model.load_state_dict(weights)
    return model, given, answers


def translated(model: Any, std: float) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    ids, target = tokens(40), tokens(40)[:, :7]
    for row, length in enumerate(LENGTHS):
        ids[row, length - 1] = model.config.eos_token_id
        ids[row, length:] = model.config.pad_token_id
    target[:, 0] = model.config.decoder_start_token_id
    given = {"input_ids": ids, "attention_mask": mask()}
    drawn(model, std, wide=3.0)
    with torch.no_grad():
        model.get_input_embeddings().weight[model.config.eos_token_id] *= 2.0
    if "final_logits_bias" in dict(model.named_buffers()):
        model.final_logits_bias.copy_(torch.randn(model.final_logits_bias.shape).half().float())
        model.final_logits_bias[0, model.config.eos_token_id] = 2.0
    with torch.no_grad():
        answers = {"logits": model(**given, decoder_input_ids=target).logits}
        for beams in (1, 4):
            model.generation_config.max_length = None
            found = model.generate(
                **given,
                num_beams=beams,
                do_sample=False,
                max_new_tokens=16,
                length_penalty=1.0,
                early_stopping="never",
                forced_eos_token_id=None,
                forced_bos_token_id=None,
                output_scores=True,
                return_dict_in_generate=True,
            )
            answers[f"beam{beams}"] = found.sequences
            if beams > 1:
                answers[f"scores{beams}"] = found.sequences_scores
    return model, given | {"decoder_input_ids": target}, answers


@case
def marian() -> Any:
    config = hf.MarianConfig(
        **BART,
        activation_function="swish",
        scale_embedding=True,
        pad_token_id=39,
        eos_token_id=0,
        decoder_start_token_id=39,
    )
    return translator(hf.MarianMTModel(config))


@case
def bart() -> Any:
    return translator(hf.BartForConditionalGeneration(hf.BartConfig(**BART)))


T5 = {
    "vocab_size": 40,
    "d_model": 16,
    "d_kv": 6,
    "d_ff": 24,
    "num_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 0,
}


@case
def t5() -> Any:
    return translator(hf.T5ForConditionalGeneration(hf.T5Config(**T5)))


@case
def t5_v1_1() -> Any:
    config = hf.T5Config(**T5, feed_forward_proj="gated-gelu", tie_word_embeddings=False, num_decoder_layers=1)
    model = hf.T5ForConditionalGeneration(config)
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())
    return translator(model)


# -- decoders --------------------------------------------------------------------------------------


def language_model(model: Any) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Of some draws the one whose outputs vary most, end by themselves, and are others with beams."""
    found: list[Any] = []
    options = {"do_sample": False, "max_new_tokens": 24, "eos_token_id": 2, "pad_token_id": 0, "length_penalty": 0.0}
    for seed in range(16):
        torch.manual_seed(seed)
        drawn(model, 0.25, wide=2.0)
        with torch.no_grad():
            model.get_output_embeddings().weight[2] *= 2
        given = {"input_ids": torch.randint(3, 40, (2, 9))}
        with torch.no_grad():
            answers = {"logits": model(**given).logits}
            for beams in (1, 3):
                early = {"early_stopping": "never"} if beams > 1 else {}
                answers[f"beam{beams}"] = model.generate(**given, num_beams=beams, **options, **early)[:, 9:]
        greedy, best = (answers[f"beam{beams}"].tolist() for beams in (1, 3))
        ended = sum(2 in row for row in best)
        variety = sum(len(set(row)) for row in best + greedy) + 6 * (best != greedy) + 40 * ended
        weights = {key: value.clone() for key, value in model.state_dict().items()}
        found.append((variety, weights, given, answers))
    _, weights, given, answers = max(found, key=lambda one: one[0])
    model.load_state_dict(weights)
    return model, given, answers


@case
def gpt2() -> Any:
    config = hf.GPT2Config(
        vocab_size=40, n_positions=32, n_embd=16, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=2
    )
    return language_model(hf.GPT2LMHeadModel(config))


LLAMA = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24}
LLAMA |= {
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


@case
def llama() -> Any:
    scaling = {
        "rope_type": "llama3",
        "rope_theta": 500.0,
        "factor": 4.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
    }
    scaling["original_max_position_embeddings"] = 16
    return language_model(hf.LlamaForCausalLM(hf.LlamaConfig(**LLAMA, rope_parameters=scaling)))


@case
def mistral() -> Any:
    return language_model(hf.MistralForCausalLM(hf.MistralConfig(**LLAMA, sliding_window=5, head_dim=6)))


@case
def qwen2() -> Any:
    config = hf.Qwen2Config(
        **LLAMA, tie_word_embeddings=True, use_sliding_window=True, sliding_window=5, max_window_layers=1
    )
    return language_model(hf.Qwen2ForCausalLM(config))


@case
def qwen3() -> Any:
    return language_model(hf.Qwen3ForCausalLM(hf.Qwen3Config(**LLAMA, head_dim=6)))


@case
def gemma3() -> Any:
    scaling = {"full_attention": {"rope_type": "linear", "rope_theta": 1000.0, "factor": 2.0}}
    scaling["sliding_attention"] = {"rope_type": "default", "rope_theta": 100.0}
    kinds = ["sliding_attention", "full_attention"]
    config = hf.Gemma3TextConfig(
        **LLAMA, head_dim=6, sliding_window=5, query_pre_attn_scalar=9, layer_types=kinds, rope_parameters=scaling
    )
    return language_model(hf.Gemma3ForCausalLM(config))


# -- writing ---------------------------------------------------------------------------------------


def write(name: str) -> None:
    torch.manual_seed(sum(name.encode()))
    model, given, answers = CASES[name]()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        config = json.loads((Path(folder) / "config.json").read_text())
        weights = load_file(Path(folder) / "model.safetensors")
    found: dict[str, Any] = {"config": np.array(json.dumps(config))}
    for key, value in weights.items():
        assert torch.equal(value.half().float(), value.float()), key
        found[f"w/{key}"] = value.half().numpy() if value.is_floating_point() else value.numpy()
    found |= {f"in/{key}": np.asarray(value) for key, value in given.items()}
    found |= {f"out/{key}": np.asarray(value) for key, value in answers.items()}
    np.savez_compressed(CHECKPOINTS / f"{name}.npz", **found)
    print(f"{name}: {(CHECKPOINTS / f'{name}.npz').stat().st_size:,} bytes, {len(weights)} tensors")


if __name__ == "__main__":
    CHECKPOINTS.mkdir(exist_ok=True)
    for name in sys.argv[1:] or CASES:
        write(name)
