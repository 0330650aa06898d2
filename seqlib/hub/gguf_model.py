"""Language models in GGUF files (llama.cpp) in Hugging Face's terms: config.json, its names of tensors, a tokenizer."""

import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from seqlib.data.pretrained import PretrainedTokenizer, SentencePieceFile
from seqlib.hub.formats.checkpoint import Checkpoint, Entry
from seqlib.models.names import read_table
from seqlib.util.atomic import write_bytes
from seqlib.util.errors import DataError, UsageError


def _pairs(table: str) -> dict[str, str]:
    return dict(line.split() for line in read_table(table).splitlines())


_SIZES = _pairs("gguf_config")
_KINDS = {"gemma3": ("gemma3_text", "Gemma3"), "llama": ("llama", "Llama")}
_KINDS |= {kind: (kind, kind.capitalize()) for kind in ("qwen2", "qwen3")}
"""model_type and class for each architecture."""
_NAMES = _pairs("gguf")
_GEMMA = _pairs("gguf_gemma")
_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SPLITS = {"default": "", "gpt-2": "", "llama-bpe": _WORDS % "{1,3}", "qwen2": _WORDS % ""}
"""How byte-level BPE cuts a text into words first, by what GGUF calls it; "": as GPT-2."""
_NORMAL, _UNKNOWN, _CONTROL, _DEFINED = 1, 2, 3, 4
"""Kinds of tokens; they have SentencePiece's numbers."""


def is_gguf(path: Path) -> bool:
    """Whether a file, or the weights in a folder, are GGUF."""
    return path.suffix == ".gguf" or (path.is_dir() and any(path.glob("*.gguf")))


def config(checkpoint: Checkpoint) -> dict[str, Any]:
    """The config.json for a file's keys. Raises UsageError for an architecture that is not known, DataError for a file
    that lacks a size."""
    keys, kind = checkpoint.metadata, checkpoint.metadata.get("general.architecture")
    if kind not in _KINDS:
        raise UsageError(f"{checkpoint.path}: the architecture {kind!r} is not one of {', '.join(_KINDS)}")
    found = {theirs: keys[f"{kind}.{ours}"] for theirs, ours in _SIZES.items() if f"{kind}.{ours}" in keys}
    missing = [
        _SIZES[name] for name in ("hidden_size", "num_hidden_layers", "num_attention_heads") if name not in found
    ]
    if missing or "token_embd.weight" not in checkpoint:
        raise DataError(f"{checkpoint.path}: has no {', '.join(missing) or 'token_embd.weight'}")
    model_type, name = _KINDS[kind]
    found |= {"model_type": model_type, "architectures": [f"{name}ForCausalLM"]}
    found |= {"vocab_size": checkpoint.shapes["token_embd.weight"][0]}
    found |= {"tie_word_embeddings": "output.weight" not in checkpoint}
    found |= {"attention_bias": "blk.0.attn_q.bias" in checkpoint}
    for key in ("bos", "eos", "pad"):
        found[f"{key}_token_id"] = keys.get(f"tokenizer.ggml.{'padding' if key == 'pad' else key}_token_id")
    if "tokenizer.ggml.eot_token_id" in keys:
        found["eos_token_id"] = [found["eos_token_id"], keys["tokenizer.ggml.eot_token_id"]]
    scaling = keys.get(f"{kind}.rope.scaling.type", "none")
    if scaling != "none":
        found["rope_scaling"] = {"rope_type": scaling, "factor": keys.get(f"{kind}.rope.scaling.factor", 1.0)}
    if "rope_freqs.weight" in checkpoint:
        found["rope_scaling"] = _llama3(checkpoint, found)
    if kind == "gemma3":
        # The largest one's scores are scaled by the width over the heads.
        deep = found["num_hidden_layers"] == 62
        width = found["hidden_size"] // found["num_attention_heads"] if deep else found["head_dim"]
        found["query_pre_attn_scalar"] = width
    return found


