"""Tokenizers that come with pretrained models: `tokenizer.json`, WordPiece and byte-level BPE vocabularies,
SentencePiece models."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from seqlib.data.vocabulary import write_meta
from seqlib.util.atomic import write_bytes
from seqlib.util.errors import DataError, UsageError

__all__ = ["Encoded", "PretrainedTokenizer", "SentencePieceFile", "read_tokenizer"]

_TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt")
_PIECES = ("spiece.model", "tokenizer.model", "sentencepiece.bpe.model")
_SIDES = ("vocab.*.spm", "[st]*vocab.*.spm")  # Marian's: one for both languages, or srcvocab and trgvocab
_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja")
_USUAL = {
    "pad": ("[PAD]", "<pad>"),
    "bos": ("[CLS]", "<s>"),
    "eos": ("[SEP]", "</s>", "<|endoftext|>"),
    "unk": ("[UNK]", "<unk>"),
    "mask": ("[MASK]", "<mask>"),
}
"""What special tokens are called where no file says it."""
_NONE = -1  # the id of a special token that a tokenizer does not have


class Encoded(NamedTuple):
    """A text, or a pair of them, as a model reads it: token `ids` with the special ones, and the `types` of
    segments."""

    ids: list[int]
    types: list[int]


class PretrainedTokenizer:
    """A tokenizer of Hugging Face's `tokenizers`, read from the `files` of its folder by name (`read_tokenizer`).

    `encode` and `decode` know no special ids, `template` puts them around a text as the model was trained. `pad_id`,
    `bos_id`, `eos_id`, `unk_id` and `mask_id` are -1 for a token that it does not have. A special token that is written
    in a text (``[SEP]``) is read as that token.
    """

    kind = "pretrained"

    def __init__(self, files: Mapping[str, bytes], where: str = "tokenizer"):
        self.files, self.settings = dict(files), _settings(files, where)
        self._tokenizer: Any = _tokenizer(files, self.settings, where)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        ids = {name: self._special(name) for name in ("pad", "bos", "eos", "unk", "mask", "cls", "sep")}
        self.pad_id, self.unk_id, self.mask_id = ids["pad"], ids["unk"], ids["mask"]
        self.bos_id = ids["bos"] if ids["bos"] >= 0 else ids["cls"]
        self.eos_id = ids["eos"] if ids["eos"] >= 0 else ids["sep"]

    def _special(self, name: str) -> int:
        named = self.settings.get(f"{name}_token")
        for token in (named,) if named else _USUAL.get(name, ()):
            if (found := self._tokenizer.token_to_id(token)) is not None:
                return found
        return _NONE

    @property
    def pair_ends(self) -> int:
        """Ids of the end between the texts of a pair: RoBERTa's two, else one."""
        return max(1, self.template(["a"], ["a"])[0].ids.count(self.eos_id) - 1)

    @property
    def vocab_size(self) -> int:
        """Tokens, special and added ones included."""
        return self._tokenizer.get_vocab_size()

    @property
    def digest(self) -> str:
        """sha256 (hex) of the files."""
        return _digest(self.files)

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without special ones before and behind it."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text."""
        return [found.ids for found in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def template(self, texts: Sequence[str], others: Sequence[str] | None = None, limit: int = 0) -> list[Encoded]:
        """Each text, or each pair of one of `texts` and one of `others`, with the special tokens around it, cut such
        that it has at most `limit` tokens (0: as many as it has): of a pair, the longer one is cut."""
        first = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        second = self._tokenizer.encode_batch(list(others), add_special_tokens=False) if others is not None else None
        room = limit - self._tokenizer.num_special_tokens_to_add(second is not None)
        if limit and room < 1:
            raise UsageError(f"a limit of {limit} tokens leaves no room beside the special ones")
        out: list[Encoded] = []
        for row, one in enumerate(first):
            two = None if second is None else second[row]
            if limit:
                other = 0 if two is None else len(two.ids)
                keep = max(room - other, min(room - room // 2, len(one.ids)) if other else room)
                one.truncate(min(len(one.ids), keep))
                if two is not None:
                    two.truncate(min(other, room - len(one.ids)))
            whole = self._tokenizer.post_process(one, two, True)
            out.append(Encoded(whole.ids, whole.type_ids))
        return out

    def decode(self, ids: Iterable[int]) -> str:
        """Text of the ids; special tokens are left out."""
        return self._tokenizer.decode([int(token) for token in ids], skip_special_tokens=True)

    def piece(self, token: int) -> str:
        """What one id stands for. Raises UsageError for an id outside the vocabulary."""
        found = self._tokenizer.id_to_token(int(token))
        if found is None:
            raise UsageError(f"token id {token} leaves the vocabulary of {self.vocab_size}")
        return found

    def save(self, folder: str | Path) -> None:
        """Writes the files that it was read from, and the metadata of all tokenizers, into a folder."""
        _write(self, folder)


class SentencePieceFile:
    """A SentencePiece model of others, with the ids of its own pieces; `extra` pieces (T5's sentinels) follow these.

    Text is normalised as the model says. `vocab`, piece → id, gives other ids (Marian's vocab.json); a piece that it
    lacks is `unk_id`. `name` is the file of the model, `target` that of the other language, whose ids `decode` takes.
    """

    kind = "pretrained"

    def __init__(
        self,
        files: Mapping[str, bytes],
        name: str,
        target: str | None = None,
        *,
        extra: int = 0,
        vocab: Mapping[str, int] | None = None,
    ):
        import sentencepiece

        self.files, self.settings, self.extra = dict(files), _settings(files, name), extra
        try:
            self._pieces: Any = sentencepiece.SentencePieceProcessor(model_proto=files[name])
            self._others: Any = (
                sentencepiece.SentencePieceProcessor(model_proto=files[target]) if target else self._pieces
            )
        except RuntimeError as error:
            raise DataError(f"{name}: not a SentencePiece model: {error}") from None
        p = self._pieces
        self._ids = vocab
        self._named = {token: piece for piece, token in vocab.items()} if vocab is not None else None
        if vocab is None:
            self.pad_id, self.bos_id, self.eos_id, self.unk_id = p.pad_id(), p.bos_id(), p.eos_id(), p.unk_id()
        else:
            self.pad_id, self.eos_id, self.unk_id = (vocab.get(t, _NONE) for t in ("<pad>", "</s>", "<unk>"))
            self.bos_id = vocab.get("<s>", _NONE)
        self.mask_id = _NONE

    @property
    def vocab_size(self) -> int:
        """Pieces, the extra ones included."""
        return (self._pieces.vocab_size() if self._ids is None else len(self._ids)) + self.extra

    @property
    def digest(self) -> str:
        """sha256 (hex) of the files."""
        return _digest(self.files)

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without special ones."""
        if self._ids is None:
            return self._pieces.encode(text)
        return [self._ids.get(piece, self.unk_id) for piece in self._pieces.encode(text, out_type=str)]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text."""
        return [self.encode(text) for text in texts]

    def template(self, texts: Sequence[str], others: Sequence[str] | None = None, limit: int = 0) -> list[Encoded]:
        """Each text with the end token behind it, cut such that it has at most `limit` tokens. Raises UsageError for
        pairs."""
        if others is not None:
            raise UsageError("this tokenizer has no form for pairs of texts")
        rows = [[*ids[: limit - 1 if limit else None], self.eos_id] for ids in self.encode_batch(texts)]
        return [Encoded(row, [0] * len(row)) for row in rows]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of the ids; special tokens are left out."""
        special = (self.pad_id, self.bos_id, self.eos_id)
        kept = [int(token) for token in ids if int(token) not in special]
        if self._named is not None:
            return self._pieces.decode([self._named[token] for token in kept])
        return self._others.decode([token for token in kept if token < self._others.vocab_size()])

    def piece(self, token: int) -> str:
        """What one id stands for."""
        if self._named is not None:
            return self._named[int(token)]
        own = self._pieces.vocab_size()
        return self._pieces.id_to_piece(int(token)) if token < own else f"<extra_id_{self.vocab_size - 1 - token}>"

    def save(self, folder: str | Path) -> None:
        """Writes the files that it was read from, and the metadata of all tokenizers, into a folder."""
        _write(self, folder)


def read_tokenizer(folder: str | Path, *, extra: int = 0) -> PretrainedTokenizer | SentencePieceFile:
    """The tokenizer in the folder of a pretrained model: `tokenizer.json`, else `vocab.txt` (WordPiece), `vocab.json`
    with `merges.txt` (byte-level BPE), else a SentencePiece model, with `extra` pieces of its own.

    Raises DataError that names the folder where there is none, or the damaged file.
    """
    folder = Path(folder) if Path(folder).is_dir() else Path(folder).parent
    settings = {name: (folder / name).read_bytes() for name in _SETTINGS if (folder / name).is_file()}
    for names in (_TOKENIZERS[:1], _TOKENIZERS[1:2], _TOKENIZERS[2:]):
        if all((folder / name).is_file() for name in names):
            files = {name: (folder / name).read_bytes() for name in names}
            return PretrainedTokenizer(files | settings, str(folder))
    if (folder / "source.spm").is_file() and (folder / "vocab.json").is_file():
        names = ("source.spm", "target.spm", "vocab.json")
        files = {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}
        return SentencePieceFile(files | settings, "source.spm", vocab=_vocab(files["vocab.json"], str(folder)))
    for name in _PIECES:
        if (folder / name).is_file():
            return SentencePieceFile({name: (folder / name).read_bytes()} | settings, name, extra=extra)
    for pattern in _SIDES:
        if found := {path.name: path.read_bytes() for path in sorted(folder.glob(pattern))}:
            return SentencePieceFile(found, *found)
    raise DataError(
        f"{folder}: there is no tokenizer here; expected tokenizer.json, vocab.txt, vocab.json with merges.txt, or one "
        f"of {', '.join((*_PIECES, *_SIDES))}"
    )


def _tokenizer(files: Mapping[str, bytes], settings: Mapping[str, Any], where: str) -> Any:
    import tokenizers
    from tokenizers import processors

    try:
        if "tokenizer.json" in files:
            return tokenizers.Tokenizer.from_str(files["tokenizer.json"].decode())
        if "vocab.txt" in files:
            vocab = {line: number for number, line in enumerate(files["vocab.txt"].decode().splitlines())}
            lower = settings.get("do_lower_case", True)
            return tokenizers.BertWordPieceTokenizer(
                vocab,
                lowercase=lower,
                strip_accents=settings.get("strip_accents"),
                handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
            )._tokenizer
        vocab = _vocab(files["vocab.json"], where)
        merges = [(a, b) for a, b in (line.split() for line in files["merges.txt"].decode().splitlines()[1:] if line)]
        made = tokenizers.ByteLevelBPETokenizer(vocab, merges, settings.get("add_prefix_space", False))._tokenizer
        special = [token for token in ("<|endoftext|>", "<s>", "<pad>", "</s>", "<unk>", "<mask>") if token in vocab]
        made.add_special_tokens(special)
        if "<s>" in vocab and "</s>" in vocab:  # RoBERTa's
            made.post_processor = processors.RobertaProcessing(
                ("</s>", vocab["</s>"]), ("<s>", vocab["<s>"]), trim_offsets=True, add_prefix_space=False
            )
        return made
    except DataError:
        raise
    except Exception as error:  # the library raises no other for what it cannot read
        raise DataError(f"{where}: the tokenizer cannot be read: {error}") from None


def _vocab(content: bytes, where: str) -> dict[str, int]:
    try:
        return msgspec.json.decode(content, type=dict[str, int])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{where}: vocab.json is damaged: {error}") from None


def _settings(files: Mapping[str, bytes], where: str) -> dict[str, Any]:
    """tokenizer_config.json over special_tokens_map.json; tokens that are objects there become their text."""
    found: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if name in files:
            try:
                found |= msgspec.json.decode(files[name], type=dict[str, Any])
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise DataError(f"{where}: {name} is damaged: {error}") from None
    return {key: v.get("content") if isinstance(v, dict) and "content" in v else v for key, v in found.items()}


def _digest(files: Mapping[str, bytes]) -> str:
    total = hashlib.sha256()
    for name in sorted(files):
        total.update(f"{name} {len(files[name])}\n".encode() + files[name])
    return total.hexdigest()


def _write(tokenizer: PretrainedTokenizer | SentencePieceFile, folder: str | Path) -> None:
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, content in tokenizer.files.items():
        write_bytes(Path(folder) / name, content)
    write_meta(folder, tokenizer, {})
