"""Tokenizers of pretrained models: the ids that transformers and sentencepiece give, templates, files and their
damage."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from seqlib.data.pretrained import read_tokenizer
from seqlib.data.tokenizer import SentencePieceTokenizer
from seqlib.util.errors import DataError, UsageError

SHARED = Path(__file__).parents[3] / "shared/data"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij", "##b", "##c"]


@pytest.fixture
def bert(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS))
    return read_tokenizer(tmp_path)


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no {SHARED}")
@pytest.mark.parametrize(
    ("folder", "files", "key"),
    [
        ("bert-base-uncased", {"vocab.txt": "vocab.txt"}, "bert_uncased"),
        ("gpt2", {"vocab.json": "vocab.json", "merges.txt": "merges.txt"}, "gpt2"),
        ("t5", {"sentencepiece.model": "spiece.model"}, "t5_spm"),
    ],
)
def test_known_answers(folder, files, key, tmp_path):
    for theirs, ours in files.items():
        (tmp_path / ours).write_bytes(gzip.decompress((SHARED / "tokenizers" / folder / f"{theirs}.gz").read_bytes()))
    tokenizer = read_tokenizer(tmp_path)
    rows = json.loads((SHARED / "known_answers/tokenizers.json").read_text())["rows"]
    texts = [row["text"] for row in rows]
    wanted = [row[f"{key}_ids"] for row in rows]
    if folder == "bert-base-uncased":
        assert [found.ids for found in tokenizer.template(texts)] == wanted
    else:
        assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts] == wanted
    if folder == "gpt2":
        for row in rows:  # a special token in the text is left out, as the others are
            text = row.get("gpt2_decode", row["text"])
            assert tokenizer.decode(row["gpt2_ids"]) == text.replace("<|endoftext|>", "")


def test_templates_and_their_limits(bert):
    assert (bert.pad_id, bert.unk_id, bert.bos_id, bert.eos_id, bert.mask_id) == (0, 1, 2, 3, 4)
    (one,) = bert.template(["A b zz"])
    assert one.ids == [2, 5, 6, 1, 3] and one.types == [0] * 5
    (pair,) = bert.template(["a b c d e f"], ["g h i j"], limit=9)
    assert pair.ids == [2, 5, 6, 7, 3, 11, 12, 13, 3] and pair.types == [0] * 5 + [1] * 4
    (pair,) = bert.template(["a b c d e f"], ["g"], limit=9)
    assert pair.ids == [2, 5, 6, 7, 8, 9, 3, 11, 3]
    (pair,) = bert.template(["a"], ["g h i j a b c d"], limit=9)
    assert len(pair.ids) == 9 and pair.ids[:3] == [2, 5, 3]
    assert bert.template(["a b c d"], limit=4)[0].ids == [2, 5, 6, 3]
    assert bert.decode([2, 5, 15, 3]) == "ab" and bert.piece(4) == "[MASK]"
    with pytest.raises(UsageError, match="no room"):
        bert.template(["a"], limit=2)
    with pytest.raises(UsageError, match="leaves the vocabulary"):
        bert.piece(99)


def test_saving_gives_the_same_tokenizer(bert, tmp_path):
    bert.save(tmp_path / "copy")
    again = read_tokenizer(tmp_path / "copy")
    assert again.digest == bert.digest and again.encode("a bc") == bert.encode("a bc")


def test_sentencepiece_with_a_vocabulary_of_its_own(tmp_path):
    trained = SentencePieceTokenizer.train(["one two three", "two three four"] * 20, 300)
    (tmp_path / "source.spm").write_bytes(trained.model)
    pieces = [trained.piece(i) for i in range(4, trained.vocab_size)]
    vocab = {"</s>": 0, "<unk>": 1, **{piece: 2 + i for i, piece in enumerate(pieces)}, "<pad>": 2 + len(pieces)}
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    marian = read_tokenizer(tmp_path)
    ids = marian.encode("two one")
    assert [marian.piece(i) for i in ids] == [trained.piece(i) for i in trained.encode("two one")]
    assert marian.decode([*ids, 0, marian.pad_id]) == "two one"
    assert (marian.eos_id, marian.unk_id, marian.pad_id) == (0, 1, len(vocab) - 1)
    assert marian.template(["two one"], limit=2)[0].ids == [ids[0], 0]
    # Marian's models with a vocabulary for each language
    other = {piece: len(pieces) + 1 - i for i, piece in enumerate(pieces)} | {"</s>": 0, "<unk>": 1}
    (tmp_path / "target.spm").write_bytes(trained.model)
    (tmp_path / "target_vocab.json").write_text(json.dumps(other))
    read_tokenizer(tmp_path).save(tmp_path / "copy")
    for two in (read_tokenizer(tmp_path), read_tokenizer(tmp_path / "copy")):
        assert two.encode("two one") == ids
        assert two.decode([other[marian.piece(i)] for i in ids]) == "two one"


def test_the_end_of_a_language_model_whose_configuration_names_none(tmp_path):
    (tmp_path / "vocab.json").write_text(json.dumps({"a": 0, "<|endoftext|>": 1}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["GPT2LMHeadModel"], "vocab_size": 2}))
    found = read_tokenizer(tmp_path)
    assert (found.eos_id, found.pad_id) == (1, 1)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "there is no tokenizer here"),
        ({"tokenizer.json": b"{"}, "the tokenizer cannot be read"),
        ({"vocab.json": b"[1]", "merges.txt": b""}, "vocab.json is damaged"),
        ({"spiece.model": b"nothing"}, "not a SentencePiece model"),
        ({"vocab.txt": b"a", "tokenizer_config.json": b"{"}, "tokenizer_config.json is damaged"),
    ],
)
def test_damage_is_named(files, words, tmp_path):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_tokenizer(tmp_path)
