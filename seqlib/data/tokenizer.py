"""Tokenizers with one face: SentencePiece (unigram, BPE), characters, bytes. None of them has an unknown token.

All reserve ids 0 pad, 1 bos, 2 eos, 3 unk, and fall back to bytes (ids 4..259) for what they have not seen, so every
text can be encoded and ``decode(encode(text))`` is ``normalise(text)``. A tokenizer is saved as a folder.
SentencePiece: Kudo and Richardson 2018; unigram: Kudo 2018; BPE: Sennrich, Haddow and Birch 2016.
"""

import hashlib
import io
import random
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from seqlib.data.characters import BytesTokenizer, CharacterTokenizer
from seqlib.data.pretrained import read_tokenizer
from seqlib.data.vocabulary import KINDS, META_FILE, MODEL_FILE, Tokenizer, normalise, read_meta, write_meta
from seqlib.util.atomic import write_bytes
from seqlib.util.errors import DataError, UsageError, unknown
from seqlib.util.files import read_file
from seqlib.util.log import get_logger

_TOO_HIGH = re.compile(r"Vocabulary size too high .*value <= (\d+)")
_TOO_LOW = re.compile(r"Vocabulary size is smaller than required_chars\. \d+ vs (\d+)")
_RAW = ("add_dummy_prefix", "remove_extra_whitespaces")  # what SentencePiece does to spaces unless it is told not to
_THREADS = 4  # part of the result: unigram training sums in a different order with another number