def _llama3(checkpoint: Checkpoint, found: dict[str, Any]) -> dict[str, Any]:
    """Llama 3.1's scaling, of which the file has the divisors of every frequency. Raises UsageError for another."""
    divisors = checkpoint["rope_freqs.weight"]
    low, high, length = _LLAMA3.values()
    waves = 2 * np.pi * found["rope_theta"] ** (np.arange(len(divisors)) / len(divisors))
    smooth = np.clip((length / waves - low) / (high - low), 0, 1)
    factor = float(divisors.max())
    if not np.allclose(1 / ((1 - smooth) / factor + smooth), divisors, rtol=1e-3):
        raise UsageError(f"{checkpoint.path}: its positions are scaled in a way that is not known (rope_freqs)")
    return {"rope_type": "llama3", "factor": factor, **_LLAMA3}


def tensors(checkpoint: Checkpoint) -> Checkpoint:
    """The same arrays by Hugging Face's names and in its order of rows; each is read when it is asked for."""
    kind = checkpoint.metadata["general.architecture"]
    names = _NAMES | (_GEMMA if kind == "gemma3" else {})
    heads = {
        "attn_q": checkpoint.metadata[f"{kind}.attention.head_count"],
        "attn_k": checkpoint.metadata.get(f"{kind}.attention.head_count_kv"),
    }
    entries: dict[str, Entry] = {}
    for name, entry in checkpoint.entries.items():
        block, part, last = re.fullmatch(r"(?:blk\.(\d+)\.)?(.*)\.(\w+)", name).groups()  # type: ignore[union-attr]
        theirs = f"model.{'' if block is None else f'layers.{block}.'}{names.get(part, part)}.{last}"
        read = entry.read
        if kind == "gemma3" and part.endswith("norm"):
            read = lambda read=read: read() - 1  # noqa: E731
        elif kind == "llama" and part in heads:
            read = lambda read=read, count=heads[part]: _halves(read(), count)  # noqa: E731
        if name != "rope_freqs.weight":
            entries["lm_head.weight" if name == "output.weight" else theirs] = Entry(entry.shape, entry.dtype, read)
    return Checkpoint(checkpoint.path, "gguf", entries, checkpoint.metadata)


