"""Tokenizers of characters and of bytes."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from seqlib.data.vocabulary import FIRST_BYTE, META_FILE, normalise, read_meta, write_meta
from seqlib.util.errors import DataError, UsageError


class CharacterTokenizer:
    """Characters, most frequent first; other characters as their UTF-8 bytes (ids 4..259). Raises UsageError when
    one occurs twice. `raw`: text is taken as it is, ``decode(encode(text)) == text``."""

    kind: str = "characters"
    pad_id, bos_id, eos_id, unk_id = 0, 1, 2, 3
    characters: str

    def __init__(self, characters: str, raw: bool = False) -> None:
        """Raises UsageError for a character given twice."""
        if len(set(characters)) != len(characters):
            raise UsageError("a character vocabulary names a character twice")
        self.characters = characters
        self.raw = raw
        self._ids = {character: FIRST_BYTE + 256 + place for place, character in enumerate(characters)}

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int = 1024, *, raw: bool = False) -> "CharacterTokenizer":
        """The most frequent characters that fit beside 4 special ids and 256 bytes; ties by code point.

        Raises UsageError below 261.
        """
        if vocab_size <= FIRST_BYTE + 256:
            raise UsageError(f"a vocabulary of {vocab_size} has no room for characters: at least 261 are needed")
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(text if raw else normalise(text))
        ranked = sorted(counts, key=lambda character: (-counts[character], character))
        return cls("".join(ranked[: vocab_size - FIRST_BYTE - 256]), raw)

    @property
    def vocab_size(self) -> int:
        """Special ids, 256 bytes and the characters."""
        return FIRST_BYTE + 256 + len(self.characters)

    @property
    def digest(self) -> str:
        """sha256 (hex) of all that decides the ids."""
        raw = "\0raw" if self.raw else ""
        return hashlib.sha256(f"{self.kind}\0{self.characters}{raw}".encode()).hexdigest()

    def encode(self, text: str) -> list[int]:
        """Ids of the normalised text, without bos and eos; a character outside the vocabulary as its UTF-8 bytes."""
        ids: list[int] = []
        for character in text if self.raw else normalise(text):
            known = self._ids.get(character)
            if known is not None:
                ids.append(known)
            else:
                ids += (FIRST_BYTE + byte for byte in character.encode("utf-8", "replace"))
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """``encode`` of each text."""
        return [self.encode(text) for text in texts]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of the ids; special ids are left out and broken UTF-8 becomes U+FFFD. Raises UsageError out of range."""
        data = bytearray()
        for token in ids:
            if not 0 <= token < self.vocab_size:
                raise UsageError(f"token id {token} is outside the vocabulary of {self.vocab_size}")
            if token >= FIRST_BYTE + 256:
                data += self.characters[token - FIRST_BYTE - 256].encode()
            elif token >= FIRST_BYTE:
                data.append(token - FIRST_BYTE)
        return data.decode("utf-8", "replace")

    def piece(self, token: int) -> str:
        """What one id stands for, for people to read."""
        if token < FIRST_BYTE:
            return ("<pad>", "<s>", "</s>", "<unk>")[token]
        return (
            f"<0x{token - FIRST_BYTE:02X}>" if token < FIRST_BYTE + 256 else self.characters[token - FIRST_BYTE - 256]
        )

    def save(self, folder: str | Path) -> None:
        """Writes the tokenizer into a folder, atomically."""
        write_meta(folder, self, {"characters": self.characters} | ({"raw": True} if self.raw else {}))

    @classmethod
    def load(cls, folder: str | Path) -> "CharacterTokenizer":
        """Reads a saved tokenizer. Raises DataError naming the file."""
        meta = read_meta(folder)
        characters = meta.get("characters")
        if meta["kind"] not in ("characters", "bytes") or not isinstance(characters, str):
            raise DataError(f"{Path(folder) / META_FILE}: not a character or byte tokenizer")
        raw = meta.get("raw", False) is True
        return BytesTokenizer(raw) if meta["kind"] == "bytes" else cls(characters, raw)


class BytesTokenizer(CharacterTokenizer):
    """UTF-8 bytes as ids 4..259; vocabulary 260."""

    kind: str = "bytes"

    def __init__(self, raw: bool = False) -> None:
        super().__init__("", raw)

    def encode(self, text: str) -> list[int]:
        """Ids of the normalised text's UTF-8 bytes, without bos and eos."""
        data = (text if self.raw else normalise(text)).encode("utf-8", "replace")
        return [FIRST_BYTE + byte for byte in data]