class SentencePieceTokenizer:
    """A trained SentencePiece model; the ``tokenizer.model`` in its folder is what other tools read as well.

    Text is normalised by ``seqlib.data.tokenizer.normalise`` and by nothing else, if it is not `raw`: then it is taken
    as it is, line feeds being pieces of their own. The one thing that does not survive a round trip is U+2581 (``▁``),
    SentencePiece's own mark for a space. Raises DataError for a damaged model.
    """

    pad_id, bos_id, eos_id, unk_id = 0, 1, 2, 3

    def __init__(self, model: bytes, kind: str = "unigram", raw: bool = False) -> None:
        """``model`` is a serialised ModelProto. Raises DataError for damage or for special ids in other places."""
        import sentencepiece

        self.kind = kind
        self.model = model
        self.raw = raw
        try:
            self._processor: Any = sentencepiece.SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise DataError(f"not a SentencePiece model: {error}") from None
        found = tuple(getattr(self._processor, name)() for name in ("pad_id", "bos_id", "eos_id", "unk_id"))
        if found != (0, 1, 2, 3):
            raise DataError(f"the SentencePiece model has pad, bos, eos, unk at {found}; expected (0, 1, 2, 3)")

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        seed: int = 0,
        *,
        kind: str = "unigram",
        max_texts: int = 1_000_000,
        raw: bool = False,
    ) -> "SentencePieceTokenizer":
        """Trains on ``texts``, or on ``max_texts`` of them drawn by ``seed``: same arguments, same model.

        A corpus too small for ``vocab_size`` gets the largest vocabulary that it supports, and a log line says so.
        Raises UsageError when ``vocab_size`` is below 4 specials + 256 bytes + the characters of the corpus, and
        DataError when there is no text.
        """
        plain = str if raw else normalise
        lines = [line for text in sampled(texts, max_texts, seed) if (line := plain(text))]
        if not lines:
            raise DataError("there is no text to train a tokenizer on")
        try:
            return cls(_train(lines, vocab_size, kind, raw), kind, raw)
        except RuntimeError as error:
            if low := _TOO_LOW.search(str(error)):
                raise UsageError(
                    f"a vocabulary of {vocab_size} is too small: special ids, bytes and the characters of this "
                    f"corpus need {low[1]} already"
                ) from None
            high = _TOO_HIGH.search(str(error))
            if high is None:
                raise
        reachable = int(high[1])
        get_logger().info(
            f"the corpus is too small for a vocabulary of {vocab_size}: training one of {reachable} instead"
        )
        return cls(_train(lines, reachable, kind, raw), kind, raw)

    @property
    def vocab_size(self) -> int:
        """Pieces, special ids and bytes included."""
        return self._processor.vocab_size()

    @property
    def digest(self) -> str:
        """sha256 (hex) of the model file."""
        return hashlib.sha256(self.model).hexdigest()

    def encode(self, text: str) -> list[int]:
        """Ids of the normalised text, without bos and eos; what no piece covers as its UTF-8 bytes."""
        return self._processor.encode(_valid(text if self.raw else normalise(text)))

    def encode_batch(self, texts: Sequence[str], threads: int = -1) -> list[list[int]]:
        """``encode`` of each text, on ``threads`` threads (-1: all cores); the result does not depend on them."""
        plain = str if self.raw else normalise
        return self._processor.encode([_valid(plain(text)) for text in texts], num_threads=threads)

    def decode(self, ids: Iterable[int]) -> str:
        """Text of the ids; special ids are left out. Raises UsageError for an id outside the vocabulary."""
        kept = [int(token) for token in ids]
        if kept and not 0 <= min(kept) <= max(kept) < self.vocab_size:
            raise UsageError(f"token ids {min(kept)}..{max(kept)} leave the vocabulary of {self.vocab_size}")
        return self._processor.decode([token for token in kept if token > self.unk_id])

    def piece(self, token: int) -> str:
        """What one id stands for, for people to read."""
        return self._processor.id_to_piece(token)

    def score(self, token: int) -> float:
        """The log probability of a piece (unigram), or a number that is larger the earlier it is merged (BPE)."""
        return self._processor.get_score(token)

    def save(self, folder: str | Path) -> None:
        """Writes ``tokenizer.model`` and the metadata into a folder, each atomically."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        write_bytes(Path(folder) / MODEL_FILE, self.model)
        write_meta(folder, self, {"raw": True} if self.raw else {})

    @classmethod
    def load(cls, folder: str | Path) -> "SentencePieceTokenizer":
        """Reads a saved tokenizer and checks its digest. Raises DataError naming the file."""
        meta, path = read_meta(folder), Path(folder) / MODEL_FILE
        model = read_file(path)
        if hashlib.sha256(model).hexdigest() != meta["digest"]:
            raise DataError(f"{path}: the file is damaged or is not the one {META_FILE} was written for")
        return cls(model, meta["kind"], meta.get("raw", False) is True)


def train_tokenizer(
    kind: str, texts: Iterable[str], vocab_size: int, seed: int = 0, max_texts: int = 1_000_000, raw: bool = False
) -> Tokenizer:
    """Trains a tokenizer of a kind in ``KINDS`` on at most ``max_texts`` texts, drawn by ``seed``; a `raw` one keeps
    text as it is, white space included.

    ``bytes`` learns nothing and always has 260 ids. Raises UsageError for another kind or a vocabulary too small.
    """
    if kind in ("unigram", "bpe"):
        return SentencePieceTokenizer.train(texts, vocab_size, seed, kind=kind, max_texts=max_texts, raw=raw)
    if kind == "characters":
        return CharacterTokenizer.train(sampled(texts, max_texts, seed), vocab_size, raw=raw)
    if kind == "bytes":
        return BytesTokenizer(raw)
    raise unknown("tokenizer", kind, KINDS)


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """The tokenizer saved in a folder. Raises DataError naming the missing or damaged file."""
    kind = read_meta(folder)["kind"]
    if kind == "pretrained":
        return read_tokenizer(folder)
    if kind in ("unigram", "bpe"):
        return SentencePieceTokenizer.load(folder)
    return CharacterTokenizer.load(folder)


def sampled(texts: Iterable[str], size: int, seed: int) -> list[str]:
    """At most ``size`` texts of a stream, each with the same chance, in their order (Vitter's algorithm R)."""
    draw = random.Random(seed).random
    kept: list[tuple[int, str]] = []
    for place, text in enumerate(texts):
        if place < size:
            kept.append((place, text))
        elif (slot := int(draw() * (place + 1))) < size:
            kept[slot] = (place, text)
    return [text for _, text in sorted(kept)]


def _train(lines: list[str], vocab_size: int, kind: str, raw: bool) -> bytes:
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type=kind,
        vocab_size=vocab_size,
        pad_id=0,
        bos_id=1,
        eos_id=2,
        unk_id=3,
        byte_fallback=True,
        normalization_rule_name="identity",
        **({"user_defined_symbols": ["\n"], **dict.fromkeys(_RAW, False)} if raw else {}),
        max_sentence_length=1 << 16,
        num_threads=_THREADS,
        minloglevel=2,
    )
    return model.getvalue()


def _valid(text: str) -> str:
    """Text without lone surrogates, which have no UTF-8 form."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
