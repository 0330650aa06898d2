"""Tokenizers: round trips, no unknown token, determinism, saving and loading, errors."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqlib.data.tokenizer import (
    KINDS,
    BytesTokenizer,
    CharacterTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    load_tokenizer,
    normalise,
    sampled,
    train_tokenizer,
)
from seqlib.data.vocabulary import META_FILE, MODEL_FILE
from seqlib.util.errors import DataError, UsageError

TEXTS = [
    f"The {a} {b} is {c} the {d}."
    for a in ("old", "new", "green")
    for b in ("train", "café", "bridge")
    for c in ("near", "behind")
    for d in ("station", "Straße", "window")
]
VOCAB = {"unigram": 330, "bpe": 330, "characters": 290, "bytes": 260}


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Tokenizer]:
    return {kind: train_tokenizer(kind, TEXTS, VOCAB[kind]) for kind in KINDS}


HARD = [
    "",
    "The old train is near the station.",
    "😀 ሰላም … ﬁ １２ „Anführung“ — 谢谢",
    "<s> </s> <unk> <pad> <0x41>",
    "a\tb\u00a0c\u3000d",
    "  many   spaces ",
    "e\u0301 composed",
    "\x01\x7f\u200b\ufeff",
    "👩‍👩‍👧",
]


@pytest.mark.parametrize("kind", KINDS)
def test_round_trip(tokenizers: dict[str, Tokenizer], kind: str) -> None:
    tokenizer = tokenizers[kind]
    assert tokenizer.encode_batch(HARD) == [tokenizer.encode(text) for text in HARD]
    for text in HARD:
        ids = tokenizer.encode(text)
        assert all(4 <= token < tokenizer.vocab_size for token in ids)  # neither specials nor unknown
        assert tokenizer.decode(ids) == normalise(text)
        assert tokenizer.decode([1, *ids, 2, 0]) == normalise(text)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150, deadline=None)
@given(text=st.text(st.characters(exclude_characters="\u2581")))
def test_any_text_round_trips(tokenizers: dict[str, Tokenizer], kind: str, text: str) -> None:
    tokenizer = tokenizers[kind]
    assert tokenizer.decode(tokenizer.encode(text)) == normalise(text).encode("utf-8", "replace").decode()


@pytest.mark.parametrize("kind", KINDS)
def test_face(tokenizers: dict[str, Tokenizer], kind: str) -> None:
    tokenizer = tokenizers[kind]
    assert (tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id) == (0, 1, 2, 3)
    assert tokenizer.kind == kind
    assert [tokenizer.piece(token) for token in (0, 1, 2, 3)] == ["<pad>", "<s>", "</s>", "<unk>"]
    assert tokenizer.piece(4 + 0x41) == "<0x41>"
    for token in (-1, tokenizer.vocab_size):
        with pytest.raises(UsageError, match="vocabulary of"):
            tokenizer.decode([5, token])


@pytest.mark.parametrize("kind", KINDS)
def test_save_and_load(tokenizers: dict[str, Tokenizer], kind: str, tmp_path: Path) -> None:
    tokenizer = tokenizers[kind]
    tokenizer.save(tmp_path / "t")
    loaded = load_tokenizer(tmp_path / "t")
    assert (loaded.kind, loaded.digest, loaded.vocab_size) == (kind, tokenizer.digest, tokenizer.vocab_size)
    assert loaded.encode_batch(TEXTS) == tokenizer.encode_batch(TEXTS)


def test_digests_differ(tokenizers: dict[str, Tokenizer]) -> None:
    assert len({tokenizer.digest for tokenizer in tokenizers.values()}) == len(KINDS)


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_training_is_deterministic_across_processes(kind: str) -> None:
    code = (
        "from seqlib.data.tokenizer import train_tokenizer\n"
        "texts = [f'The number {n} and {n * n}' for n in range(500)]\n"
        f"print(train_tokenizer({kind!r}, texts, 320, seed=3, max_texts=300).digest)"
    )
    found = {
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
        for _ in range(2)
    }
    assert len(found) == 1


def test_sampling() -> None:
    texts = [str(n) for n in range(1000)]
    assert sampled(texts, 1000, 0) == texts
    one, two = sampled(iter(texts), 100, 1), sampled(iter(texts), 100, 1)
    assert one == two != sampled(texts, 100, 2)
    assert len(one) == 100
    assert one == sorted(one, key=int)
    means = [sum(map(int, sampled(texts, 100, seed))) / 100 for seed in range(40)]
    assert sum(means) / 40 == pytest.approx(499.5, abs=20)


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_a_vocabulary_too_large_is_lowered(kind: str, caplog, capsys) -> None:
    tokenizer = train_tokenizer(kind, TEXTS, 8000)
    assert 280 < tokenizer.vocab_size < 1000
    said = f"too small for a vocabulary of 8000: training one of {tokenizer.vocab_size} instead"
    assert said in caplog.text + capsys.readouterr().err


@pytest.mark.parametrize("kind", ["unigram", "bpe", "characters"])
def test_a_vocabulary_too_small_is_refused(kind: str) -> None:
    with pytest.raises(UsageError, match=r"a vocabulary of 200 (is too small|has no room)"):
        train_tokenizer(kind, TEXTS, 200)


@pytest.mark.parametrize("texts", [[], ["", "  "]])
def test_no_text(texts: list[str]) -> None:
    with pytest.raises(DataError, match="no text to train"):
        SentencePieceTokenizer.train(texts, 300)


def test_characters_by_frequency() -> None:
    tokenizer = CharacterTokenizer.train(["aab", "abc"], 262)
    assert tokenizer.characters == "ab"
    assert tokenizer.encode("abc") == [260, 261, 4 + ord("c")]
    with pytest.raises(UsageError, match="twice"):
        CharacterTokenizer("aa")


def test_broken_utf8_decodes_to_the_replacement_character() -> None:
    assert BytesTokenizer().decode([4 + 0xFF, 4 + 0x41]) == "\ufffdA"


def test_unknown_kind() -> None:
    with pytest.raises(UsageError, match="unknown tokenizer 'unigramm'; did you mean unigram"):
        train_tokenizer("unigramm", TEXTS, 300)


def test_damaged_folders(tokenizers: dict[str, Tokenizer], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no tokenizer here"):
        load_tokenizer(tmp_path)
    tokenizers["unigram"].save(tmp_path)
    model, meta = tmp_path / MODEL_FILE, tmp_path / META_FILE
    good, told = model.read_bytes(), json.loads(meta.read_text())
    model.write_bytes(good[:-10])
    with pytest.raises(DataError, match=r"tokenizer\.model: the file is damaged"):
        load_tokenizer(tmp_path)
    model.unlink()
    with pytest.raises(DataError, match=r"tokenizer\.model: cannot be read"):
        load_tokenizer(tmp_path)
    for text, message in [
        ("{", "is damaged"),
        (json.dumps({**told, "kind": "unigramm"}), "unknown kind of tokenizer 'unigramm'; did you mean unigram"),
        (json.dumps({**told, "format": 9}), "format 9 is not one"),
        (json.dumps({**told, "kind": "characters"}), "not a character or byte tokenizer"),
    ]:
        meta.write_text(text)
        with pytest.raises(DataError, match=message):
            load_tokenizer(tmp_path)


def test_a_foreign_model_with_other_special_ids_is_refused(shared_data: Path) -> None:
    import gzip

    model = gzip.decompress((shared_data / "tokenizers" / "t5" / "sentencepiece.model.gz").read_bytes())
    with pytest.raises(DataError, match=r"at \(0, -1, 1, 2\); expected \(0, 1, 2, 3\)"):
        SentencePieceTokenizer(model)
    with pytest.raises(DataError, match="not a SentencePiece model"):
        SentencePieceTokenizer(b"nonsense")


@pytest.fixture(autouse=True)
def _log_reaches_caplog():
    logger = logging.getLogger("seqlib")
    before = logger.propagate
    logger.propagate = True
    yield
    logger.propagate = before


@pytest.mark.parametrize("kind", KINDS)
def test_raw_text_keeps_its_white_space(kind: str, tmp_path: Path) -> None:
    verse = [f"  {text}\n\n\tnext  line \n" for text in TEXTS]
    tokenizer = train_tokenizer(kind, verse, 400, raw=True)
    tokenizer.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert again.digest == tokenizer.digest
    for text in (*verse[:20], "", " ", "\n", "a  b\r\n é́ 日本 \x07"):
        assert again.decode(again.encode(text)) == text
        cut = len(text) // 2
        assert again.encode_batch([text[:cut], text[cut:]]) == [again.encode(text[:cut]), again.encode(text[cut:])]
    assert train_tokenizer(kind, verse, 400).digest != tokenizer.digest