def _halves(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rows of queries or keys whose pairs lie side by side, with the pairs' second halves behind the first."""
    return rows.reshape(heads, -1, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def tokenizer(checkpoint: Checkpoint) -> PretrainedTokenizer | SentencePieceFile:
    """The tokenizer in a file's keys. Raises UsageError for a kind that is not known, DataError for a damaged one."""
    keys = {name[15:]: v for name, v in checkpoint.metadata.items() if name.startswith("tokenizer.ggml.")}
    tokens, kind = keys.get("tokens"), keys.get("model")
    if not tokens or len(keys.get("token_type", ())) != len(tokens):
        raise DataError(f"{checkpoint.path}: has no tokens, or not the kind of each")
    settings: dict[str, Any] = {"add_bos_token": bool(keys.get("add_bos_token", kind == "llama"))}
    for name, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        if 0 <= (token := keys.get(f"{key}_token_id", -1)) < len(tokens):
            settings[f"{name}_token"] = tokens[token]
    if "tokenizer.chat_template" in checkpoint.metadata:
        settings["chat_template"] = checkpoint.metadata["tokenizer.chat_template"]
    files = {"tokenizer_config.json": msgspec.json.encode(settings)}
    if kind == "llama":
        return _Pieces(files | {"tokenizer.model": _sentencepiece(keys, settings)}, keys)
    if kind != "gpt2" or keys.get("pre", "default") not in _SPLITS:
        name = kind if kind != "gpt2" else keys["pre"]
        raise UsageError(f"{checkpoint.path}: its tokenizer {name!r} is not known; put a tokenizer.json beside it")
    return PretrainedTokenizer(files | {"tokenizer.json": _byte_level(keys)}, str(checkpoint.path))


def _sentencepiece(keys: dict[str, Any], settings: dict[str, Any]) -> bytes:
    """SentencePiece's file (a protocol buffer) of a BPE model with these tokens and scores."""
    unknown = keys.get("unknown_token_id", 0)
    out: list[bytes] = []
    for number, (token, score, kind) in enumerate(zip(keys["tokens"], keys["scores"], keys["token_type"], strict=True)):
        text = token.replace(" ", "▁").encode()  # tokens that users defined have spaces
        piece = (
            b"\n"
            + _varint(len(text))
            + text
            + struct.pack("<BfBB", 21, score, 24, kind if number != unknown else _UNKNOWN)
        )
        out.append(b"\n" + _varint(len(piece)) + piece)
    named = {46: "bos", 47: "eos", 48: "pad", 45: "unk"}
    trainer = {3: 2, 35: 1} | {n: settings.get(f"{name}_token", "").encode() for n, name in named.items()}
    normalizer = {1: b"identity", 3: int(keys.get("add_space_prefix", True)), 4: 0}
    for number, fields in ((2, trainer), (3, normalizer)):
        content = b"".join(
            _varint(n << 3) + _varint(v) if isinstance(v, int) else _varint(n << 3 | 2) + _varint(len(v)) + v
            for n, v in fields.items()
        )
        out.append(_varint(number << 3 | 2) + _varint(len(content)) + content)
    return b"".join(out)


def _varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + _varint(value >> 7)


def _byte_level(keys: dict[str, Any]) -> bytes:
    """tokenizer.json of byte-level BPE."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    split, tokens = _SPLITS[keys.get("pre", "default")], keys["tokens"]
    merges = [tuple(merge.split(" ", 1)) for merge in keys.get("merges", ())]
    vocab = {token: number for number, token in enumerate(tokens)}
    made = Tokenizer(models.BPE(vocab, merges, ignore_merges=keys.get("pre") == "llama-bpe"))
    levels: list[Any] = [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not split)]
    if split:
        contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|"
        levels.insert(0, pre_tokenizers.Split(Regex(contractions + split), "isolated"))
    made.pre_tokenizer = pre_tokenizers.Sequence(levels)
    made.decoder = decoders.ByteLevel()
    if keys.get("pre") == "qwen2":
        made.normalizer = normalizers.NFC()
    for token, kind in zip(tokens, keys["token_type"], strict=True):
        if kind in (_CONTROL, _DEFINED):
            made.add_tokens([AddedToken(token, special=kind == _CONTROL, normalized=False)])
    return made.to_str().encode()


class _Pieces(SentencePieceFile):
    """SentencePiece's tokens. What is saved has a tokenizer.json, too, which is what transformers reads for Gemma."""

    def __init__(self, files: dict[str, bytes], keys: dict[str, Any]):
        super().__init__(files, "tokenizer.model")
        self.keys = keys

    def save(self, folder: str | Path) -> None:
        super().save(folder)
        write_bytes(Path(folder) / "tokenizer.json", _byte_fallback(self.keys, self.settings))


def _byte_fallback(keys: dict[str, Any], settings: Mapping[str, Any]) -> bytes:
    """tokenizer.json of SentencePiece's BPE: two tokens are joined to a third by its score."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

    tokens, kinds, space = keys["tokens"], keys["token_type"], keys.get("add_space_prefix", True)
    vocab = {token: number for number, token in enumerate(tokens)}
    joins = sorted(
        (-keys["scores"][number], vocab[token[:cut]], vocab[token[cut:]])
        for number, token in enumerate(tokens)
        if kinds[number] == _NORMAL
        for cut in range(1, len(token))
        if token[:cut] in vocab and token[cut:] in vocab
    )
    merges, unknown = [(tokens[a], tokens[b]) for _, a, b in joins], tokens[keys.get("unknown_token_id", 0)]
    made = Tokenizer(models.BPE(vocab, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    before, behind = ([normalizers.Prepend("▁")], [decoders.Strip(" ", 1, 0)]) if space else ([], [])
    made.normalizer = normalizers.Sequence([*before, normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *behind])
    if settings["add_bos_token"]:
        bos = settings["bos_token"]
        made.post_processor = processors.TemplateProcessing(f"{bos} $A", f"{bos} $A {bos} $B", [(bos, vocab[bos])])
    for token, kind in zip(tokens, kinds, strict=True):
        if kind in (_CONTROL, _DEFINED):
            made.add_tokens([AddedToken(token, special=kind == _CONTROL, normalized=kind == _DEFINED and not space)])
    return made.to_str().encode()
