"""What all tokenizers share: their face, the reserved ids, the normalisation of text, the metadata file."""

import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from seqlib.util.atomic import write_json
from seqlib.util.errors import DataError, nearest
from seqlib.util.files import read_json

KINDS = ("unigram", "bpe", "characters", "bytes")
META_FILE = "seqlib_tokenizer.json"  # not tokenizer.json: other tools read that as their own format
MODEL_FILE = "tokenizer.model"
FIRST_BYTE = 4  # below: pad, bos, eos, unk; ids 4..259 are the bytes in every tokenizer here


class Tokenizer(Protocol):
    """What every tokenizer offers. Ids never include bos or eos; ``decode`` leaves special ids out."""

    kind: str
    pad_id: int
    bos_id: int
    eos_id: int
    unk_id: int

    @property
    def vocab_size(self) -> int: ...
    @property
    def digest(self) -> str: ...
    def encode(self, text: str) -> list[int]: ...
    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]: ...
    def decode(self, ids: Iterable[int]) -> str: ...
    def piece(self, token: int) -> str: ...
    def save(self, folder: str | Path) -> None: ...


def normalise(text: str) -> str:
    """What tokenizers see of a text: Unicode composed (NFC), runs of white space one space, none at the ends.

    Nothing else changes; ``…``, ``ﬁ`` or full-width letters stay, unlike under SentencePiece's ``nmt_nfkc``, since
    a translation is scored against references in which they stand.
    """
    if not (text.isascii() or unicodedata.is_normalized("NFC", text)):
        text = unicodedata.normalize("NFC", text)
    return " ".join(text.split())


def begins(tokenizer: Any) -> tuple[list[int], list[int]]:
    """What sources and outputs begin with, as the model of a pretrained tokenizer wants them."""
    told = getattr(tokenizer, "told", None)
    return (list(told.source_begin), list(told.target_begin)) if told is not None else ([], [])


def target_side(tokenizer: Any) -> Any:
    """What reads texts of the target language: the tokenizer itself but for those that have two."""
    return getattr(tokenizer, "target", tokenizer)


def encode_pairs(tokenizer: Any, pairs: Sequence[tuple[str, str]]) -> list[tuple[list[int], list[int]]]:
    """Ids of sources and targets with what they begin with, without bos and eos."""
    source, target = begins(tokenizer)
    sources = tokenizer.encode_batch([pair[0] for pair in pairs])
    targets = target_side(tokenizer).encode_batch([pair[1] for pair in pairs])
    return [([*source, *one], [*target, *other]) for one, other in zip(sources, targets, strict=True)]


def write_meta(folder: str | Path, tokenizer: Tokenizer, extra: dict[str, Any]) -> None:
    """Writes the metadata file of a tokenizer into its folder, made when missing."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    names = ("kind", "vocab_size", "pad_id", "bos_id", "eos_id", "unk_id", "digest")
    meta = {"format": 1, **{name: getattr(tokenizer, name) for name in names}, **extra}
    write_json(Path(folder) / META_FILE, meta)


def read_meta(folder: str | Path) -> dict[str, Any]:
    """The metadata in a tokenizer's folder. Raises DataError naming the file."""
    path = Path(folder) / META_FILE
    if not path.exists():
        raise DataError(f"{path}: there is no tokenizer here")
    meta = read_json(path)
    if meta.get("kind") not in (*KINDS, "pretrained"):
        near = nearest(str(meta.get("kind")), KINDS)
        hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(KINDS)}"
        raise DataError(f"{path}: unknown kind of tokenizer {meta.get('kind')!r}{hint}")
    if meta.get("format") != 1:
        raise DataError(f"{path}: format {meta.get('format')!r} is not one this version reads (1)")
    return meta
